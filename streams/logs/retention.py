"""Which records of the embedded log go when it has become too large or too old."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from heapq import merge
from operator import itemgetter

from streams.logs.file import record_key


def delete_oldest(
    db: sqlite3.Connection, floors: Mapping[int, int], *, max_bytes: int, oldest_ms: int, limit: int
) -> int:
    """Delete at most `limit` records, oldest first over all partitions; return how many.

    A record goes while all values together exceed `max_bytes` or if it was appended before `oldest_ms`, and only if its
    offset is below its partition's floor (`floors`, by partition id). Runs inside the caller's transaction.
    """
    held = db.execute("SELECT coalesce(sum(bytes), 0) FROM partitions").fetchone()[0]
    candidates = merge(*(_oldest(db, number, below, limit) for number, below in floors.items()), key=itemgetter(0))
    stops: dict[int, int] = {}
    freed: dict[int, int] = {}
    deleted = 0
    for appended_ms, number, offset, size in candidates:
        if deleted == limit or (held <= max_bytes and appended_ms >= oldest_ms):
            break
        stops[number] = offset + 1
        freed[number] = freed.get(number, 0) + size
        held -= size
        deleted += 1
    for number, stop in stops.items():
        keys = (record_key(number, 0), record_key(number, stop))
        db.execute("DELETE FROM records WHERE key >= ? AND key < ?", keys)
        row = (stop, freed[number], number)
        db.execute("UPDATE partitions SET start_offset = ?, bytes = bytes - ? WHERE id = ?", row)
    return deleted


def _oldest(db: sqlite3.Connection, number: int, below: int, limit: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (appended_ms, partition id, offset, bytes) of a partition's records below an offset, in offset order."""
    first = record_key(number, 0)
    rows = db.execute(
        "SELECT appended_ms, key - ?, length(value) FROM records WHERE key >= ? AND key < ? ORDER BY key LIMIT ?",
        (first, first, record_key(number, below), limit),
    )
    return ((appended_ms, number, offset, size) for appended_ms, offset, size in rows)
