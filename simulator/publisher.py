"""Plays a scenario over MQTT, in virtual time that travels in band.

One connection a gateway, one for the clock, all in one thread. The clock is published every five virtual minutes, when
the broker has acknowledged everything before it on all connections and the last wills of broken ones have been seen;
nothing later is published before the broker has acknowledged the clock. A bridge confirms a clock when everything
before it is in the log; at most `CLOCKS_UNCONFIRMED` are on their way.

When the broker was lost, virtual time stands still until everything is sent again (see `simulator.recovery`).
"""

import selectors
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial

from schema.topics import CLOCK_CONFIRMED_TOPIC, confirmed_topic, state_topic
from simulator.clocks import Clocks
from simulator.line import Line
from simulator.recovery import Gateway, Recovery, clock_message
from simulator.scenario import CLOCK_MS, Publication, Scenario
from simulator.tally import Progress, Tally
from simulator.truth import Totals
from simulator.unconfirmed import Sent
from simulator.wire import ClockConfirmed, Confirmed, State, decode, encode

CLOCKS_UNCONFIRMED = 8
STAFF_HOUR_UTC = 8
_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
_SAY_AFTER_S = 1.0
_PROGRESS_EVERY_S = 0.2
_SHORT_S = 0.002


class _Stopped(Exception):
    """Somebody has asked the run to stop."""


def play(
    scenario: Scenario,
    mqtt_url: str,
    *,
    speed: float | None = None,
    bridges: int = 1,
    tls: ssl.SSLContext | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    staff: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
) -> Totals:
    """Publish the whole scenario; returns when the last clock is confirmed or `stop` is set.

    `speed` bounds the pace to so many virtual seconds a second; None is as fast as the pipeline takes it. `bridges` is
    the number of confirmations that make a clock confirmed. `tls` is for `mqtts:`; None trusts whom this machine does.
    `staff` is called with the virtual time once a virtual day, when every clock up to then is confirmed, and time
    stands still until it returns. A broker that cannot be reached is waited for, and `on_progress` says so.
    """
    with selectors.DefaultSelector() as selector:
        line = partial(Line, url=mqtt_url, selector=selector, tls=tls)
        player = _Player(scenario, line, selector, speed, bridges, on_progress, staff, stop or threading.Event())
        return player.run()


