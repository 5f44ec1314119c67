"""SQL as Grafana's PostgreSQL data source takes it, and the predicates that the boards share.

Grafana replaces `$__timeFilter(column)`, `$__timeGroupAlias(column, interval)`, `$__timeFrom()`, `$__timeTo()`,
`$__interval`, `$__interval_ms` and `${variable:sqlstring}` (quoted, comma-separated) before the database sees a query.
A macro's arguments end at the first closing parenthesis. Nothing here asks the wall clock: "now" is the end of the
range that the board shows, so a board can be moved to any past moment, and to simulated time.
"""

# ruff: noqa: S608 - what is put into SQL are names of columns and macros, given by this package

from dataclasses import dataclass
from typing import Any, Literal, Self

DATA_SOURCE_UID = "wardwatch"
DATA_SOURCE_TYPE = "grafana-postgresql-datasource"
DATA_SOURCE: dict[str, str] = {"type": DATA_SOURCE_TYPE, "uid": DATA_SOURCE_UID}
"""How panels, variables and annotations refer to the data source."""

FROM = "$__timeFrom()::timestamptz"
TO = "$__timeTo()::timestamptz"
STEP = "$__interval_ms * interval '1 millisecond'"

Format = Literal["table", "time_series"]


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel, in the shape that the SDK's builders take as a target: it builds itself.

    A `time_series` has a column `time` in ascending order and number columns, each a series under its name; with
    exactly three columns, of which one is a text named `metric`, that text names the series. A `table` is shown as it
    is.
    """

    sql: str
    format: Format
    ref_id: str = "A"

    def build(self) -> Self:
        """Itself: nothing is left to build."""
        return self

    def to_json(self) -> dict[str, Any]:
        """The target as Grafana stores it."""
        return {
            "refId": self.ref_id,
            "datasource": DATA_SOURCE,
            "format": self.format,
            "rawQuery": True,
            "editorMode": "code",
            "rawSql": self.sql.strip(),
        }


def alert_is_up(moment: str, alert: str = "a") -> str:
    """Predicate: the alert (a row of `alerts` under the alias) has fired and is not resolved at the moment."""
    return f"({alert}.fired_at <= {moment} AND ({alert}.resolved_at IS NULL OR {alert}.resolved_at > {moment}))"


def order_is_open(moment: str, order: str = "o") -> str:
    """Predicate: the work order (a row of `work_orders` under the alias) is not done at the moment."""
    return f"({order}.opened_at <= {moment} AND ({order}.done_at IS NULL OR {order}.done_at > {moment}))"


def flag_is_open(moment: str, flag: str = "f") -> str:
    """Predicate: the churn flag (a row of `churn_flags` under the alias) is not closed at the moment."""
    return f"({flag}.raised_at <= {moment} AND ({flag}.closed_at IS NULL OR {flag}.closed_at > {moment}))"


def alert_concerns(device: str = "d", alert: str = "a") -> str:
    """Predicate: the alert is of the device, or of its whole site."""
    return (
        f"({alert}.device_id = {device}.device_id OR ({alert}.device_id = '' AND {alert}.site_id = {device}.site_id))"
    )


def facts(evidence: str) -> str:
    """Table expression: the plain values of a JSON object and of the objects in it, as rows of `what` and `value`.

    Durations (`…_ms`) are told in hours. Lists, and what is written for machines or in another language, are left out.
    """
    return rf"""(
    SELECT replace(regexp_replace(concat_ws(' ', whole.key, part.key), '_ms\Z', ''), '_', ' ') AS what,
        CASE WHEN jsonb_typeof(v) <> 'number' THEN replace(v #>> '{{}}', '_', ' ')
            WHEN coalesce(part.key, whole.key) LIKE '%\_ms' THEN round((v #>> '{{}}')::numeric / 3600000, 1) || ' h'
            ELSE trim_scale(round((v #>> '{{}}')::numeric, 2))::text END AS value
    FROM jsonb_each({evidence}) whole
    LEFT JOIN LATERAL jsonb_each(CASE jsonb_typeof(whole.value) WHEN 'object' THEN whole.value ELSE '{{}}' END) part
        ON true
    CROSS JOIN LATERAL coalesce(part.value, whole.value) v
    WHERE jsonb_typeof(v) IN ('string', 'number', 'boolean')
        AND whole.key NOT IN ('version', 'advice_zh', 'features', 'last_heard')
)"""


def readable(evidence: str) -> str:
    """Expression: the facts of the evidence but the advice, in one line."""
    return f"""(SELECT string_agg(fact.what || ' ' || fact.value, ', ' ORDER BY fact.what)
        FROM {facts(evidence)} fact WHERE fact.what <> 'advice')"""


CALENDAR = """
SELECT from_at AS time, until_at AS timeend, name AS text, kind AS tags
FROM calendars
WHERE from_at <= $__timeTo()::timestamptz AND until_at >= $__timeFrom()::timestamptz
ORDER BY 1
"""
"""Holidays and planned maintenance, shaded on every time axis: they explain a dip."""
