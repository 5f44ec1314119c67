"""What the boards' figures mean: each counted on a handful of rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from grafana_rows import START, STOP, Rows, migrated_database
from grafana_source import Result, View, run

from grafana import customers_sql, fleet_sql, pipeline_sql, service_sql
from wardwatch.local import LocalParts

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture(scope="module")
def migrated(parts: LocalParts) -> Iterator[psycopg.Connection[Any]]:
    with (
        migrated_database(parts.database_url, "test_grafana_figures") as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        yield connection


@pytest.fixture
def rows(migrated: psycopg.Connection[Any]) -> Iterator[Rows]:
    with migrated.transaction(force_rollback=True):
        rows = Rows(migrated)
        rows.customer("one")
        for device in ("ct-1", "ct-2"):
            rows.device(device, "ct", "one")
        yield rows


def ask(rows: Rows, sql: str, stop: datetime = STOP) -> Result:
    view = View(START, stop, {"customer": ["one"], "model": ["ct"], "device": ["ct-1"]})
    return run(rows.connection, view.expand(sql, 86_400))


def figure(rows: Rows, sql: str) -> float | None:
    ((value,),) = ask(rows, sql).rows
    return value if value is None else float(value)


def done(rows: Rows, device: str, at: datetime, **columns: Any) -> None:
    rows.order(device, "one", at - 5 * HOUR, **{"outcome": "confirmed", "state": "done", "done_at": at, **columns})


def test_a_device_counts_once_by_its_worst_alert(rows: Rows) -> None:
    rows.alert("ct-1", "one", "usage_drop", STOP - DAY, severity="info")
    rows.alert("ct-1", "one", "fault_rule", STOP - DAY, severity="error")
    states = ask(rows, fleet_sql.STATES_NOW)
    assert list(states.columns) == ["quiet", "info", "warning", "error", "critical", "silent"]
    assert states.rows == [(1, 0, 0, 1, 0, 0)]


def test_a_silent_device_is_silent_whatever_else_was_wrong_with_it(rows: Rows) -> None:
    rows.alert("ct-1", "one", "fault_rule", STOP - DAY, severity="critical")
    rows.alert("ct-1", "one", "silence", STOP - HOUR)
    assert ask(rows, fleet_sql.STATES_NOW).rows == [(1, 0, 0, 0, 0, 1)]


def test_an_offline_site_makes_all_its_devices_silent(rows: Rows) -> None:
    rows.alert("", "one", "site_offline", STOP - HOUR)
    assert figure(rows, fleet_sql.SILENT) == 2


def test_a_board_moved_to_the_past_shows_what_was_up_then(rows: Rows) -> None:
    #          fired         resolved
    # ----------[---------------)---------
    rows.alert("ct-1", "one", "fault_rule", STOP - 9 * DAY, resolved_at=STOP - 5 * DAY, state="resolved")
    up = [len(ask(rows, fleet_sql.ALERTS_UP, STOP - days * DAY).rows) for days in (10, 9, 6, 5, 0)]
    assert up == [0, 1, 1, 0, 0]


def test_a_held_back_or_pending_alert_is_not_counted_as_up(rows: Rows) -> None:
    rows.alert("ct-1", "one", "silence", STOP - HOUR, suppressed_by="site offline")
    rows.alert("ct-2", "one", "fault_rule", None, state="pending")
    assert figure(rows, fleet_sql.FIRING) == 0


def test_a_device_without_data_does_not_lower_the_use_of_its_model(rows: Rows) -> None:
    for day in range(4):
        rows.usage("ct-1", "scans", STOP - (4 - day) * DAY, 10.0)
    rows.usage("ct-2", "scans", STOP - 4 * DAY, 10.0)
    assert set(ask(rows, fleet_sql.USAGE).column("value")) == {100.0}


def test_expected_use_is_that_of_the_same_weekday_two_to_five_weeks_before(rows: Rows) -> None:
    #  -35   -28   -21   -14    -7     0    days
    #    8    12    10    10    99     5    scans; 99 is too recent to be expected from
    for weeks, used in ((5, 8.0), (4, 12.0), (3, 10.0), (2, 10.0), (1, 99.0), (0, 5.0)):
        rows.usage("ct-1", "scans", STOP - DAY - weeks * 7 * DAY, used)
    last = ask(rows, customers_sql.USAGE).rows[-1]
    assert last[0] == STOP - DAY
    assert last[1] / last[2] == pytest.approx(5.0 / 10.0)


def test_a_day_that_is_not_over_is_not_judged(rows: Rows) -> None:
    for weeks in (2, 1, 0):
        rows.usage("ct-1", "scans", STOP - weeks * 7 * DAY, 10.0)
    assert ask(rows, customers_sql.USAGE, STOP + HOUR).rows == []


def test_time_to_acknowledge_runs_from_firing(rows: Rows) -> None:
    rows.alert("ct-1", "one", "fault_rule", STOP - DAY, acknowledged_at=STOP - DAY + HOUR)
    rows.alert("ct-2", "one", "fault_rule", STOP - DAY, acknowledged_at=STOP - DAY + 3 * HOUR)
    rows.alert("ct-2", "one", "usage_drop", STOP - DAY)
    assert figure(rows, service_sql.TIME_TO_ACKNOWLEDGE) == 2 * 3600


def test_time_to_repair_runs_from_the_first_alert_and_cycle_time_from_the_order(rows: Rows) -> None:
    order = rows.order("ct-1", "one", STOP - 20 * HOUR, done_at=STOP - 4 * HOUR, outcome="part_replaced")
    rows.alert("ct-1", "one", "fault_rule", STOP - 22 * HOUR, work_order_id=order)
    rows.alert("ct-1", "one", "failure_risk", STOP - 10 * HOUR, work_order_id=order)
    assert figure(rows, service_sql.TIME_TO_REPAIR) == 18 * 3600
    assert figure(rows, service_sql.CYCLE_TIME) == 16 * 3600


@pytest.mark.parametrize(
    ("later", "again", "share"),
    [
        (10 * DAY, {}, 50.0),
        (31 * DAY, {}, 100.0),
        (10 * DAY, {"subsystem": "gantry"}, 100.0),
        (10 * DAY, {"kind": "inspection"}, 100.0),
        (10 * DAY, {"device": "ct-2"}, 100.0),
    ],
    ids=["within 30 days", "later", "another subsystem", "a prediction", "another device"],
)
def test_a_repair_was_a_first_time_fix_unless_the_same_fault_came_back_within_30_days(
    rows: Rows, later: timedelta, again: dict[str, Any], share: float
) -> None:
    done(rows, "ct-1", STOP - 35 * DAY)
    opened = STOP - 35 * DAY + later
    rows.order(again.pop("device", "ct-1"), "one", opened, done_at=opened + HOUR, outcome="confirmed", **again)
    assert figure(rows, service_sql.FIRST_TIME_FIX) == share


def test_predicted_work_is_what_inspections_found_among_all_that_was_found(rows: Rows) -> None:
    done(rows, "ct-1", STOP - DAY, kind="inspection")
    done(rows, "ct-1", STOP - DAY, kind="inspection", outcome="no_fault_found")
    for _ in range(3):
        done(rows, "ct-2", STOP - DAY, outcome="part_replaced")
    assert figure(rows, service_sql.PREDICTED) == 25.0


def test_precision_counts_only_what_was_found_true_or_false(rows: Rows) -> None:
    for outcome in ("confirmed", "confirmed", "confirmed", "false", "unclear", ""):
        rows.alert("ct-1", "one", "failure_risk", STOP - DAY, outcome=outcome)
    assert figure(rows, service_sql.PRECISION) == 75.0


def test_a_figure_of_nothing_is_unknown_not_zero(rows: Rows) -> None:
    for sql in (
        service_sql.PRECISION,
        service_sql.FIRST_TIME_FIX,
        service_sql.TIME_TO_REPAIR,
        customers_sql.HEALTH_NOW,
    ):
        assert figure(rows, sql) is None


def test_an_order_past_its_due_time_is_overdue_until_it_is_done(rows: Rows) -> None:
    rows.order("ct-1", "one", STOP - 5 * DAY, priority="P1")
    done(rows, "ct-2", STOP - DAY, priority="P1", due_at=STOP - 3 * DAY)
    now, before = (ask(rows, service_sql.OPEN_BY_PRIORITY, moment).rows[0] for moment in (STOP, STOP - DAY - HOUR))
    assert now[:3] == ("P1", 1, 1)
    assert before[:3] == ("P1", 2, 2)


def test_the_newest_evidence_is_that_of_the_open_flag(rows: Rows) -> None:
    rows.health("one", STOP - HOUR, 20.0, "yellow")
    assert ("devices", "4") in ask(rows, customers_sql.EVIDENCE).rows
    rows.flag("one", STOP - DAY, evidence={"usage_down_pct": 31})
    assert ask(rows, customers_sql.EVIDENCE).rows == [("usage down pct", "31")]


def test_evidence_is_told_in_plain_words_and_round_numbers(rows: Rows) -> None:
    evidence = {
        "cause": "usage_falls", "usage": {"score": 61.23456, "days": [1, 2]}, "service": {"repair_ms": 5_400_000},
        "baseline": None, "version": 3, "advice": "offer training",
    }  # fmt: skip
    rows.flag("one", STOP - DAY, evidence=evidence)
    assert ask(rows, customers_sql.EVIDENCE).rows == [
        ("advice", "offer training"), ("cause", "usage falls"), ("service repair", "1.5 h"), ("usage score", "61.23"),
    ]  # fmt: skip
    assert ask(rows, customers_sql.FLAGS).column("evidence") == [
        "cause usage falls, service repair 1.5 h, usage score 61.23"
    ]


def test_reliability_is_summed_over_days_and_partitions_before_it_is_a_share(rows: Rows) -> None:
    rows.reliability(0, STOP - 2 * DAY, 30, judged=2.0, foretold=0.7, happened=0.0)
    rows.reliability(0, STOP - DAY, 30, judged=2.0, foretold=0.7, happened=2.0)
    rows.reliability(1, STOP - DAY, 30, judged=4.0, foretold=1.4, happened=1.0)
    rows.reliability(1, STOP - DAY, 5, judged=10.0, foretold=0.6, happened=0.0)
    found = ask(rows, pipeline_sql.RELIABILITY)
    assert list(found.columns) == ["foretold", "happened", "as foretold"]
    assert found.rows == [pytest.approx((0.06, 0.0, 0.06)), pytest.approx((0.35, 0.375, 0.35))]
    assert ask(rows, pipeline_sql.MODELS).rows == []


def test_the_pipeline_board_tells_of_floods_and_of_what_a_broker_dropped_by_when_they_were_up(rows: Rows) -> None:
    flood = {"bridge": "b-1", "waiting": 4200.0, "advice": "check_sender"}
    drops = {"bridge": "b-2", "messages": 17.0, "advice": "raise_broker_limits_or_add_workers"}
    rows.alert("ct-1", "one", "flood", STOP - DAY, resolved_at=STOP - HOUR, state="resolved", evidence=flood)
    rows.alert("", "", "broker_drops", STOP - 2 * DAY, evidence=drops)
    rows.alert("ct-2", "one", "fault_rule", STOP - DAY)
    told = [(what, device, until, count) for what, device, _, until, count, *_ in ask(rows, pipeline_sql.HELD_UP).rows]
    assert told == [("flood", "ct-1", STOP - HOUR, 4200), ("broker drops", "", None, 17)]
    assert ask(rows, pipeline_sql.HELD_UP, STOP - 12 * HOUR).rows[0][3] is None, "the flood lasted then"
    assert ask(rows, pipeline_sql.HELD_UP, STOP - 3 * DAY).rows == []
