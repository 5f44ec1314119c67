"""What a bridge is told about the log: its last ticks, which sources count, how far the workers are, what waits."""

from collections.abc import Callable, Iterator, Sequence

from schema.record import CorruptRecordError, Record, TelemetryRecord, Tick, decode, is_tick
from schema.topics import OVERFLOW, TELEMETRY
from streams.logs import Log
from streams.worker import GROUP_ID

LOOK_BACK = 5_000
SOURCES_LOOK_BACK = 1000
OVERFLOW_LOOK_AHEAD = 5000


class OverflowTopic:
    """The overflow topic of a log, as `ingest.overflow` reads it."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def read(self, offset: int, count: int) -> Sequence[tuple[int, bytes]]:
        """See `ingest.overflow.OverflowStore`."""
        offset = max(offset, self._log.start_offset(OVERFLOW, 0))
        if offset >= self._log.end_offset(OVERFLOW, 0):
            return ()
        return [(record.offset, record.value) for record in self._log.read(OVERFLOW, 0, offset, max_records=count)]

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


def lag_of(log: Log) -> Callable[[], int]:
    """Return what tells how many records of the telemetry topic the workers have before themselves."""

    def lag() -> int:
        ends, committed = log.end_offsets(), log.committed(GROUP_ID)
        return sum(
            max(0, end - max(committed.get(place, 0), log.start_offset(*place)))
            for place, end in ends.items()
            if place[0] == TELEMETRY
        )

    return lag


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
