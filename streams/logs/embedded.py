"""The embedded log: topics of ordered partitions in one SQLite file, for one machine.

Values are opaque bytes. Offsets are dense from 0 in each partition, and never used again. Any number of processes
append; a reader asks by offset. Two decisions carry the rest:

- **One file, WAL, `synchronous=FULL`.** What `append` has returned survives `kill -9` and a loss of power; what it has
  not returned is there whole or not at all. Appends of threads that meet share one transaction and its one fsync.
- **One integer is a record's key**: partition id * 2^40 + offset. A partition is one range of the table, an append goes
  to its end, a read is one scan.

The file itself is in `streams/logs/file.py`, the right of one worker at a time in `streams/logs/lease.py`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from streams.logs import Record, wall_clock_ms
from streams.logs.file import (
    OffsetOutOfRange,
    PartitionsDiffer,
    UnknownPartition,
    as_log_error,
    execute_patiently,
    open_log_file,
    record_key,
)
from streams.logs.retention import delete_oldest

RETAIN_CHUNK = 1000  # records deleted in one transaction, so that appenders wait for milliseconds only


@dataclass(slots=True)
class _Append:
    """One caller's entries on their way into a transaction: (partition id, value) each; then offsets or an error."""

    entries: list[tuple[int, bytes]]
    offsets: list[int] = field(default_factory=list)
    error: BaseException | None = None
    done: bool = False


