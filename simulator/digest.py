"""A hash of what was decided, the same for two runs that decided the same."""

import hashlib

import msgspec
import psycopg

_TABLES = {
    "alerts": (
        "device_id, site_id, customer_id, detector, subsystem, severity, state, outcome, flaps, suppressed_by,"
        " work_order_id IS NOT NULL",
        ("onset_at", "pending_at", "fired_at", "acknowledged_at", "resolved_at"),
    ),
    "work_orders": (
        "device_id, site_id, customer_id, kind, subsystem, priority, state, skill, suggested_technician_id,"
        " technician_id, part_ids, used_part_ids, outcome, cardinality(alert_ids)",
        ("opened_at", "due_at", "assigned_at", "started_at", "done_at"),
    ),
    "churn_flags": (
        "customer_id, state, level, owner_role, owner, intervention, outcome",
        ("raised_at", "blue_at", "yellow_at", "orange_at", "red_at", "acknowledged_at", "closed_at"),
    ),
}
"""By table: natural keys, levels and states; event times. No ids, numbers, offsets or wall-clock times."""


class DigestRows(msgspec.Struct, frozen=True):
    """Rows that went into a digest."""

    alerts: int
    work_orders: int
    churn_flags: int


def digest(connection: psycopg.Connection) -> tuple[str, DigestRows]:
    """SHA-256, in hexadecimal, over the sorted rows of alerts, work orders and churn flags; and their numbers."""
    hasher = hashlib.sha256()
    counts: dict[str, int] = {}
    for table, (columns, times) in _TABLES.items():
        stamps = ", ".join(f"round(extract(epoch FROM {time}) * 1000)::bigint" for time in times)
        query = f"SELECT {columns}, {stamps} FROM {table}"  # noqa: S608 - all of it stands above
        lines = sorted(msgspec.json.encode(row) for row in connection.execute(query.encode()).fetchall())
        counts[table] = len(lines)
        hasher.update(b"".join((table.encode(), *(b"\n" + line for line in lines), b"\n\n")))
    return hasher.hexdigest(), DigestRows(**counts)
