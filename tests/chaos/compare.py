"""All that a run leaves in its database, and how two of them differ: exact multisets of rows, table by table.

Left out is what tells of the way and not of the result (DESIGN 3.6): offsets and epochs (`partition_progress`), the
wall clock, delivery attempts, what partitions contribute to each other (kept as long as some cut needs it, and what
came of it is in the states), and snapshots, whose bytes are no canonical form: instead of them the states that they
hold are compared, as values, but for whether a connection was lost, for it was (a broker may fire a last will after the
last tick, which then waits for the next). Everything else counts, `revisions` of
rollups included: a message is applied between the same two ticks as if nothing had happened, so what was late is late
and nothing else.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import psycopg

from schema.catalogue import Catalogue
from schema.topics import TELEMETRY
from streams import snapshot
from streams.canonical import canonical

LEFT_OUT: Mapping[str, frozenset[str]] = {
    "partition_progress": frozenset({"*"}),
    "state_snapshots": frozenset({"*"}),
    "schema_migrations": frozenset({"*"}),
    "fleet_contributions": frozenset({"*"}),
    "outbox": frozenset({"attempts", "next_attempt_at", "delivered_at", "last_error"}),
}
"""Columns that are not compared; `*` is all of them."""
SHOWN = 5

_COLUMNS = """
SELECT c.table_name, c.column_name,
       EXISTS (SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
               WHERE i.indrelid = format('public.%%I', c.table_name)::regclass AND i.indisprimary
                   AND a.attname = c.column_name)
FROM information_schema.columns AS c JOIN information_schema.tables AS t USING (table_schema, table_name)
WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.table_name <> ALL (%s)
ORDER BY c.table_name, c.ordinal_position
"""


@dataclass(frozen=True)
class Table:
    """Rows as text, each as many times as it is there; `key` are the columns that make a row's identity."""

    columns: tuple[str, ...]
    key: tuple[str, ...]
    rows: Counter[tuple[str, ...]]


def contents(database_url: str, catalogue: Catalogue) -> dict[str, Table]:
    """Read what a run has left: its tables, and its partitions' states as `(state)`."""
    whole = [table for table, columns in LEFT_OUT.items() if "*" in columns]
    with psycopg.connect(database_url) as connection:
        columns: dict[str, list[str]] = {}
        keys: dict[str, list[str]] = {}
        for table, column, in_key in connection.execute(_COLUMNS, [whole]).fetchall():
            if column not in LEFT_OUT.get(table, ()):
                columns.setdefault(table, []).append(column)
                if in_key:
                    keys.setdefault(table, []).append(column)
        found = {
            table: Table(tuple(names), tuple(keys.get(table, names)), _rows(connection, table, names))
            for table, names in columns.items()
        }
        found["(state)"] = _states(connection, catalogue)
    return found


def _rows(connection: psycopg.Connection[Any], table: str, names: Sequence[str]) -> Counter[tuple[str, ...]]:
    query = psycopg.sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(
        psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, names)), psycopg.sql.Identifier(table)
    )
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        text = b"".join(bytes(block) for block in copy).decode()
    return Counter(tuple(line.split("\t")) for line in text.splitlines())


def _states(connection: psycopg.Connection[Any], catalogue: Catalogue) -> Table:
    """What the workers knew when they stopped in order: each device, and each field of what devices share."""
    rows: Counter[tuple[str, ...]] = Counter()
    progress = connection.execute(
        "SELECT partition, next_offset = snapshot_offset FROM partition_progress WHERE topic = %s", (TELEMETRY,)
    ).fetchall()
    for partition, complete in progress:
        assert complete, f"partition {partition} was not given up in order"
        saved = connection.execute(
            "SELECT key, state FROM state_snapshots WHERE topic = %s AND partition = %s", (TELEMETRY, partition)
        ).fetchall()
        state = snapshot.load(partition, catalogue, dict(saved))
        for device_id, device in state.devices.items():
            device.online = True
            device.held = [message for message in device.held if message.kind != "will"]
            rows[f"{partition}", device_id, repr(canonical(device))] += 1
        state.shared.waiting = {device_id for device_id in state.shared.waiting if state.devices[device_id].held}
        for name, value in canonical(state.shared)[1]:
            rows[f"{partition}", name, repr(value)] += 1
    return Table(("partition", "name", "value"), ("partition", "name"), rows)


def differences(expected: Mapping[str, Table], found: Mapping[str, Table]) -> list[str]:
    """Say how two runs differ, at most `SHOWN` rows a table; nothing where they are the same."""
    told = [f"{table}: not in both" for table in sorted(expected.keys() ^ found.keys())]
    for table in sorted(expected.keys() & found.keys()):
        told += _told(table, expected[table], found[table])
    return told


def _told(name: str, expected: Table, found: Table) -> list[str]:
    if expected == found:
        return []
    places = [expected.columns.index(column) for column in expected.key]
    missing = {_key(row, places): row for row in expected.rows - found.rows}
    extra = {_key(row, places): row for row in found.rows - expected.rows}
    lines = [f"{name}: {expected.rows.total()} rows expected, {found.rows.total()} found; these differ:"]
    for key in islice(sorted(missing.keys() | extra.keys()), SHOWN):
        where = ", ".join(f"{column}={value}" for column, value in zip(expected.key, key, strict=True))
        before, after = missing.get(key), extra.get(key)
        if before is None or after is None:
            lines.append(f"  {where[:300]}: {'missing' if after is None else 'too many'}")
            continue
        for column, old, new in zip(expected.columns, before, after, strict=True):
            if old != new:
                lines.append(f"  {where[:300]}: {column} {_around(old, new)} became {_around(new, old)}")
    count = len(missing.keys() | extra.keys())
    return lines + ([f"  … and {count - SHOWN} more"] if count > SHOWN else [])


def _key(row: tuple[str, ...], places: Sequence[int]) -> tuple[str, ...]:
    return tuple(row[place] for place in places)


def _around(text: str, other: str) -> str:
    """Where a long value differs from another."""
    first = next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))
    return repr(text) if len(text) < 120 else "…" + text[max(0, first - 60) : first + 60] + "…"