class EmbeddedLog:
    """A process's handle of a log file; threads may share it and take turns.

    A reader that must not wait for appends opens its own. `path` is created when absent; its folder must exist.
    `busy_timeout_ms` is how long a writer waits for other processes' transactions. Errors are those of
    `streams/logs/file.py`: a foreign, newer or damaged file is `LogUnusable`.
    """

    def __init__(
        self, path: Path, *, busy_timeout_ms: int = 10_000, clock_ms: Callable[[], int] = wall_clock_ms
    ) -> None:
        self.path = path
        self._clock_ms = clock_ms
        self._busy_timeout_ms = busy_timeout_ms
        self._db = open_log_file(path, busy_timeout_ms=busy_timeout_ms)
        self._lock = threading.RLock()
        self._waiting: list[_Append] = []
        self._waiting_lock = threading.Lock()
        self._ids: dict[tuple[str, int], int] = {}
        self._seen_version: int | None = None

    @property
    def broker_url(self) -> str:
        """The URL under which Faust finds this log: `sqlite:///path/of/the/log`."""
        return f"sqlite://{quote(str(self.path.resolve()))}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the last process to do so folds the WAL into it."""
        with self._lock:
            self._db.close()

    def create_topic(self, topic: str, partitions: int) -> None:
        """Make sure that `topic` has `partitions` partitions, numbered from 0; `PartitionsDiffer` if it has others."""
        with self.transaction() as db:
            count = db.execute("SELECT count(*) FROM partitions WHERE topic = ?", (topic,)).fetchone()[0]
            if count == 0:
                rows = [(topic, number) for number in range(partitions)]
                db.executemany("INSERT INTO partitions (topic, partition) VALUES (?, ?)", rows)
            elif count != partitions:
                raise PartitionsDiffer(topic, count, partitions)

    def topics(self) -> dict[str, int]:
        """Each topic's number of partitions."""
        return dict(self._query("SELECT topic, count(*) FROM partitions GROUP BY topic"))

    def append(self, entries: Sequence[tuple[str, int, bytes]]) -> list[int]:
        """Append (topic, partition, value)s, all or none; return their offsets in the same order, durable on return.

        Entries of one partition keep their order. Calls of several threads that wait for each other share one
        transaction. `LogFull` when the disk is full, `UnknownPartition` when a partition does not exist: nothing of the
        call is written then.
        """
        mine = _Append([(self._id(topic, partition), value) for topic, partition, value in entries])
        with self._waiting_lock:
            self._waiting.append(mine)
        with self._lock:
            if not mine.done:
                with self._waiting_lock:
                    group, self._waiting = self._waiting, []
                self._append_group(group)
        if mine.error is not None:
            raise mine.error
        return mine.offsets

    def _append_group(self, group: list[_Append]) -> None:
        try:
            with self.transaction() as db:
                offsets = self._insert(db, [entry for one in group for entry in one.entries])
        except BaseException as error:  # an interrupt too: nobody of the group may take its entries for appended
            for one in group:
                one.error, one.done = error, True
            return
        for one in group:
            one.offsets, one.done = [next(offsets) for _ in one.entries], True

    def _insert(self, db: sqlite3.Connection, entries: list[tuple[int, bytes]]) -> Iterator[int]:
        ends: dict[int, int] = {}
        sizes: dict[int, int] = {}
        offsets: list[int] = []
        for number, value in entries:
            if number not in ends:
                ends[number] = self._bounds(number)[1]
            offsets.append(ends[number])
            ends[number] += 1
            sizes[number] = sizes.get(number, 0) + len(value)
        now_ms = self._clock_ms()
        rows = zip(entries, offsets, strict=True)
        db.executemany(
            "INSERT INTO records VALUES (?, ?, ?)",
            ((record_key(number, offset), now_ms, value) for (number, value), offset in rows),
        )
        db.executemany(
            "UPDATE partitions SET next_offset = ?, bytes = bytes + ? WHERE id = ?",
            [(end, sizes[number], number) for number, end in ends.items()],
        )
        return iter(offsets)

    def commit(self, reader: str, offsets: Mapping[tuple[str, int], int]) -> None:
        """Note `reader`'s next offset in each (topic, partition). For people: the truth is in the reader's database."""
        rows = [(reader, self._id(*place), offset) for place, offset in offsets.items()]
        with self.transaction() as db:
            db.executemany(
                "INSERT INTO progress VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset",
                rows,
            )

    def retain(self, *, max_bytes: int, max_age_ms: int, floor: Mapping[tuple[str, int], int]) -> int:
        """Delete the oldest records while the values exceed `max_bytes`, and those older than `max_age_ms`.

        Only whole records below their partition's `floor` (the oldest snapshot's offset) go, and a partition without a
        floor loses nothing, so the log may stay larger than asked. Returns how many went. The file does not shrink:
        freed pages are used again.
        """
        oldest_ms = self._clock_ms() - max_age_ms
        floors = {self._id(*place): offset for place, offset in floor.items()}
        deleted = 0
        while True:
            with self.transaction() as db:
                chunk = delete_oldest(db, floors, max_bytes=max_bytes, oldest_ms=oldest_ms, limit=RETAIN_CHUNK)
            deleted += chunk
            if chunk < RETAIN_CHUNK:
                return deleted

    def read(
        self, topic: str, partition: int, offset: int, *, max_bytes: int = 1 << 20, max_records: int = 1000
    ) -> list[Record]:
        """Return the records from `offset` on: at least one if there is any, then no more than fit into both limits.

        `OffsetOutOfRange` if `offset` is below the first record kept or beyond the end; at the end the list is empty.
        """
        number = self._id(topic, partition)
        with self._lock, as_log_error(self.path):
            start, end = self._bounds(number)
            if offset == end:
                return []
            records = self._scan(number, offset, max_bytes, max_records) if start <= offset < end else []
            if not records or records[0].offset != offset:  # out of range, or deleted in this very moment
                raise OffsetOutOfRange(topic, partition, offset, *self._bounds(number))
            return records

    def _scan(self, number: int, offset: int, max_bytes: int, max_records: int) -> list[Record]:
        first = record_key(number, 0)
        rows = self._db.execute(
            "SELECT key - ?, value, appended_ms FROM records WHERE key >= ? AND key < ? ORDER BY key LIMIT ?",
            (first, first + offset, record_key(number + 1, 0), max_records),
        )
        records: list[Record] = []
        size = 0
        for row in rows:
            record = Record(*row)
            size += len(record.value)
            if records and size > max_bytes:
                break
            records.append(record)
        rows.close()
        return records

    def last(self, topic: str, partition: int, count: int = 1) -> list[Record]:
        """Return the newest `count` records (fewer if there are fewer), in offset order."""
        number = self._id(topic, partition)
        first = record_key(number, 0)
        rows = self._query(
            "SELECT key - ?, value, appended_ms FROM records WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT ?",
            (first, first, record_key(number + 1, 0), count),
        )
        return [Record(*row) for row in reversed(rows)]

    def start_offset(self, topic: str, partition: int) -> int:
        """Return the offset of the oldest record kept; the end offset when there is none."""
        with self._lock, as_log_error(self.path):
            return self._bounds(self._id(topic, partition))[0]

    def end_offset(self, topic: str, partition: int) -> int:
        """Return the offset that the next appended record will get."""
        with self._lock, as_log_error(self.path):
            return self._bounds(self._id(topic, partition))[1]

    def end_offsets(self) -> dict[tuple[str, int], int]:
        """Every partition's end offset, at one instant."""
        rows = self._query("SELECT topic, partition, next_offset FROM partitions")
        return {(topic, partition): offset for topic, partition, offset in rows}

    def committed(self, reader: str) -> dict[tuple[str, int], int]:
        """What `reader` last noted with `commit`; partitions it never noted are absent."""
        rows = self._query(
            "SELECT topic, partition, progress.next_offset FROM progress JOIN partitions ON id = partition_id"
            " WHERE reader = ?",
            (reader,),
        )
        return {(topic, partition): offset for topic, partition, offset in rows}

    def lease_epoch(self) -> tuple[int, str]:
        """Return the epoch of the newest lease, 0 before the first, and the name of its holder."""
        epoch, holder = self._query("SELECT epoch, holder FROM lease")[0]
        return epoch, holder

    def changed(self) -> bool:
        """Tell whether another handle has committed since the last call (true the first time): some microseconds."""
        version: int = self._query("PRAGMA data_version")[0][0]
        seen, self._seen_version = self._seen_version, version
        return version != seen

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the file's one write lock: all of the block is committed, or nothing of it."""
        with self._lock, as_log_error(self.path):
            execute_patiently(self._db, "BEGIN IMMEDIATE", self._busy_timeout_ms)
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite has rolled back already where the disk was full
                    self._db.execute("ROLLBACK")
                raise

    def _query(self, sql: str, values: tuple[object, ...] = ()) -> list[Any]:
        with self._lock, as_log_error(self.path):
            return self._db.execute(sql, values).fetchall()

    def _bounds(self, number: int) -> tuple[int, int]:
        start, end = self._db.execute(
            "SELECT start_offset, next_offset FROM partitions WHERE id = ?", (number,)
        ).fetchone()
        return start, end

    def _id(self, topic: str, partition: int) -> int:
        """Look a partition's id up: ids never change, so the file is asked only about a partition not seen yet."""
        place = (topic, partition)
        if place not in self._ids:
            rows = self._query("SELECT topic, partition, id FROM partitions")
            self._ids = {(name, number): id_ for name, number, id_ in rows}
        try:
            return self._ids[place]
        except KeyError:
            raise UnknownPartition(f"{self.path}: no partition {topic}/{partition}") from None
