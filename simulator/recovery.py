"""What is sent again after connections were lost, and in which order.

A broker that was lost may have forgotten what it had acknowledged, and before the bridge is there again it acknowledges
what nobody gets. So virtual time stands still: a clock that changes nothing is sent until every bridge has answered it,
then everything that nobody has confirmed, between the same clocks as before. A message is then received at the same
virtual time as if nothing had happened.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from schema.topics import CLOCK_TOPIC
from simulator.clocks import Clocks
from simulator.line import Line
from simulator.tally import Tally
from simulator.unconfirmed import Sent, Unconfirmed
from simulator.wire import ClockConfirmed, clock_payload

_ANSWER_WITHIN_S = 1.0
"""How long a bridge may take to answer before it is asked again."""


@dataclass(slots=True)
class Gateway:
    """A gateway's connection and what nobody has confirmed of it."""

    line: Line
    kept: Unconfirmed = field(default_factory=Unconfirmed)
    births: dict[str, Sent] = field(default_factory=dict)
    """The newest birth of each device, announced again after a lost connection."""

    def announced(self) -> list[Sent]:
        """Births that are confirmed: the broker may have forgotten them as retained messages."""
        kept = {id(sent) for sent in self.kept.messages()}
        return [birth for birth in self.births.values() if id(birth) not in kept]


@dataclass(slots=True)
class Recovery:
    """Knows whether the broker was lost, and heals that; `serve_until` serves all connections until a condition holds.

    It asks with the last clock that was confirmed less some milliseconds, or with `first_clock_ms` before there is one.
    """

    gateways: Mapping[str, Gateway]
    control: Line
    clocks: Clocks
    tally: Tally
    serve_until: Callable[[Callable[[], bool], str], None]
    first_clock_ms: int
    lost: bool = False
    """The broker may have forgotten what it had acknowledged."""
    _healing: bool = False
    _questions: int = 0
    _asked_ms: int | None = None
    _answers: set[str] = field(default_factory=set)
    """Bridges that have answered the newest question."""

    @property
    def wanted(self) -> bool:
        """Whether `heal` is to be called."""
        return self.lost and not self._healing

    @property
    def may_publish(self) -> bool:
        """Whether something new may be published: it must not come before what is to be sent again."""
        return self.control.ready and not self.lost

    @property
    def settled(self) -> bool:
        """Whether the broker has acknowledged everything, on connections that stand."""
        return self.control.settled and all(gateway.line.settled for gateway in self.gateways.values())

    def gateway_restored(self, gateway: Gateway) -> None:
        """Over a new connection to a broker that was not lost: what it had not taken stands behind all clocks.

        Where the clock's own connection is down as well, the broker may have been lost: then all waits for that one.
        """
        if not self.control.ready:
            return
        for sent in [*gateway.announced(), *gateway.kept.messages()]:
            gateway.line.publish(sent)
            self.tally.sent_again += 1

    def answered(self, told: ClockConfirmed) -> None:
        """Take note of what may be an answer."""
        if told.at == self._asked_ms:
            self._answers.add(told.source)

    def heal(self) -> None:
        """Wait for the broker and every bridge, then send everything again that nobody has confirmed."""
        self._healing = True
        try:
            while self.lost:
                self.lost = False  # a loss from here on sets it again
                self.serve_until(lambda: self.settled, "the broker")
                if not self.lost:
                    self._ask()
                if not self.lost:
                    self._send_everything_again()
        finally:
            self._healing = False

    def _ask(self) -> None:
        """Return when every bridge has answered that it is subscribed, or at another loss.

        Another clock is asked each time, as answers to earlier questions may still be under way.
        """
        again_at_s = 0.0
        self._answers.clear()

        def waited() -> bool:
            return self.lost or len(self._answers) >= self.clocks.bridges or time.monotonic() > again_at_s

        while not self.lost and len(self._answers) < self.clocks.bridges:
            self._questions += 1
            self._answers.clear()
            newest_ms = self.clocks.newest_confirmed_ms
            self._asked_ms = self.first_clock_ms if newest_ms is None else newest_ms - self._questions
            self.control.publish(clock_message(self._asked_ms))
            again_at_s = time.monotonic() + _ANSWER_WITHIN_S
            self.serve_until(waited, "a bridge")

    def _send_everything_again(self) -> None:
        """Publish what is kept, and the clocks at their places in it; ends early at another loss."""
        for gateway in self.gateways.values():
            for birth in gateway.announced():
                gateway.line.publish(birth)
        since = dict.fromkeys(self.gateways, 0)
        for at_ms in self.clocks.waiting():
            marks = self.clocks.marks(at_ms)
            if marks is None:  # confirmed in the meantime
                continue
            self._publish(since, marks)
            if not self._acknowledged():
                return
            since |= marks
            if self.clocks.marks(at_ms) is not None:
                self.control.publish(clock_message(at_ms))
                if not self._acknowledged():
                    return
        self._publish(since, {})

    def _acknowledged(self) -> bool:
        """Wait until the broker has acknowledged everything; False at another loss."""
        self.serve_until(lambda: self.lost or self.settled, "the broker to acknowledge")
        return not self.lost

    def _publish(self, since: Mapping[str, int], until: Mapping[str, int]) -> None:
        """Publish what is kept of [since, until), by gateway; to the end where no `until` is given."""
        for gateway_id, gateway in self.gateways.items():
            # The broker had taken what a gateway sent before it was cut off: not the gateway says it again.
            line = gateway.line if gateway.line.wanted else self.control
            for message in gateway.kept.before(until.get(gateway_id), since=since[gateway_id]):
                line.publish(message)
                self.tally.sent_again += 1


def clock_message(at_ms: int) -> Sent:
    """The clock as it is published."""
    return Sent(CLOCK_TOPIC, clock_payload(at_ms), False)
