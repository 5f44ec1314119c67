"""Arrivals to the log: decode, batch, append; only then acknowledge and confirm.

One thread calls everything here. It knows no MQTT: what acknowledges and publishes is handed in, as is the log.

Order carries the meaning. Arrivals are handled as they came; an append holds everything taken so far, in one call, so
whatever is acknowledged is a prefix of what came. After a crash the broker sends the rest again, before anything new;
what was written and not yet acknowledged is then written twice, and the partition finds it by its number.

- In wall-clock time the writer ticks every second, and a batch waits `flush_ms` for company.
- In simulated time only clocks move time: a clock flushes what came before it and ticks every partition. Several clocks
  that wait in the queue share one append. What comes before the first clock of all waits for it and takes its time.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import structlog

from ingest.batch import Batch, Entry
from ingest.confirm import Confirmations
from ingest.decode import EARLIEST_MS, Decoder, device_in
from ingest.directory import DeviceDirectory
from ingest.intake import Arrival
from ingest.refusal import Problems, refused
from ingest.settings import BridgeConfig, BridgeStats
from ingest.ticks import Ticks
from ingest.wire import DECODING_ERRORS
from schema.catalogue import Catalogue
from schema.messages import Refused
from schema.topics import CLOCK_CONFIRMED_TOPIC, CLOCK_TOPIC, confirmed_topic

TICK_MS = 1000
COMMIT_BYTES = 1 << 20
COMMIT_ARRIVALS = 5_000
RETRY_FIRST_S = 0.05
RETRY_MAX_S = 5.0
PATIENCE_S = 0.2
"""The longest sleep: how late a stop may be noticed."""

_T = TypeVar("_T")
_log = structlog.get_logger("ingest")
_encoder = msgspec.json.Encoder()


class GaveUpError(Exception):
    """The bridge is to stop and a dependency still fails: what is not written stays unacknowledged, and comes again."""


class _ClockMessage(msgspec.Struct):
    at: int


_clock_decoder = msgspec.json.Decoder(_ClockMessage)


def wall_clock_ms() -> int:
    """Milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000


