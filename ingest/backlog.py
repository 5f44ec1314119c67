"""How many bytes of the log lie before the workers: counted as they are written, not taken from a mean of all times.

Of each partition a mark is kept about every `MARK_BYTES`: at this offset, so many records and bytes were ours. Between
two marks the bytes are taken to lie evenly, so a partition is wrong by that much at most. Records of other bridges in
between are taken for as large as ours beside them, and those from before our first as large as the newest were then.
"""

import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ingest.batch import Entry
from schema.topics import TELEMETRY

MARK_BYTES = 1 << 20
MARKS_KEPT = 1024
"""Of a partition; with more, every second one is given up."""

Mark = tuple[int, int, int]
"""Offset; records and bytes that this bridge had written before it."""


@dataclass(slots=True)
class _Written:
    """What this bridge has written to one partition; `marks` is in order and begins with its first record."""

    marks: list[Mark] = field(default_factory=list)
    stop: Mark = (0, 0, 0)

    def add(self, offset: int, size: int) -> None:
        _, records, written = self.stop
        if not self.marks or written - self.marks[-1][2] >= MARK_BYTES:
            self.marks.append((offset, records, written))
            if len(self.marks) > MARKS_KEPT:
                del self.marks[1::2]
        self.stop = (offset + 1, records + 1, written + size)

    def until(self, offset: int) -> tuple[float, float]:
        """Our records and bytes before an offset."""
        if offset >= self.stop[0]:
            return self.stop[1:]
        i = bisect_right(self.marks, offset, key=lambda mark: mark[0])
        if i == 0:
            return 0.0, 0.0
        low, high = self.marks[i - 1], self.marks[i] if i < len(self.marks) else self.stop
        share = (offset - low[0]) / (high[0] - low[0])
        return low[1] + share * (high[1] - low[1]), low[2] + share * (high[2] - low[2])

    def forget(self, offset: int) -> None:
        """Give up the marks that what lies from an offset on does not need."""
        del self.marks[: max(0, bisect_right(self.marks, offset, key=lambda mark: mark[0]) - 1)]


class Backlog:
    """Counts what the bridge appends; `look` says how much of it waits. Two threads may do so.

    `lag` gives the offsets that wait for the workers, by partition of the telemetry topic; `record_bytes` is the size
    of a record in the log as this bridge starts.
    """

    def __init__(self, lag: Callable[[], Mapping[int, range]], record_bytes: float) -> None:
        self._lag = lag
        self._record_bytes = record_bytes
        self._written: dict[int, _Written] = {}
        self._lock = threading.Lock()

    def appended(self, entries: Sequence[Entry], offsets: Sequence[int]) -> None:
        """Note an append."""
        with self._lock:
            for (topic, partition, value), offset in zip(entries, offsets, strict=True):
                if topic == TELEMETRY:
                    self._written.setdefault(partition, _Written()).add(offset, len(value))

    def look(self) -> int:
        """Bytes that wait, about; what `lag` raises goes through."""
        waiting = self._lag()
        with self._lock:
            return round(sum(self._bytes(partition, offsets) for partition, offsets in waiting.items()))

    def _bytes(self, partition: int, offsets: range) -> float:
        written = self._written.get(partition)
        if written is None or not offsets:
            return len(offsets) * self._record_bytes
        written.forget(offsets.start)
        before = len(range(offsets.start, min(offsets.stop, written.marks[0][0])))
        records, size = (
            until - of for until, of in zip(written.until(offsets.stop), written.until(offsets.start), strict=True)
        )
        mean = size / records if records else self._record_bytes
        return before * self._record_bytes + (len(offsets) - before) * mean