class _Player:
    def __init__(
        self,
        scenario: Scenario,
        line: Callable[..., Line],
        selector: selectors.BaseSelector,
        speed: float | None,
        bridges: int,
        on_progress: Callable[[Progress], None],
        staff: Callable[[int], None] | None,
        stop: threading.Event,
    ) -> None:
        self._scenario = scenario
        self._line = line
        self._selector = selector
        self._speed = speed
        self._on_progress = on_progress
        self._staff = staff
        self._stop = stop
        self._tally = Tally()
        self._at_ms = scenario.start_ms
        self._started_s = 0.0
        self._kept_up_s = 0.0
        self._told_s = 0.0
        self._wills: set[str] = set()
        """Gateways whose last will has not been seen yet."""
        self._will_of: dict[str, Sent] = {}
        self._clocks = Clocks(bridges)
        gateways = scenario.fleet.gateways()
        self._control = line(
            "simulator-clock",
            subscriptions=[(CLOCK_CONFIRMED_TOPIC, 1), *((state_topic(gateway_id), 1) for gateway_id in gateways)],
            on_message=self._control_message,
            on_restored=lambda _line: self._control_restored(),
        )
        self._gateway_of_topic = {state_topic(gateway_id): gateway_id for gateway_id in gateways}
        self._device_of_topic = {confirmed_topic(m.device_id): m.device_id for m in scenario.fleet.machines}
        self._gateways = {gateway_id: self._gateway(gateway_id) for gateway_id in gateways}
        self._recovery = Recovery(
            self._gateways, self._control, self._clocks, self._tally, self._serve_until, scenario.start_ms
        )

    def run(self) -> Totals:
        self._started_s = time.monotonic()
        next_clock_ms = self._scenario.start_ms
        try:
            self._control.open(self._started_s)
            self._serve_until(lambda: self._control.ready, "the broker")
            for publication in self._scenario.publications():
                while publication.at_ms >= next_clock_ms:
                    self._clock(next_clock_ms)
                    next_clock_ms += CLOCK_MS
                self._pace(publication.at_ms)
                self._carry_out(publication)
            while next_clock_ms <= self._scenario.end_ms:
                self._clock(next_clock_ms)
                next_clock_ms += CLOCK_MS
            self._serve_until(lambda: not self._clocks, "a bridge to confirm the clock")
        except _Stopped:
            pass
        finally:
            for gateway in self._gateways.values():
                gateway.line.close()
            self._control.close()
        self._tell("", 0.0)
        return self._tally.totals(self._at_ms)

    def _gateway(self, gateway_id: str) -> Gateway:
        topics = [
            (confirmed_topic(machine.device_id), 0)
            for machine in self._scenario.fleet.machines
            if machine.gateway_id == gateway_id
        ]
        return Gateway(
            self._line(
                gateway_id,
                subscriptions=topics,
                on_message=lambda topic, payload: self._confirmed(gateway_id, topic, payload),
                on_restored=lambda _line: self._recovery.gateway_restored(self._gateways[gateway_id]),
            )
        )

    def _clock(self, at_ms: int) -> None:
        """Publish one clock when everything before it is over, and wait until it may be followed by more."""
        self._serve_until(self._all_settled, "the broker to acknowledge")
        self._serve_until(lambda: not self._wills, "last wills")
        self._pace(at_ms)
        self._at_ms = at_ms
        marks = {gateway_id: gateway.kept.mark() for gateway_id, gateway in self._gateways.items()}
        self._clocks.published(at_ms, marks)
        self._control.publish(clock_message(at_ms))
        self._serve_until(self._all_settled, "the broker to acknowledge the clock")
        due = self._staff is not None and (at_ms - STAFF_HOUR_UTC * _HOUR_MS) % _DAY_MS < CLOCK_MS
        bound = 0 if due else CLOCKS_UNCONFIRMED - 1
        self._serve_until(lambda: len(self._clocks) <= bound, "a bridge to confirm the clock")
        if due and self._staff is not None:
            self._staff(at_ms)
        self._heed_stop()
        if time.monotonic() - self._told_s >= _PROGRESS_EVERY_S:
            self._tell("", 0.0)

    def _carry_out(self, publication: Publication) -> None:
        self._serve_until(lambda: self._recovery.may_publish, "the broker")
        gateway = self._gateways[publication.gateway_id]
        kind, body = publication.kind, publication.body
        if kind == "join":
            assert isinstance(body, State)
            will = Sent(publication.topic, encode(State(body.device, "offline", body.boot)), True)
            self._will_of[publication.gateway_id] = will
            gateway.line.open(time.monotonic(), will)
            self._serve_until(lambda: gateway.line.ready, "the broker to accept a gateway")
            return
        if kind == "cut":
            self._serve_until(lambda: gateway.line.settled, "the broker to acknowledge")
            self._wills.add(publication.gateway_id)
            gateway.kept.add(self._will_of[publication.gateway_id])
            gateway.line.cut()
            self._tally.count(publication)
            return
        sent = Sent(
            publication.topic,
            encode(body),
            publication.retain,
            publication.device_id,
            publication.boot,
            0 if kind == "birth" else publication.seq,
        )
        if kind == "birth":
            gateway.births[publication.device_id] = sent
        gateway.kept.add(sent)
        gateway.line.publish(sent)
        self._tally.count(publication)

    def _all_settled(self) -> bool:
        return not self._recovery.lost and self._recovery.settled

    def _pace(self, at_ms: int) -> None:
        """Wait, serving the connections, until the wall clock has come as far as `speed` allows."""
        if self._speed is None:
            return
        due_s = self._started_s + (at_ms - self._scenario.start_ms) / 1000 / self._speed
        while (left_s := due_s - time.monotonic()) > _SHORT_S:
            self._serve(left_s)

    def _serve_until(self, condition: Callable[[], bool], waiting_for: str) -> None:
        began_s: float | None = None
        while True:
            if self._recovery.wanted:
                self._recovery.heal()
            if condition():
                return
            self._serve(0.05)
            now_s = time.monotonic()
            began_s = began_s or now_s
            waited_s = now_s - began_s
            if waited_s > _SAY_AFTER_S and now_s - self._told_s >= _PROGRESS_EVERY_S:
                self._tell(waiting_for, waited_s)

    def _serve(self, timeout_s: float) -> None:
        self._heed_stop()
        for key, events in self._selector.select(min(timeout_s, 0.05)):
            line: Line = key.data
            line.serve(events, time.monotonic())
        now_s = time.monotonic()
        if now_s - self._kept_up_s > _SHORT_S * 25:
            self._kept_up_s = now_s
            self._control.keep(now_s)
            for gateway in self._gateways.values():
                gateway.line.keep(now_s)

    def _heed_stop(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _control_message(self, topic: str, payload: bytes) -> None:
        if (gateway_id := self._gateway_of_topic.get(topic)) is not None:
            will = self._will_of.get(gateway_id)
            if will is not None and payload == will.payload:
                self._wills.discard(gateway_id)
            return
        told = decode(payload, ClockConfirmed)
        if told is None:
            return
        self._recovery.answered(told)
        for confirmed_id, mark in (self._clocks.confirmed(told.at, told.source) or {}).items():
            self._gateways[confirmed_id].kept.confirmed_before(mark)

    def _confirmed(self, gateway_id: str, topic: str, payload: bytes) -> None:
        told = decode(payload, Confirmed)
        if told is not None:
            self._gateways[gateway_id].kept.confirmed(self._device_of_topic[topic], told.boot, told.first, told.seq)

    def _control_restored(self) -> None:
        """A broker that starts again has forgotten wills, too: they are kept like other messages."""
        self._recovery.lost = True
        self._wills.clear()

    def _tell(self, waiting_for: str, waited_s: float) -> None:
        self._told_s = time.monotonic()
        self._on_progress(
            Progress(self._at_ms, self._tally.messages, self._tally.readings, waiting_for, round(waited_s, 1))
        )
