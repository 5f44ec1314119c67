"""What Grafana's PostgreSQL data source does to a query before the database sees it, and to rows before a panel does.

Follows the source's own code: `macros.go` and `sqleng/sql_engine.go` in `pkg/tsdb/grafana-postgresql-datasource` of
Grafana, and the "PostgreSQL query editor" page of its documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import psycopg

NUMBERS = {20: "int8", 21: "int2", 23: "int4", 700: "float4", 701: "float8", 1700: "numeric"}
TIMES = {1114: "timestamp", 1184: "timestamptz"}
TEXTS = {25: "text", 1043: "varchar", 19: "name"}
SHOWN = {**NUMBERS, **TIMES, **TEXTS, 16: "bool"}
"""Types that a table shows as people expect; arrays, intervals and JSON are not among them."""

DATA_LINK_FIELD = re.compile(r"\$\{__data\.fields\.([^}]+)\}")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_ROUNDED_S = (
    (15, 10), (17, 15), (25, 20), (45, 30), (90, 60), (210, 120), (450, 300), (750, 600), (1_050, 900), (1_500, 1_200),
    (2_700, 1_800), (5_400, 3_600), (9_000, 7_200), (16_200, 10_800), (32_400, 21_600), (86_400, 43_200),
    (604_800, 86_400), (1_814_400, 604_800),
)  # fmt: skip
"""Below the first, Grafana rounds an interval to the second (`rangeutil.roundInterval`)."""


@dataclass(frozen=True)
class View:
    """What is on the screen: range, chosen values, and whether the source is marked as TimescaleDB."""

    start: datetime
    stop: datetime
    chosen: Mapping[str, Sequence[str]]
    timescaledb: bool = True

    def interval_s(self, panel: Mapping[str, Any]) -> int:
        """`$__interval` of a panel: range by points, rounded, at least the panel's own minimum."""
        points = panel.get("maxDataPoints") or 1000
        exact = (self.stop - self.start).total_seconds() / points
        rounded = next(to for below, to in _ROUNDED_S if exact < below)
        return max(rounded, _seconds(panel.get("interval") or "1s"))

    def expand(self, sql: str, interval_s: int) -> str:
        """The query with macros and variables replaced; ValueError for what Grafana does not know."""
        sql = re.sub(r"\$\{(\w+):sqlstring\}", lambda match: self._quoted(match[1]), sql)
        sql = sql.replace("$__interval_ms", str(interval_s * 1000)).replace("$__interval", f"{interval_s}s")
        sql = re.sub(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)", self._macro, sql)
        if "$" in sql or "[[" in sql:
            raise ValueError(f"something is left for Grafana to replace: {sql}")
        return sql

    def _quoted(self, name: str) -> str:
        return ",".join("'" + value.replace("'", "''") + "'" for value in self.chosen[name])

    def _macro(self, match: re.Match[str]) -> str:
        name, arguments = match[1], [argument.strip() for argument in match[2].split(",")]
        start, stop = (f"'{moment:%Y-%m-%dT%H:%M:%SZ}'" for moment in (self.start, self.stop))
        if name == "__timeFilter":
            return f"{arguments[0]} BETWEEN {start} AND {stop}"
        if name == "__timeFrom":
            return start
        if name == "__timeTo":
            return stop
        if name in ("__timeGroup", "__timeGroupAlias"):
            width = _seconds(arguments[1].strip("'"))
            group = f"floor(extract(epoch from {arguments[0]})/{width})*{width}"
            if self.timescaledb:
                group = f"time_bucket('{width}.000s',{arguments[0]})"
            return group + (' AS "time"' if name == "__timeGroupAlias" else "")
        raise ValueError(f"unknown macro {name}")


def _seconds(interval: str) -> int:
    return int(interval[:-1]) * _UNITS[interval[-1]]


@dataclass(frozen=True)
class Result:
    """What the database answered."""

    columns: dict[str, int]
    """Type numbers by name, in order."""
    rows: list[tuple[Any, ...]]

    def column(self, name: str) -> list[Any]:
        place = list(self.columns).index(name)
        return [row[place] for row in self.rows]

    @property
    def numbers(self) -> list[str]:
        return [name for name, kind in self.columns.items() if kind in NUMBERS and name != "time"]


