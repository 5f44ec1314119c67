"""What a bridge has to do with the others, and with what the broker says of itself; called by the writer's thread.

Each bridge says five times within `peer_timeout_ms` that it is alive, unless its writer is stuck. In
wall-clock time those who are silent for longer are given up (`ingest.peers`) and their sessions are taken over
(`ingest.adopt`). In simulated time no other clock may decide anything: a dead bridge is waited for.
"""

import time
from collections.abc import Callable, Sequence

import structlog

from ingest.adopt import Adoption
from ingest.confirm import Place, told_to_bridges
from ingest.drops import Drops
from ingest.intake import Arrival
from ingest.overflow import Overflow
from ingest.peerline import Heard, Heartbeat, PeerLine, heartbeat_of
from ingest.peers import Peers
from ingest.settings import BridgeConfig, BridgeStats
from ingest.strangers import Strangers
from ingest.writer import Writer
from schema.notices import Notice
from schema.topics import CLOCK_TOPIC, MQTT_ROOT, WRITTEN_TOPIC

SHARES = [f"$share/wardwatch/{MQTT_ROOT}/+/{kind}" for kind in ("telemetry", "state")]
"""Subscriptions by which the bridges share what devices send."""
BEATS = 5
ADOPT_AGAIN_S = 60.0

_log = structlog.get_logger("ingest")


