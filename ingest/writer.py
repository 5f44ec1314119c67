"""Arrivals to the log: decode, batch, append; only then acknowledge and confirm.

One thread calls everything here. It knows no MQTT: what acknowledges and publishes is handed in, as is the log.

Order carries the meaning. Arrivals are handled as they came; an append holds everything taken so far, in one call, so
whatever is acknowledged is a prefix of what came (but for strangers, who wait apart). After a crash the broker sends
the rest again, before anything new; what was written and not yet acknowledged is then written twice, and the partition
finds it by its number.

- In wall-clock time the writer ticks every second, and a batch waits `flush_ms` for company. It joins with its first
  tick, not before: what it still has before itself then comes late, but holds up nobody's time.
- In simulated time only clocks move time: a clock flushes what came before it and ticks every partition. Several clocks
  that wait in the queue share one append. What comes before the first clock of all waits for it (`ingest.early`).
- What waits in the overflow is admitted again right behind a tick.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import structlog

from ingest.admission import Admission
from ingest.batch import Entry
from ingest.clock import read_clock
from ingest.confirm import Confirmations, Place
from ingest.decode import device_in
from ingest.directory import DeviceDirectory
from ingest.early import Early
from ingest.insist import insist
from ingest.intake import Arrival
from ingest.overflow import Overflow
from ingest.refusal import Problems, refused
from ingest.settings import BridgeConfig, BridgeStats
from ingest.strangers import Strangers
from ingest.ticks import Ticks
from schema.catalogue import Catalogue
from schema.notices import Notice
from schema.topics import CLOCK_CONFIRMED_TOPIC, CLOCK_TOPIC, OVERFLOW, REFUSED, confirmed_topic

TICK_MS = 1000
COMMIT_BYTES = 1 << 20
COMMIT_ARRIVALS = 5_000
NOTE_EVERY_S = 3600.0
"""How far the overflow is admitted again is noted so often at least: Kafka forgets what was noted days ago."""
PATIENCE_S = 0.2
"""The longest sleep: how late a stop may be noticed."""

_T = TypeVar("_T")
_log = structlog.get_logger("ingest")
_encoder = msgspec.json.Encoder()


def wall_clock_ms() -> int:
    """Milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000