class Writer:
    """Takes arrivals one by one; `act` does what is due. See the module for the order it keeps.

    `append` is durable when it returns; whatever it or the directory raises is taken for a broken dependency, and it is
    tried again until `stop` is set.
    """

    def __init__(
        self,
        config: BridgeConfig,
        *,
        catalogue: Catalogue,
        directory: DeviceDirectory,
        append: Callable[[Sequence[Entry]], object],
        ticks: Ticks,
        acknowledge: Callable[[Sequence[Arrival]], None],
        publish: Callable[[str, bytes, int], None],
        stats: BridgeStats,
        stop: threading.Event,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._simulated = config.clock == "simulated"
        self._flush_s = config.flush_ms / 1000
        self._source = config.source
        self._decoder = Decoder(catalogue)
        self._directory = directory
        self._append = append
        self._ticks = ticks
        self._acknowledge = acknowledge
        self._publish = publish
        self._stats = stats
        self._stop = stop
        self._now_ms = now_ms
        self._batch = Batch(source=config.source, max_readings=config.max_readings)
        self._confirmations = Confirmations(interval_ms=config.confirm_interval_ms)
        self._entries: list[Entry] = []
        self._taken: list[Arrival] = []
        self._taken_at_s = 0.0
        self._places: list[tuple[str, int, int]] = []
        self._clocks: list[int] = []
        self._held: list[Arrival] = []

    def start(self) -> None:
        """Join: at the last ticks, or now where there are none; in simulated time at the first clock."""
        now_ms, last_ms = self._now_ms(), self._ticks.newest_ms() or 0
        if not self._simulated and last_ms > now_ms + TICK_MS:
            _log.warning("time stands still until the clock has caught up", behind_ms=last_ms - now_ms)
        self._stage(self._ticks.joined(None if self._simulated else now_ms))
        self.commit()

    def take(self, arrival: Arrival) -> None:
        """Handle one arrival; it is acknowledged by the commit that writes it."""
        self._stats.received += 1
        if not self._simulated:
            self._message(arrival, wall_ms=self._now_ms())
        elif arrival.topic == CLOCK_TOPIC:
            self._clock(arrival)
        elif self._ticks.newest_ms() is None:
            self._held.append(arrival)
        else:
            self._message(arrival)

    def act(self, *, may_tick: bool) -> None:
        """Tick, commit and confirm if that is due."""
        if self._commit_is_due(may_tick=may_tick):
            self.commit()
        if self._confirmations.due(now_ms := self._time_ms()):
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
        self._confirm(self._time_ms())

    def commit(self) -> None:
        """Append everything taken so far; then confirm clocks and acknowledge."""
        self._stage([])
        if self._entries:
            entries = self._entries
            self.insist("append", lambda: self._append(entries))
            self._entries = []
            self._stats.appends += 1
            self._stats.records += len(entries)
            self._stats.record_bytes += sum(len(value) for _, _, value in entries)
        for at_ms in self._clocks:
            self._publish(CLOCK_CONFIRMED_TOPIC, _encoder.encode({"at": at_ms, "source": self._source}), 1)
        self._clocks = []
        self._acknowledge(self._taken)
        self._taken = []
        for place in self._places:
            self._confirmations.written(*place)
        self._places = []

    def insist(self, what: str, operation: Callable[[], _T]) -> _T:
        """Call until it succeeds, with growing pauses.

        Raises:
            GaveUpError: it fails and `stop` is set.
        """
        delay_s = RETRY_FIRST_S
        while True:
            try:
                return operation()
            except Exception as error:
                self._stats.failed_attempts += 1
                if self._stop.is_set():
                    raise GaveUpError(f"{what}: {error!r}") from error
                _log.warning("retrying", what=what, error=repr(error), delay_s=round(delay_s, 3))
            self._stop.wait(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 # spreads retries, guards nothing
            delay_s = min(delay_s * 2, RETRY_MAX_S)

    def _message(self, arrival: Arrival, *, wall_ms: int | None = None) -> None:
        """Decode a message and put it into the batch.

        Its receive time is the last tick of its partition, or the wall clock where that is later.
        """
        self._note_taken(arrival)
        newest_ms = max(self._ticks.newest_ms() or 0, wall_ms or 0)
        device_id = device_in(arrival.topic)
        device = None
        if device_id is not None:
            wanted = device_id
            device = self.insist("registry", lambda: self._directory.find(wanted, receive_ms=newest_ms))
        receive_ms = newest_ms
        if device is not None:
            receive_ms = max(self._ticks.last_ms(device.partition) or 0, wall_ms or 0) or newest_ms
        decoded = self._decoder.decode(
            arrival.topic, arrival.payload, device=device, receive_ms=receive_ms, content_type=arrival.content_type
        )
        if decoded.message is not None and device is not None:
            self._batch.add(device.partition, decoded.message)
            self._stats.messages += 1
            self._stats.readings += len(decoded.message.readings)
            self._stats.ahead += decoded.ahead
        if decoded.refused is not None:
            self._refuse(decoded.refused)
        if decoded.seq and device is not None:
            self._places.append((device.device_id, decoded.boot, decoded.seq))

    def _clock(self, arrival: Arrival) -> None:
        """Flush what came before, tick every partition; a clock that is not newer is only confirmed again."""
        problems = Problems()
        at_ms = 0
        try:
            at_ms = _clock_decoder.decode(arrival.payload).at
        except DECODING_ERRORS as error:
            problems.add("invalid_payload", f"clock: {error}")
        if problems.reason is None and not EARLIEST_MS <= at_ms < 2**53:
            problems.add("timestamp_implausible", f"clock: at {at_ms}")
        if problems.reason is not None:
            self._note_taken(arrival)
            received_ms = self._ticks.newest_ms() or 0
            self._refuse(refused(arrival.topic, arrival.payload, problems, received_ms=received_ms))
            return
        self._stage(self._ticks.joined(at_ms))
        held, self._held = self._held, []
        for earlier in held:
            self._message(earlier, wall_ms=at_ms)
        self._note_taken(arrival)
        self._stage(self._ticks.tick(at_ms))
        self._clocks.append(at_ms)
        self._stats.clocks += 1

    def _refuse(self, entry: Refused) -> None:
        self._stats.refused[entry.reason] += 1
        self._batch.refuse(entry)
        _log.debug("refused", topic=entry.topic, reason=entry.reason, length=entry.length, sha256=entry.sha256)

    def _note_taken(self, arrival: Arrival) -> None:
        if not self._taken:
            self._taken_at_s = time.monotonic()
        self._taken.append(arrival)

    def _stage(self, entries: Sequence[Entry]) -> None:
        """Put what was batched so far, then `entries`, in line for the next append."""
        self._entries += self._batch.drain()
        self._entries += entries

    def _commit_is_due(self, *, may_tick: bool) -> bool:
        full = self._batch.approximate_bytes >= COMMIT_BYTES or len(self._taken) >= COMMIT_ARRIVALS
        if self._simulated:
            return full or bool(self._clocks)
        if may_tick and (entries := self._due_ticks()):
            self._stage(entries)
            return True
        return full or (bool(self._taken) and time.monotonic() - self._taken_at_s >= self._flush_s)

    def _due_ticks(self) -> list[Entry]:
        now_ms, newest_ms = self._now_ms(), self._ticks.newest_ms()
        if newest_ms is not None and now_ms - newest_ms < TICK_MS:
            return []
        return self._ticks.tick(now_ms)

    def _time_ms(self) -> int:
        newest_ms = self._ticks.newest_ms() or 0
        return newest_ms if self._simulated else max(newest_ms, self._now_ms())

    def _confirm(self, now_ms: int) -> None:
        for told in self._confirmations.tell(now_ms):
            payload = _encoder.encode({"boot": told.boot, "from": told.first, "seq": told.last})
            self._publish(confirmed_topic(told.device_id), payload, 0)
            self._stats.confirmations += 1