class Neighbours:
    """The other bridges; `known` are those that count in the log, `publish` goes the way of acknowledgements."""

    def __init__(
        self,
        config: BridgeConfig,
        *,
        known: Sequence[str],
        publish: Callable[[str, bytes, int], None],
        put: Callable[[Arrival], None],
        new_connection: Callable[[], int],
        stats: BridgeStats,
        overflow: Overflow | None = None,
        strangers: Strangers | None = None,
    ) -> None:
        self._config = config
        self._known = known
        self._publish = publish
        self._put = put
        self._new_connection = new_connection
        self._stats = stats
        self._overflow = overflow
        self._strangers = strangers
        self._simulated = config.clock == "simulated"
        self._timeout_s = config.peer_timeout_ms / 1000
        also = [*([config.dropped_topic] if config.dropped_topic else []), *([CLOCK_TOPIC] if self._simulated else [])]
        self._line = PeerLine(config.mqtt_url, config.source, also, config.tls)
        self._peers = Peers(config.source, timeout_s=self._timeout_s)
        self._drops = Drops()
        self._life = 0
        self._beat_s = 0.0
        self._alive = [config.source]
        self._adoption: Adoption | None = None
        self._emptied = False
        """Everything that the adopted session had was taken."""
        self._not_before_s: dict[str, float] = {}

    def open(self) -> None:
        """Begin to listen."""
        self._line.open()

    def close(self, *, stopped: bool) -> None:
        """End; `stopped` says that this bridge has left in order."""
        if self._adoption is not None:
            self._adoption.give_up()
        self._line.close(self._heartbeat(stopped=True) if stopped else None)

    def is_ours(self, device_id: str) -> bool:
        """Tell whether it is this bridge that tells a device what is written."""
        return self._peers.is_ours(device_id, self._alive)

    def tell(self, places: Sequence[Place]) -> None:
        """Tell the others what is written, if there are any."""
        if len(self._alive) > 1:
            for payload in told_to_bridges(places):
                self._publish(WRITTEN_TOPIC, payload, 1)

    def attend(self, writer: Writer, now_s: float) -> None:
        """Hear what there is to hear, say what is due, and see to those who are gone."""
        for heard in self._line.take():
            self._hear(heard, writer, now_s)
        self._finish(writer, now_s)
        life = self._line.life
        if life != self._life:
            self._life = life
            if life:
                self._begin(now_s)
        elif now_s < self._beat_s:
            return
        self._beat_s = now_s + self._timeout_s / BEATS
        if not life:
            return
        self._line.beat(self._heartbeat())
        self._alive = self._peers.alive(now_s)
        self._stats.bridges = len(self._alive)
        if self._drops.over(writer.time_ms()):
            self._notice_drops(writer, active=False)
        if not self._simulated:
            self._give_up(writer, now_s)
            self._adopt(now_s)

    def resume(self, now_s: float) -> None:
        """This bridge has not attended for a while: what it did not hear says nothing."""
        self._peers.resume(now_s)

    def acknowledge(self, arrival: Arrival) -> None:
        """Acknowledge what came by a session that was taken over."""
        if self._adoption is not None and arrival.connection == self._adoption.connection:
            self._adoption.acknowledge(arrival)

    def see_mark(self, arrival: Arrival, writer: Writer) -> None:
        """Everything that a session had before the mark was taken: write it and end the session."""
        if self._adoption is not None and arrival.connection == self._adoption.connection:
            self._emptied = True
            self._finish(writer, time.monotonic())

    def _finish(self, writer: Writer, now_s: float) -> None:
        """End the adopted session once nothing of it is held; one that is lost belongs to a bridge that is back."""
        adoption = self._adoption
        if adoption is None or not self._emptied or adoption.lost:
            return
        if self._strangers is not None and self._strangers.holds_of(adoption.connection):
            return
        writer.commit()
        if adoption.lost:
            return
        writer.take_over(adoption.source)
        self._adoption = None
        adoption.finish()
        self._line.clear(adoption.source)
        self._peers.forget(adoption.source)
        self._stats.sessions_taken_over += 1
        self._know_heirless(now_s)
        _log.info("session taken over and ended", of=adoption.source)

    def _begin(self, now_s: float) -> None:
        for source in self._known:
            self._peers.know(source, now_s)
        self._know_heirless(now_s)
        self._peers.resume(now_s)

    def _know_heirless(self, now_s: float) -> None:
        """Whose messages wait, as the overflow was read last, is either alive or to be adopted, maybe once more."""
        if self._overflow is not None:
            for source in self._overflow.others:
                self._peers.know(source, now_s)

    def _hear(self, heard: Heard, writer: Writer, now_s: float) -> None:
        if heard.topic == WRITTEN_TOPIC:
            writer.confirmations.merge(heard.payload)
        elif heard.topic == CLOCK_TOPIC:
            writer.hear_clock(heard.payload)
        elif heard.topic == self._config.dropped_topic:
            self._see_drops(heard.payload, writer)
        elif not heard.payload:
            self._peers.forget(heard.topic.split("/")[-2])
        elif (beat := heartbeat_of(heard)) is not None:
            if beat.source == self._config.source:
                self._drops.restore(beat.dropped, beat.dropping, writer.time_ms())
                return
            if self._peers.heard(beat.source, beat.life, now_s, stopped=beat.stopped):
                _log.info("another bridge", source=beat.source)
                self._alive = self._peers.alive(now_s)
                writer.release(beat.source)
                for payload in writer.confirmations.known():
                    self._publish(WRITTEN_TOPIC, payload, 1)

    def _see_drops(self, payload: bytes, writer: Writer) -> None:
        try:
            count = int(payload)
        except ValueError:
            return
        if not writer.time_ms():  # in simulated time, before the first clock: it will be told again
            return
        dropped = self._drops.seen(count, writer.time_ms())
        if dropped:
            self._stats.broker_dropped += dropped
            _log.error("the broker has dropped messages", messages=dropped)
            self._notice_drops(writer, active=True)

    def _notice_drops(self, writer: Writer, *, active: bool) -> None:
        if self._alive[0] == self._config.source:
            writer.notice(
                Notice(
                    what="broker_drops",
                    source=self._config.source,
                    active=active,
                    at_ms=writer.time_ms(),
                    since_ms=self._drops.since_ms,
                    facts={"messages": self._drops.total},
                )
            )

    def _give_up(self, writer: Writer, now_s: float) -> None:
        for source in self._peers.given_up(now_s):
            _log.warning("another bridge is silent, time goes on without it", source=source)
            writer.give_up(source)
            self._stats.given_up += 1

    def _adopt(self, now_s: float) -> None:
        if self._adoption is not None and self._adoption.lost:
            self._adoption.give_up()
            self._not_before_s[self._adoption.source] = now_s + ADOPT_AGAIN_S
            self._adoption = None
        if self._adoption is not None or self._alive[0] != self._config.source:
            return
        for source in self._peers.absent(now_s):
            if now_s >= self._not_before_s.get(source, 0.0):
                self._adoption = Adoption(self._config, source, self._new_connection(), self._put, SHARES)
                self._emptied = False
                return

    def _heartbeat(self, *, stopped: bool = False) -> Heartbeat:
        drops = self._drops
        return Heartbeat(self._config.source, self._life, stopped, drops.count, drops.newest_ms is not None)

