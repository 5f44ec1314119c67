"""What was found, against the truth: computed from the database and the truth file alone."""

import msgspec
import psycopg

from simulator.digest import DigestRows, digest
from simulator.findings import FiredAlert, fired_alerts, first_yellow
from simulator.judge import (
    Announcements,
    Churned,
    FailureCount,
    SilenceCount,
    UsageDrops,
    is_false_fault_alert,
    is_false_sensor_alert,
    judge_announcements,
    judge_churn,
    judge_silence,
    judge_usage_drops,
)
from simulator.truth import Totals, Truth

_MONTH_DAYS = 30
_DAY_MS = 86_400_000


class Summary(msgspec.Struct, frozen=True):
    """The keys of `summary.json` that follow from truth and database."""

    readings_published_unique: int
    readings_stored: int
    malformed_sent: int
    quarantined: int
    churn: Churned
    failures: FailureCount
    announcements: Announcements
    usage_drop: UsageDrops
    silence: SilenceCount
    false_alerts_per_device_month: float
    digest: str
    digest_rows: DigestRows


def score(connection: psycopg.Connection, truth: Truth) -> Summary:
    """Judge a run that is over.

    Raises:
        ValueError: the truth has no totals: the run was not played to the end or to a stop.
    """
    totals = truth.of(Totals)
    if not totals:
        raise ValueError("the truth has no totals: the run is not over")
    alerts = fired_alerts(connection)
    failures, announcements = judge_announcements(_by(alerts, "failure_risk"), truth)
    usage_drops = judge_usage_drops(_by(alerts, "usage_drop"), truth)
    silence = judge_silence([*_by(alerts, "silence"), *_by(alerts, "site_offline")], truth)
    of_codes = [*_by(alerts, "fault_rule"), *_by(alerts, "fault_pattern")]
    false_faults = sum(is_false_fault_alert(alert, truth) for alert in of_codes)
    of_sensors = [*_by(alerts, "sensor_anomaly"), *_by(alerts, "level_shift")]
    false_faults += sum(is_false_sensor_alert(alert, truth) for alert in of_sensors)
    run = truth.run
    false_alerts = announcements.n - announcements.true + usage_drops.wrong + silence.false + false_faults
    months = run.devices * (totals[-1].until_ms - run.start_ms) / _DAY_MS / _MONTH_DAYS
    hashed, rows = digest(connection)
    return Summary(
        readings_published_unique=totals[-1].readings_published_unique,
        readings_stored=_count(connection, "SELECT count(*) FROM readings"),
        malformed_sent=totals[-1].malformed_sent,
        quarantined=_count(connection, "SELECT count(*) FROM quarantine"),
        churn=judge_churn(first_yellow(connection), truth),
        failures=failures,
        announcements=announcements,
        usage_drop=usage_drops,
        silence=silence,
        false_alerts_per_device_month=round(false_alerts / months, 4) if months else 0.0,
        digest=hashed,
        digest_rows=rows,
    )


def _by(alerts: list[FiredAlert], detector: str) -> list[FiredAlert]:
    return [alert for alert in alerts if alert.detector == detector]


def _count(connection: psycopg.Connection, query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])
