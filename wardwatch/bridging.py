"""What a bridge is told about the log: its last ticks, which sources count, how far the workers are, what waits."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from schema.record import CorruptRecordError, Record, TelemetryRecord, Tick, decode, is_tick
from schema.topics import OVERFLOW, TELEMETRY
from streams.logs import Log
from streams.logs import Record as LogRecord
from streams.logs.file import OffsetOutOfRange
from streams.worker import GROUP_ID

LOOK_BACK = 5_000
SOURCES_LOOK_BACK = 1000
SIZES_LOOK_BACK = 100
OVERFLOW_LOOK_AHEAD = 5000
OVERFLOW_RUNS = 8
"""Runs of records, of 1 MB each, that are kept: the next ones of other devices are among them."""


class OverflowTopic:
    """The overflow topic of a log, as `ingest.overflow` reads it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._runs: deque[list[LogRecord]] = deque(maxlen=OVERFLOW_RUNS)

    def read(self, offset: int, count: int) -> Sequence[tuple[int, bytes]]:
        """See `ingest.overflow.OverflowStore`."""
        for run in self._runs:
            if run[0].offset <= offset <= run[-1].offset:
                break
        else:
            run = self._fetched(offset)
            if run:
                self._runs.append(run)
        return [(record.offset, record.value) for record in run if record.offset >= offset][:count]

    def _fetched(self, offset: int) -> list[LogRecord]:
        try:
            return self._log.read(OVERFLOW, 0, offset, max_records=OVERFLOW_LOOK_AHEAD)
        except OffsetOutOfRange as gone:
            return self._fetched(gone.start) if offset < gone.start else []

    def position(self, source: str) -> int:
        """See `ingest.overflow.OverflowStore`."""
        return self._log.committed(_reader(source)).get((OVERFLOW, 0), 0)

    def note(self, source: str, offset: int) -> None:
        """See `ingest.overflow.OverflowStore`."""
        self._log.commit(_reader(source), {(OVERFLOW, 0): offset})


def overflow_floor(log: Log) -> int:
    """Return the offset in the overflow topic before which nothing waits, or an earlier one."""
    topic = OverflowTopic(log)
    positions: dict[str, int] = {}
    floor = log.start_offset(OVERFLOW, 0)
    for offset, value in topic.read(floor, OVERFLOW_LOOK_AHEAD):
        record = _decoded(value)
        if isinstance(record, TelemetryRecord):
            if record.source not in positions:
                positions[record.source] = topic.position(record.source)
            if offset >= positions[record.source]:
                break
        floor = offset + 1
    return floor


def lag_of(log: Log) -> Callable[[], dict[int, range]]:
    """Return what tells which offsets of the telemetry topic the workers have before themselves, by partition."""

    def lag() -> dict[int, range]:
        ends, committed = log.end_offsets(), log.committed(GROUP_ID)
        return {
            place[1]: range(max(committed.get(place, 0), log.start_offset(*place)), end)
            for place, end in ends.items()
            if place[0] == TELEMETRY
        }

    return lag


def record_bytes(log: Log, partitions: int) -> float:
    """Return the mean size of the newest records of the telemetry topic; 0 if there are none."""
    sizes = [
        len(record.value)
        for partition in range(partitions)
        for record in log.last(TELEMETRY, partition, SIZES_LOOK_BACK)
    ]
    return sum(sizes) / len(sizes) if sizes else 0.0


def last_ticks(log: Log, source: str, partitions: int) -> dict[int, int]:
    """Return the newest tick of a source, in ms, of each partition that has one among its newest `LOOK_BACK` records.

    A source that lives ticks all the time: one whose ticks lie deeper has long been said to have left.
    """
    found: dict[int, int] = {}
    for partition in range(partitions):
        end = log.end_offset(TELEMETRY, partition)
        oldest = max(log.start_offset(TELEMETRY, partition), end - LOOK_BACK)
        count = 16
        while partition not in found and oldest < end:
            begin = max(oldest, end - count)
            for value in _between(log, partition, begin, end):
                if is_tick(value) and isinstance(tick := _decoded(value), Tick) and tick.source == source:
                    found[partition] = tick.at_ms
            end, count = begin, count * 4
    return found


def _between(log: Log, partition: int, begin: int, end: int) -> Iterator[bytes]:
    while begin < end:
        for record in log.read(TELEMETRY, partition, begin, max_records=end - begin):
            yield record.value
            begin = record.offset + 1


def other_sources(log: Log, source: str, partitions: int) -> list[str]:
    """Return the other sources that have ticked lately, by the end of the log, and have not left since."""
    found: set[str] = set()
    for partition in range(partitions):
        seen: dict[str, bool] = {}
        for record in log.last(TELEMETRY, partition, SOURCES_LOOK_BACK):
            if is_tick(record.value) and isinstance(tick := _decoded(record.value), Tick):
                seen[tick.source] = tick.state != "left"
        found |= {name for name, counts in seen.items() if counts}
    return sorted(found - {source})


def _decoded(value: bytes) -> Record | None:
    """The record, or None for bytes that are none: whoever comes to it puts it into the quarantine."""
    try:
        return decode(value)
    except CorruptRecordError:
        return None


def _reader(source: str) -> str:
    return f"readmit-{source}"
