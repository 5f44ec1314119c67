"""The score of a filled database: exactly the keys that were promised, and a digest of decisions alone."""

import msgspec
import psycopg
import pytest

from schema.catalogue import load_catalogue
from schema.migrate import migrate
from simulator.score import Summary, score
from simulator.staff import OpenAlert, OpenOrder, open_alerts, open_orders
from simulator.truth import Churn, Outage, Run, Totals, Truth

DAY_MS = 86_400_000
START_MS = 1_767_571_200_000

TRUTH = Truth(
    [
        Run(seed=1, devices=10, customers=2, start_ms=START_MS, end_ms=START_MS + 56 * DAY_MS),
        Churn(customer_id="hosp-1", kind="stop", onset_ms=START_MS + 30 * DAY_MS, full_ms=0, decline=1),
        Outage(
            gateway_id="gw-1",
            site_id="site-1",
            customer_id="hosp-1",
            from_ms=START_MS + 10 * DAY_MS,
            until_ms=START_MS + 11 * DAY_MS,
            backlog_ms=0,
            delivered_ms=0,
        ),
        Totals(
            until_ms=START_MS + 56 * DAY_MS,
            messages=1,
            readings_published_unique=1,
            faults=0,
            births=0,
            wills=0,
            duplicates=0,
            malformed_sent=0,
            sent_again=0,
        ),
    ]
)

ALERT = """
INSERT INTO alerts VALUES ('{alert_id}', '', 'site-1', 'hosp-1', 'site_offline', '', 'warning', 'firing',
    '2026-01-15 00:00Z', '2026-01-15 00:00Z', '2026-01-15 01:00Z', NULL, '', NULL, 'silent', '', 0.9, 0, '', NULL,
    '{{}}', 0)
"""
ORDER = """
INSERT INTO work_orders VALUES ('{order_id}', '{number}', 'mri-7', 'site-1', 'hosp-1', 'inspection', 'rf', 'P2', 'open',
    '2026-01-16 00:00:00.123Z', '2026-01-18 00:00Z', NULL, NULL, NULL, 'tech-1', '', 'mri', '{{rf_amp}}', '{{}}', '',
    '', '{{a}}', 0)
"""
FLAG = """
INSERT INTO churn_flags VALUES ('{flag_id}', 'hosp-1', 'raised', 'yellow', '2026-02-06 00:00Z', NULL,
    '2026-02-06 00:00Z', NULL, NULL, NULL, NULL, 20, 'regional_manager', '', 'training', '', '{{}}', 0)
"""
READING = "INSERT INTO readings VALUES ('mri-7', 'exams', '2026-01-15 00:00Z', 12, 1)"


@pytest.fixture
def filled(database: str):
    migrate(database, load_catalogue())
    with psycopg.connect(database, autocommit=True) as connection:
        fill(connection, 1)
        yield connection


def fill(connection: psycopg.Connection, number: int) -> None:
    ids = dict.fromkeys(("alert_id", "order_id", "flag_id"), f"00000000-0000-0000-0000-{number:012d}")
    for statement in (ALERT, ORDER, FLAG):
        connection.execute(statement.format(number=f"WO-{number}", **ids).encode())
    connection.execute(READING)


def test_a_summary_has_the_promised_keys(filled: psycopg.Connection) -> None:
    summary = score(filled, TRUTH)
    plain = msgspec.to_builtins(summary)
    assert len(plain.pop("digest")) == 64
    assert plain == {
        "readings_published_unique": 1,
        "readings_stored": 1,
        "malformed_sent": 0,
        "quarantined": 0,
        "churn": {"truth": 1, "flagged": 1, "extra": 0},
        "failures": {"n": 0, "announced": 0},
        "announcements": {"n": 0, "true": 0},
        "usage_drop": {"true": 0, "false": 0, "offline": 0, "holiday": 0, "maintenance": 0},
        "silence": {"outages": 1, "alerted": 1, "false": 0},
        "false_alerts_per_device_month": 0.0,
        "digest_rows": {"alerts": 1, "work_orders": 1, "churn_flags": 1},
    }


def test_a_digest_leaves_out_ids_and_numbers_but_not_levels(filled: psycopg.Connection) -> None:
    def again(number: int) -> Summary:
        for table in ("alerts", "work_orders", "churn_flags"):
            filled.execute(f"TRUNCATE {table}".encode())
        fill(filled, number)
        return score(filled, TRUTH)

    first, second = again(1), again(2)
    assert first.digest == second.digest
    filled.execute("UPDATE churn_flags SET level = 'orange'")
    assert score(filled, TRUTH).digest != first.digest


def test_a_run_that_is_not_over_has_no_score(filled: psycopg.Connection) -> None:
    with pytest.raises(ValueError, match="not over"):
        score(filled, Truth(fact for fact in TRUTH.facts if not isinstance(fact, Totals)))


def test_staff_read_open_alerts_and_orders(filled: psycopg.Connection) -> None:
    (alert,) = open_alerts(filled)
    (order,) = open_orders(filled)
    assert alert == OpenAlert(alert.alert_id, "", "site-1", "site_offline", "")
    assert order == OpenOrder(order.work_order_id, "mri-7", "rf", 1_768_521_600_123, "", "tech-1", "inspection")
