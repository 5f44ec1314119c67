"""What a log is to those who append to it or look into it; the worker reads it through Faust, by `broker_url`.

Two logs answer: `streams.logs.embedded.EmbeddedLog` (one SQLite file) and `streams.logs.kafka.KafkaLog`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self


def wall_clock_ms() -> int:
    """Milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """One appended value. `appended_ms` is the wall clock of the append, for retention and people only."""

    offset: int
    value: bytes
    appended_ms: int


class Log(Protocol):
    """Topics of ordered partitions; offsets are dense from 0 in each partition. Threads may share a handle.

    Errors are `LogError`s; of these `LogFull`, `LogBusy` and `LogUnreachable` pass: the call may be repeated.
    """

    @property
    def broker_url(self) -> str:
        """The URL under which Faust finds this log."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def close(self) -> None:
        """Let go of the log."""

    def create_topic(self, topic: str, partitions: int) -> None:
        """Make sure that `topic` has `partitions` partitions, numbered from 0; `PartitionsDiffer` if it has others."""

    def append(self, entries: Sequence[tuple[str, int, bytes]]) -> list[int]:
        """Append (topic, partition, value)s; return their offsets in the same order, durable on return.

        Entries of one partition keep their order: none is in the log without those before it. Where the call raises,
        any part may have been written that keeps this; the embedded log writes all or nothing.
        """

    def last(self, topic: str, partition: int, count: int = 1) -> list[Record]:
        """Return the newest `count` records (fewer if there are fewer), in offset order."""

    def read(
        self, topic: str, partition: int, offset: int, *, max_bytes: int = 1 << 20, max_records: int = 1000
    ) -> list[Record]:
        """Return records from `offset` on: at least one if there is any; `OffsetOutOfRange` outside of what is kept."""

    def start_offset(self, topic: str, partition: int) -> int:
        """Return the offset of the oldest record kept; the end offset when there is none."""

    def end_offset(self, topic: str, partition: int) -> int:
        """Return the offset that the next appended record will get."""

    def end_offsets(self) -> dict[tuple[str, int], int]:
        """Every partition's end offset."""

    def commit(self, reader: str, offsets: Mapping[tuple[str, int], int]) -> None:
        """Note `reader`'s next offsets: advisory, the truth is in the reader's database."""

    def committed(self, reader: str) -> dict[tuple[str, int], int]:
        """What `reader` last noted; partitions it never noted are absent."""

    def retain(self, *, max_bytes: int, max_age_ms: int, floor: Mapping[tuple[str, int], int]) -> int:
        """Delete the oldest records, none at or above its partition's `floor`; return how many went."""
