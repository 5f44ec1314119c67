"""What the engine found, read from the database: alerts that fired and when customers first became yellow."""

from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True)
class FiredAlert:
    """An alert that people were told of."""

    device_id: str
    site_id: str
    customer_id: str
    country: str
    detector: str
    subsystem: str
    severity: str
    onset_ms: int
    fired_ms: int
    resolved_ms: int | None


def fired_alerts(connection: psycopg.Connection) -> list[FiredAlert]:
    """All alerts that ever fired, in order of time."""
    with connection.cursor(row_factory=class_row(FiredAlert)) as cursor:
        return cursor.execute(
            "SELECT device_id, site_id, alerts.customer_id, coalesce(country, '') AS country, detector, subsystem,"
            " severity,"
            " round(extract(epoch FROM onset_at) * 1000)::bigint AS onset_ms,"
            " round(extract(epoch FROM fired_at) * 1000)::bigint AS fired_ms,"
            " round(extract(epoch FROM resolved_at) * 1000)::bigint AS resolved_ms"
            " FROM alerts LEFT JOIN sites USING (site_id) WHERE fired_at IS NOT NULL"
            " ORDER BY fired_at, device_id, detector, subsystem"
        ).fetchall()


def first_yellow(connection: psycopg.Connection) -> dict[str, int]:
    """When each customer was first flagged yellow or worse; without those who never were."""
    rows = connection.execute(
        "SELECT customer_id, round(extract(epoch FROM min(least(yellow_at, orange_at, red_at))) * 1000)::bigint"
        " FROM churn_flags GROUP BY customer_id HAVING min(least(yellow_at, orange_at, red_at)) IS NOT NULL"
    ).fetchall()
    return {customer_id: int(at_ms) for customer_id, at_ms in rows}
