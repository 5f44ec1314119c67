"""Find what the database refuses (a text with a NUL, a number or a time out of its range), so that the rest is stored.

Asked only after a transaction was refused for its data. Each row is judged by itself, so what is refused does not
depend on the rows that happened to share a transaction with it, and a replay refuses the same.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec
import psycopg
from psycopg import AsyncConnection

from schema.rows import QuarantineRow
from streams.effects import Effects
from streams.layout import Layout
from streams.quarantine import refused_bytes
from streams.telemetry_rows import write_telemetry
from streams.upsert import upsert

REFUSALS = (psycopg.DataError, OverflowError, UnicodeError)
"""What a value raises that the database, or its client on the way there, cannot take."""

_Item = TypeVar("_Item")


async def sift(connection: AsyncConnection[Any], partition: int, effects: Effects, layout: Layout) -> list[str]:
    """Move what the database refuses out of `effects` into the quarantine; return the tables it was meant for.

    Nothing is written: all of it is tried within a transaction that is rolled back.
    """

    async def rollups(indices: Sequence[int]) -> None:
        closed = effects.closed[list(indices)]
        await write_telemetry(connection, Effects(closed=closed, filled=len(closed)), layout)

    async with connection.transaction(force_rollback=True):
        rows = await _refused(connection, list(effects.rows.items()), lambda part: upsert(connection, _values(part)))
        readings = await _refused(
            connection, effects.readings, lambda part: write_telemetry(connection, Effects(readings=list(part)), layout)
        )
        faults = await _refused(
            connection, effects.faults, lambda part: write_telemetry(connection, Effects(faults=list(part)), layout)
        )
        panes = await _refused(connection, range(effects.filled), rollups)
    gone: list[tuple[str, str, Any]] = []
    for key, row in rows:
        del effects.rows[key]
        gone.append((row.TABLE, repr(key[1:]), row))
    for message in readings:
        content = (message.boot, message.slots.tolist(), message.ts_ms.tolist(), message.n.tolist())
        gone.append(("readings", layout.device_name(message.device), content))
    gone += [("faults", fault[0], fault) for fault in faults]
    for index in panes:
        device, *content = effects.closed[index].item()
        gone.append(("rollups", layout.device_name(device), content))
    effects.readings = [each for each in effects.readings if not any(each is other for other in readings)]
    effects.faults = [each for each in effects.faults if each not in faults]
    kept = sorted(set(range(effects.filled)) - set(panes))
    effects.closed[: len(kept)] = effects.closed[kept]
    effects.filled = len(kept)
    effects.put(_quarantined(partition, *each) for each in gone)
    return [table for table, _, _ in gone]


async def _refused(
    connection: AsyncConnection[Any], items: Sequence[_Item], write: Callable[[Sequence[_Item]], Awaitable[object]]
) -> list[_Item]:
    """Return the items that cannot be written, by halving what is refused until it is one item."""
    if not items:
        return []
    try:
        async with connection.transaction(force_rollback=True):
            await write(items)
    except REFUSALS:
        if len(items) == 1:
            return [items[0]]
        middle = len(items) // 2
        return [
            *await _refused(connection, items[:middle], write),
            *await _refused(connection, items[middle:], write),
        ]
    return []


def _values(items: Sequence[tuple[Any, Any]]) -> list[Any]:
    return [row for _, row in items]


def _quarantined(partition: int, table: str, whose: str, content: Any) -> QuarantineRow:
    return refused_bytes(
        f"log/{partition}/{table}",
        msgspec.json.encode((whose, content), order="deterministic"),
        "database_refused",
        f"{table} of {whose!a}: PostgreSQL does not take a value",
    )
