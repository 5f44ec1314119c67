"""What people ask for on the command line: alerts, work orders, customers; read from the tables, newest first."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.rows import class_row

Line = TypeVar("Line")


@dataclass(frozen=True, slots=True)
class AlertLine:
    """An alert for people; times are UTC."""

    alert_id: str
    state: str
    severity: str
    detector: str
    subsystem: str
    device_id: str
    site_id: str
    customer_id: str
    customer: str
    onset_at: datetime
    fired_at: datetime | None
    resolved_at: datetime | None
    acknowledged_by: str
    reason: str
    outcome: str
    suppressed_by: str
    flaps: int
    work_order: str
    """Number of its work order, or empty."""
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkOrderLine:
    """A work order for people; times are UTC."""

    work_order_id: str
    number: str
    state: str
    priority: str
    kind: str
    device_id: str
    subsystem: str
    site_id: str
    customer_id: str
    customer: str
    opened_at: datetime
    due_at: datetime
    done_at: datetime | None
    skill: str
    part_ids: list[str]
    technician_id: str
    suggested_technician_id: str
    outcome: str
    note: str
    alert_ids: list[str]


@dataclass(frozen=True, slots=True)
class CustomerLine:
    """A customer's latest health and its latest churn flag, if it ever had one; times are UTC."""

    customer_id: str
    customer: str
    segment: str
    region: str
    at: datetime | None
    health: float | None
    baseline: float | None
    decline_pct: float | None
    level: str
    known_weight: float | None
    flag_id: str | None
    flag_state: str
    flag_level: str
    raised_at: datetime | None
    owner_role: str
    owner: str
    intervention: str
    outcome: str
    evidence: dict[str, Any] | None
    """Of the flag."""


_ALERTS: LiteralString = """
SELECT a.alert_id::text, a.state, a.severity, a.detector, a.subsystem, a.device_id, a.site_id, a.customer_id,
    coalesce(c.name, a.customer_id) AS customer, a.onset_at, a.fired_at, a.resolved_at, a.acknowledged_by, a.reason,
    a.outcome, a.suppressed_by, a.flaps, coalesce(w.number, '') AS work_order, a.evidence
FROM alerts a LEFT JOIN customers c USING (customer_id) LEFT JOIN work_orders w USING (work_order_id)
WHERE (%(all)s OR a.state IN ('firing', 'acknowledged'))
  AND (%(customer_id)s::text IS NULL OR a.customer_id = %(customer_id)s)
  AND (%(device_id)s::text IS NULL OR a.device_id = %(device_id)s)
  AND (%(detector)s::text IS NULL OR a.detector = %(detector)s)
  AND (%(severity)s::text IS NULL OR a.severity = %(severity)s)
ORDER BY coalesce(a.fired_at, a.pending_at) DESC, a.alert_id
LIMIT %(limit)s
"""

_ORDERS: LiteralString = """
SELECT w.work_order_id::text, w.number, w.state, w.priority, w.kind, w.device_id, w.subsystem, w.site_id,
    w.customer_id, coalesce(c.name, w.customer_id) AS customer, w.opened_at, w.due_at, w.done_at, w.skill, w.part_ids,
    w.technician_id, w.suggested_technician_id, w.outcome, w.note, w.alert_ids
FROM work_orders w LEFT JOIN customers c USING (customer_id)
WHERE (%(all)s OR w.state <> 'done')
  AND (%(customer_id)s::text IS NULL OR w.customer_id = %(customer_id)s)
  AND (%(device_id)s::text IS NULL OR w.device_id = %(device_id)s)
  AND (%(technician_id)s::text IS NULL
       OR coalesce(nullif(w.technician_id, ''), w.suggested_technician_id) = %(technician_id)s)
ORDER BY (w.state = 'done'), w.priority, w.due_at, w.number
LIMIT %(limit)s
"""

_CUSTOMERS: LiteralString = """
SELECT c.customer_id, c.name AS customer, c.segment, c.region, h.at, h.health, h.baseline, h.decline_pct,
    coalesce(h.level, 'none') AS level, h.known_weight, f.flag_id::text, coalesce(f.state, '') AS flag_state,
    coalesce(f.level, '') AS flag_level, f.raised_at, coalesce(f.owner_role, '') AS owner_role,
    coalesce(f.owner, c.account_manager) AS owner, coalesce(f.intervention, '') AS intervention,
    coalesce(f.outcome, '') AS outcome, f.evidence
FROM customers c
LEFT JOIN LATERAL (
    SELECT * FROM customer_health WHERE customer_id = c.customer_id ORDER BY at DESC LIMIT 1
) h ON true
LEFT JOIN LATERAL (
    SELECT * FROM churn_flags WHERE customer_id = c.customer_id ORDER BY raised_at DESC LIMIT 1
) f ON true
WHERE (%(all)s OR f.state IN ('raised', 'acknowledged'))
  AND (%(customer_id)s::text IS NULL OR c.customer_id = %(customer_id)s)
ORDER BY h.decline_pct DESC NULLS LAST, c.customer_id
LIMIT %(limit)s
"""


def alerts(
    connection: psycopg.Connection[Any],
    *,
    everything: bool = False,
    customer_id: str | None = None,
    device_id: str | None = None,
    detector: str | None = None,
    severity: str | None = None,
    limit: int = 50,
) -> list[AlertLine]:
    """Alerts that are up, the newest first; with `everything` pending and resolved ones too."""
    values = {
        "all": everything,
        "customer_id": customer_id,
        "device_id": device_id,
        "detector": detector,
        "severity": severity,
        "limit": limit,
    }
    return _lines(connection, AlertLine, _ALERTS, values)


def work_orders(
    connection: psycopg.Connection[Any],
    *,
    everything: bool = False,
    customer_id: str | None = None,
    device_id: str | None = None,
    technician_id: str | None = None,
    limit: int = 50,
) -> list[WorkOrderLine]:
    """Open work orders, the most urgent first; with `everything` those that are done behind them.

    An order is a technician's when it is assigned to them, or suggested and not yet assigned to anybody else.
    """
    values = {
        "all": everything,
        "customer_id": customer_id,
        "device_id": device_id,
        "technician_id": technician_id,
        "limit": limit,
    }
    return _lines(connection, WorkOrderLine, _ORDERS, values)


def customers(
    connection: psycopg.Connection[Any],
    *,
    everything: bool = False,
    customer_id: str | None = None,
    limit: int = 50,
) -> list[CustomerLine]:
    """Customers with an open churn flag, the steepest decline first; with `everything` all customers."""
    return _lines(connection, CustomerLine, _CUSTOMERS, {"all": everything, "customer_id": customer_id, "limit": limit})


def _lines(
    connection: psycopg.Connection[Any], kind: type[Line], query: LiteralString, values: dict[str, Any]
) -> list[Line]:
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(query, values).fetchall()