class Writer:
    """Takes arrivals one by one; `act` does what is due. See the module for the order it keeps.

    `append` is durable when it returns, and returns the offsets; whatever it, the overflow or the directory raises is
    taken for a broken dependency, and it is tried again until `stop` is set. `tell_bridges` is given what was written
    before it is acknowledged.
    """

    def __init__(
        self,
        config: BridgeConfig,
        *,
        catalogue: Catalogue,
        directory: DeviceDirectory,
        append: Callable[[Sequence[Entry]], Sequence[int]],
        ticks: Ticks,
        acknowledge: Callable[[Sequence[Arrival]], None],
        publish: Callable[[str, bytes, int], None],
        stats: BridgeStats,
        stop: threading.Event,
        overflow: Overflow | None = None,
        strangers: Strangers | None = None,
        tell_bridges: Callable[[Sequence[Place]], None] = lambda _: None,
        is_ours: Callable[[str], bool] = lambda _: True,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self.confirmations = Confirmations(interval_ms=config.confirm_interval_ms)
        self._simulated = config.clock == "simulated"
        self._flush_s = config.flush_ms / 1000
        self._source = config.source
        self._admission = Admission(
            config, catalogue=catalogue, directory=directory, ticks=ticks, overflow=overflow, stats=stats
        )
        self._directory = directory
        self._overflow = overflow
        self._strangers = strangers
        self._tell_bridges = tell_bridges
        self._is_ours = is_ours
        self._append = append
        self._ticks = ticks
        self._acknowledge = acknowledge
        self._publish = publish
        self._stats = stats
        self._stop = stop
        self._now_ms = now_ms
        self._entries: list[Entry] = []
        self._taken: list[Arrival] = []
        self._taken_at_s = 0.0
        self._readmitted = False
        self._noted_at_s = -math.inf
        self._clocks: list[int] = []
        self._early = Early()

    def start(self) -> None:
        """Find what waits in the overflow; in simulated time, join where there is a tick to join at."""
        now_ms, last_ms = self._now_ms(), self._ticks.newest_ms() or 0
        if self._overflow is not None:
            overflow = self._overflow
            self._insist("overflow", lambda: overflow.restore(self.time_ms()))
            self._admission.remind()
        if self._simulated:
            self._stage(self._ticks.joined(None))
        elif last_ms > now_ms + TICK_MS:
            _log.warning("time stands still until the clock has caught up", behind_ms=last_ms - now_ms)
        self.commit()

    def take(self, arrival: Arrival) -> None:
        """Handle one arrival; it is acknowledged by the commit that writes it."""
        self._stats.received += 1
        if not self._simulated:
            self._message(arrival, wall_ms=self._now_ms())
        elif arrival.topic == CLOCK_TOPIC:
            self._clock(arrival)
        elif self._ticks.newest_ms() is None and not self._early.time_ms:
            self._early.add(arrival)
        else:
            self._message(arrival, wall_ms=self._early.time_ms)

    @property
    def stuck(self) -> bool:
        """Whether nothing more may be taken until the registry can be read, or a first clock is heard."""
        return self._early.full or (self._strangers is not None and self._strangers.full)

    def hear_clock(self, payload: bytes) -> None:
        """Note a clock that came on another connection, beside what is taken here."""
        self._early.hear(payload)

    def act(self, *, may_tick: bool) -> None:
        """Tick, commit and confirm if that is due."""
        if self._strangers:
            for arrival in self._strangers.settled():
                self._message(arrival, wall_ms=self._now_ms(), known=True)
        self._early.tell()
        if self._early.full and self._early.heard_ms:
            self._let_in(self._early.heard_ms)
        if self._commit_is_due(may_tick=may_tick):
            self.commit()
        if self.confirmations.due(now_ms := self.time_ms()):
            self._confirm(now_ms)

    def patience_s(self) -> float:
        """How long to wait for the next arrival before `act` has something to do."""
        if self._simulated or not self._taken:
            return PATIENCE_S
        return max(0.0, self._taken_at_s + self._flush_s - time.monotonic())

    def leave(self) -> None:
        """Write what is left, say that this source counts no longer, and tell every sender how far it is confirmed."""
        self._stage(self._ticks.left())
        self.commit()
        self._confirm(self.time_ms())

    def give_up(self, source: str) -> None:
        """Say for another source that it counts no longer; its next tick would make it count again."""
        self._stage(self._ticks.left_by(source, self.time_ms()))
        self.commit()

    def take_over(self, source: str) -> None:
        """Admit again what another bridge has left in the overflow."""
        if self._overflow is not None:
            overflow = self._overflow
            self._insist("overflow", lambda: overflow.take_over(source, self.time_ms()))
            self._admission.remind()

    def release(self, source: str) -> None:
        """Leave it to another bridge, which is back."""
        if self._overflow is not None:
            self._overflow.release(source)

    def notice(self, notice: Notice) -> None:
        """Have a notice written that concerns no device."""
        self._admission.notice(0, notice)
        self._stage([])

    def commit(self) -> None:
        """Append everything taken so far; then confirm clocks, tell the other bridges, and acknowledge."""
        self._stage([])
        if self._entries:
            # A log may keep a part of an append when we crash. A refusal that comes again then takes the time of the
            # newest tick: so refusals are written before any tick, and what is refused again changes nothing.
            refusals = [entry for entry in self._entries if entry[0] == REFUSED]
            if refusals:
                self._insist("append", lambda: self._append(refusals))
            entries = [entry for entry in self._entries if entry[0] != REFUSED]
            offsets = self._insist("append", lambda: self._append(entries)) if entries else []
            self._entries = []
            if self._overflow:
                at = zip(entries, offsets, strict=True)
                self._overflow.appended(offset for (topic, _, _), offset in at if topic == OVERFLOW)
            self._stats.appends += 1
            self._stats.records += len(refusals) + len(entries)
            self._stats.record_bytes += sum(len(value) for _, _, value in refusals + entries)
            self._stats.ticked_ms = self._ticks.newest_ms() or 0
        for at_ms in self._clocks:
            self._publish(CLOCK_CONFIRMED_TOPIC, _encoder.encode({"at": at_ms, "source": self._source}), 1)
        self._clocks = []
        places, self._admission.places = self._admission.places, []
        if places:
            self._tell_bridges(places)
        self._acknowledge(self._taken)
        self._taken = []
        for device_id, boot, seq in places:
            self._stats.repeated += not self.confirmations.written(device_id, boot, seq)
        if self._overflow is not None and (self._readmitted or time.monotonic() - self._noted_at_s >= NOTE_EVERY_S):
            self._note_readmitted(self._overflow)

    def _insist(self, what: str, operation: Callable[[], _T]) -> _T:
        return insist(what, operation, stop=self._stop, stats=self._stats)

    def _message(self, arrival: Arrival, *, wall_ms: int = 0, known: bool = False) -> None:
        """Admit a message; `known` says that the registry has been read since it came."""
        device_id = device_in(arrival.topic)
        device = None
        if device_id is not None:
            device = self._directory.known(device_id)
            if device is None and not known:
                if self._strangers is None:
                    wanted, now_ms = device_id, max(self._ticks.newest_ms() or 0, wall_ms)
                    device = self._insist("registry", lambda: self._directory.find(wanted, receive_ms=now_ms))
                elif not self._strangers.is_known_to_be_one(now_s := time.monotonic()):
                    self._strangers.hold(arrival, now_s)
                    return
        self._note_taken(arrival)
        self._admission.take(arrival, device, wall_ms=wall_ms)

    def _clock(self, arrival: Arrival) -> None:
        """Flush what came before, tick every partition; a clock that is not newer is only confirmed again."""
        problems = Problems()
        at_ms = read_clock(arrival.payload, problems)
        if problems.reason is not None:
            self._note_taken(arrival)
            received_ms = self._ticks.newest_ms() or 0
            self._admission.refuse(refused(arrival.topic, arrival.payload, problems, received_ms=received_ms))
            return
        self._let_in(at_ms)
        self._note_taken(arrival)
        self._stage(self._ticks.tick(at_ms))
        self._clocks.append(at_ms)
        self._stats.clocks += 1
        if self._overflow:
            self.commit()  # so that what comes back does not depend on which clocks share an append
            self._readmit(0)

    def _let_in(self, at_ms: int) -> None:
        """Join, if that is not said yet, with what has waited for the first clock."""
        self._stage(self._ticks.joined(at_ms))
        for arrival in self._early.let_in(at_ms):
            self._message(arrival, wall_ms=at_ms)

    def _readmit(self, wall_ms: int) -> None:
        """Put in line what the quotas allow to come back from the overflow."""
        self._stage([])
        before = self._stats.readmitted
        for device in self._admission.due_again():
            while entry := self._insist("overflow", lambda: self._admission.again(device, wall_ms)):  # noqa: B023
                self._entries.append(entry)
            self._admission.settle(device, wall_ms)
        self._readmitted |= self._stats.readmitted > before

    def _note_readmitted(self, overflow: Overflow) -> None:
        self._readmitted, self._noted_at_s = False, time.monotonic()
        try:
            overflow.note()
        except Exception as error:
            _log.warning("how far the overflow is admitted again could not be noted", error=repr(error))

    def _note_taken(self, arrival: Arrival) -> None:
        if not self._taken:
            self._taken_at_s = time.monotonic()
        self._taken.append(arrival)

    def _stage(self, entries: Sequence[Entry]) -> None:
        """Put what was batched so far, then `entries`, in line for the next append."""
        self._entries += self._admission.drain()
        self._entries += entries

    def _commit_is_due(self, *, may_tick: bool) -> bool:
        full = self._admission.approximate_bytes >= COMMIT_BYTES or len(self._taken) >= COMMIT_ARRIVALS
        if self._simulated:
            return full or bool(self._clocks) or bool(self._entries)
        if may_tick and self._tick_is_due():
            now_ms = self._now_ms()
            self._stage(self._ticks.joined(now_ms))
            self._stage(self._ticks.tick(now_ms))
            if self._overflow:
                self._readmit(now_ms)
            return True
        return full or (bool(self._taken) and time.monotonic() - self._taken_at_s >= self._flush_s)

    def _tick_is_due(self) -> bool:
        newest_ms = self._ticks.newest_ms()
        return newest_ms is None or self._now_ms() - newest_ms >= TICK_MS

    def time_ms(self) -> int:
        """The newest tick, or the wall clock where that counts and is later."""
        newest_ms = self._ticks.newest_ms() or 0
        return newest_ms if self._simulated else max(newest_ms, self._now_ms())

    def _confirm(self, now_ms: int) -> None:
        for told in self.confirmations.tell(now_ms, self._is_ours):
            payload = _encoder.encode({"boot": told.boot, "from": told.first, "seq": told.last})
            self._publish(confirmed_topic(told.device_id), payload, 0)
            self._stats.confirmations += 1