def run(connection: psycopg.Connection[Any], sql: str) -> Result:
    """Runs a query as the boards' role, in a transaction that is undone."""
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL ROLE wardwatch_reader")
        cursor = connection.execute(sql.encode())
        assert cursor.description is not None
        return Result({column.name: column.type_code for column in cursor.description}, cursor.fetchall())


def choose(connection: psycopg.Connection[Any], board: Mapping[str, Any], view: View) -> View:
    """The view with the board's variables as they are when it opens: all where all is the default, else the first."""
    chosen: dict[str, Sequence[str]] = {}
    for variable in board["templating"]["list"]:
        result = run(connection, View(view.start, view.stop, chosen, view.timescaledb).expand(variable["query"], 3600))
        assert list(result.columns) == ["__text", "__value"], variable["name"]
        values = result.column("__value")
        assert len(set(values)) == len(values), f"{variable['name']} offers a value twice"
        everything = variable.get("current", {}).get("value") == ["$__all"]
        chosen[variable["name"]] = values if everything else values[:1]
    return View(view.start, view.stop, chosen, view.timescaledb)


def misfits(panel: Mapping[str, Any], target: Mapping[str, Any], result: Result) -> list[str]:
    """What keeps the panel from showing the rows as meant; rows themselves may be missing."""
    found = []
    if target["format"] == "time_series":
        found += _series_misfits(result)
    else:
        found += [f"{name} has a type no table shows" for name, kind in result.columns.items() if kind not in SHOWN]
    match panel["type"]:
        case "stat":
            if len(result.rows) != 1 or len(result.columns) != 1 or not result.numbers:
                found.append("a stat needs one number")
        case "piechart":
            if len(result.rows) != 1 or len(result.numbers) != len(result.columns):
                found.append("a donut needs one row of numbers")
        case "bargauge":
            if len(result.numbers) != 1 or len(result.columns) != 2:
                found.append("a ranking needs a text and a number")
        case "heatmap":
            if list(result.columns) != ["time", "metric", "value"]:
                found.append("a heatmap needs time, row and count")
        case "state-timeline":
            known = set(panel["fieldConfig"]["defaults"]["mappings"][0]["options"])
            strange = {value for value in result.column("value") if str(int(value)) not in known}
            if strange:
                found.append(f"states without a name: {strange}")
        case "trend":
            along = result.column(panel["options"]["xField"])
            if any(before >= after for before, after in pairwise(along)):
                found.append("what is along the axis does not ascend")
            if len(result.numbers) != len(result.columns):
                found.append("a curve needs numbers")
    if panel["type"] in ("table", "piechart", "trend"):
        found += [f"no column {name}" for name in _named_columns(panel) - result.columns.keys()]
    return found


def _series_misfits(result: Result) -> list[str]:
    found = []
    if "time" not in result.columns:
        return ["no column named time"]
    if result.columns["time"] not in TIMES and result.columns["time"] not in NUMBERS:
        found.append("time is not a time")
    times = result.column("time")
    if None in times:
        found.append("a row without time")
    elif times != sorted(times):
        found.append("time does not ascend")
    if not result.numbers:
        found.append("no number to draw")
    others = [name for name in result.columns if name != "time" and name not in result.numbers]
    if others and (others != ["metric"] or len(result.columns) != 3):
        found.append(f"series would not be named by one text: {list(result.columns)}")
    keys = list(zip(times, result.column("metric") if others == ["metric"] else times, strict=True))
    if len(set(keys)) != len(keys):
        found.append("two values of a series at one time")
    return found


def _named_columns(panel: Mapping[str, Any]) -> set[str]:
    named = set()
    for override in panel["fieldConfig"]["overrides"]:
        named.add(override["matcher"]["options"])
        for link in (link for rule in override["properties"] if rule["id"] == "links" for link in rule["value"]):
            named |= set(DATA_LINK_FIELD.findall(link["url"]))
    return named


def shown(result: Result) -> bool:
    """Whether there is at least one row with a value in it (a column of numbers may not be empty throughout)."""
    return bool(result.rows) and all(any(value is not None for value in result.column(name)) for name in result.numbers)
