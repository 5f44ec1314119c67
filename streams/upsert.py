"""Rows of `schema.rows` as SQL: the statement for each table, and Python values as its column types want them."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import msgspec
from psycopg import AsyncConnection, sql
from psycopg.types.json import Jsonb

from schema.rows import ROWS, Row

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(ms: int) -> datetime:
    """Aware datetime of ms since the epoch, exact."""
    return _EPOCH + timedelta(milliseconds=ms)


def _converter(row: type[Row], column: str) -> Callable[[Any], Any] | None:
    if column == "at" or column.endswith("_at"):
        return lambda ms: None if ms is None else instant(ms)
    annotation = row.__annotations__[column]
    if getattr(annotation, "__origin__", None) is dict:
        return Jsonb
    return None


class _Table:
    def __init__(self, row: type[Row]) -> None:
        self.columns = [field.name for field in msgspec.structs.fields(row)]
        self.converters = [_converter(row, column) for column in self.columns]
        changed = [column for column in self.columns if column not in row.KEY]
        names = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        updates = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column)) for column in changed)
        conflict = sql.SQL("DO NOTHING") if row.FIRST_STAYS else sql.SQL("DO UPDATE SET {}").format(updates)
        self.statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) {}").format(
            sql.Identifier(row.TABLE),
            names,
            sql.SQL(", ").join([sql.Placeholder()] * len(self.columns)),
            sql.SQL(", ").join(map(sql.Identifier, row.KEY)),
            conflict,
        )

    def values(self, row: Row) -> list[Any]:
        return [
            getattr(row, column) if convert is None else convert(getattr(row, column))
            for column, convert in zip(self.columns, self.converters, strict=True)
        ]


_TABLES = {row.TABLE: _Table(row) for row in ROWS}


async def upsert(connection: AsyncConnection[Any], rows: Iterable[Row]) -> None:
    """Insert or replace rows by their keys, table by table."""
    by_table = sorted(rows, key=lambda row: row.TABLE)
    async with connection.cursor() as cursor:
        for name, group in groupby(by_table, key=lambda row: row.TABLE):
            table = _TABLES[name]
            await cursor.executemany(table.statement, [table.values(row) for row in group])
