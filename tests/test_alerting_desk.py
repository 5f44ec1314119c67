"""A partition's desk: what suppresses an alert, who is told and when, and that interleaving changes nothing."""

import pickle

import pytest
from alerting_help import (
    DAY,
    DEVICES,
    HOUR,
    MINUTE,
    command_ids,
    finding,
    hospital,
    last_alert,
    maintenance,
    risk,
    silent,
    site_dark,
    state,
    told,
    transitions,
    tube_failure,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.desk import Desk
from detectors import usage_judgement
from detectors.usage_judgement import Shape, UsageJudgement
from schema.commands import AcknowledgeAlert, CloseAlert, Silence
from schema.findings import Finding
from schema.rows import AlertRow, AuditRow, OutboxRow, Row, SilenceRow, WorkOrderRow


def test_a_fault_code_fires_at_once_and_people_are_told() -> None:
    rows = hospital().observe(tube_failure(10 * HOUR), 10 * HOUR)
    assert transitions(rows) == [("", "pending", "condition seen"), ("pending", "firing", "immediate")]
    assert told(rows) == ["alert_fired"]
    assert last_alert(rows).fired_at == 10 * HOUR


def test_a_repeated_finding_changes_nothing() -> None:
    desk = hospital()
    desk.observe(tube_failure(10 * HOUR), 10 * HOUR)
    assert desk.observe(tube_failure(10 * HOUR), 10 * HOUR) == []


def test_silence_fires_a_quarter_of_an_hour_later_by_ticks_alone() -> None:
    desk = hospital()
    desk.observe(silent(10 * HOUR), 10 * HOUR)
    assert desk.tick(10 * HOUR + 14 * MINUTE) == []
    rows = desk.tick(10 * HOUR + 15 * MINUTE)
    assert transitions(rows) == [("pending", "firing", "held for 15 min")]


def test_a_dark_site_is_one_alert_and_hides_its_devices() -> None:
    #  10h                  14h             15h
    #  site and devices     all but ct-5    ct-5 fires: the site no longer explains it
    desk = hospital()
    for device_id in DEVICES:
        desk.observe(silent(10 * HOUR, device_id), 10 * HOUR)
    rows = desk.observe(site_dark(10 * HOUR), 10 * HOUR) + desk.tick(10 * HOUR) + desk.tick(13 * HOUR)
    assert told(rows) == ["alert_fired"]
    assert {row.suppressed_by for row in rows if isinstance(row, AlertRow) and row.device_id} == {"site offline"}
    for device_id in DEVICES[:-1]:
        rows = desk.observe(silent(14 * HOUR, device_id, 0.0), 14 * HOUR)
        assert transitions(rows) == [("pending", "resolved", "gone before it fired")]
    desk.observe(site_dark(14 * HOUR, 0.0), 14 * HOUR)
    assert transitions(desk.tick(14 * HOUR)) == []
    late = desk.tick(15 * HOUR)
    assert [row.device_id for row in late if isinstance(row, AlertRow) and row.state == "firing"] == ["ct-5"]


def test_a_device_that_was_told_before_its_site_went_dark_is_marked_while_it_lasts() -> None:
    desk = hospital()
    desk.observe(silent(10 * HOUR), 10 * HOUR)
    desk.tick(10 * HOUR + 15 * MINUTE)
    desk.observe(site_dark(11 * HOUR), 11 * HOUR)
    assert last_alert(desk.tick(11 * HOUR)).suppressed_by == "site offline"
    desk.observe(site_dark(12 * HOUR, 0.0), 12 * HOUR)
    rows = desk.tick(12 * HOUR) + desk.tick(13 * HOUR)
    assert told(rows) == []
    assert last_alert(desk.observe(silent(14 * HOUR, score=0.0), 14 * HOUR)).state == "resolved"


def test_planned_maintenance_keeps_silence_from_firing_until_an_hour_after_it() -> None:
    #  9h          10h      14h        15h
    #  [maintenance         )  grace   )
    #              silent              fires
    desk = hospital()
    desk.register(maintenance(9 * HOUR, 14 * HOUR, device_id="ct-1"))
    assert last_alert(desk.observe(silent(10 * HOUR), 10 * HOUR)).suppressed_by == "maintenance upgrade"
    assert transitions(desk.tick(15 * HOUR - 1)) == []
    assert transitions(desk.tick(15 * HOUR)) == [("pending", "firing", "held for 15 min")]


def test_maintenance_of_another_scope_suppresses_nothing() -> None:
    desk = hospital()
    desk.register(maintenance(9 * HOUR, 14 * HOUR, device_id="ct-2"))
    desk.observe(silent(10 * HOUR), 10 * HOUR)
    assert len(transitions(desk.tick(11 * HOUR))) == 1


def test_a_fault_during_maintenance_is_told_when_it_is_still_there_afterwards() -> None:
    desk = hospital()
    desk.register(maintenance(9 * HOUR, 14 * HOUR, site_id="h/1"))
    rows = desk.observe(tube_failure(10 * HOUR), 10 * HOUR)
    assert (last_alert(rows).state, told(rows)) == ("firing", [])
    assert "alert_fired" not in told(desk.tick(14 * HOUR))
    rows = desk.tick(15 * HOUR)
    assert told(rows) == ["alert_fired"]
    assert last_alert(rows).suppressed_by == ""


def test_a_silence_mutes_what_fires_and_tells_it_when_it_is_over() -> None:
    desk = hospital()
    rows = desk.command(
        Silence(command_id=next(command_ids), actor="ann", customer_id="h", from_ms=9 * HOUR, until_ms=12 * HOUR),
        9 * HOUR,
    )
    assert [type(row) for row in rows] == [SilenceRow, AuditRow]
    rows = desk.observe(finding("usage_drop", 10 * HOUR), 10 * HOUR)
    assert (told(rows), last_alert(rows).suppressed_by) == ([], "silence by ann")
    assert told(desk.tick(12 * HOUR - 1)) == []
    assert told(desk.tick(12 * HOUR)) == ["alert_fired"]


@pytest.mark.parametrize(
    ("shape", "en", "zh"),
    [
        ("stop", "a stop: hardly used since 1970-02-10, down by 47 % (kind certain to 83 %)", "停用：自 1970-02-10 起"),
        ("step", "a sudden fall: less used since 1970-02-10, down by 47 %", "骤降：自 1970-02-10 起"),
        ("ramp", "a slow decline: less and less used since 1970-02-10, down by 47 % so far", "下降 47 %"),
    ],
)
def test_people_read_how_usage_fell_since_when_and_by_how_much(shape: Shape, en: str, zh: str) -> None:
    judged = UsageJudgement(100.0, 60.0, 0.9, 40.0, 40 * DAY, shape, 0.834, 47.2)
    found = usage_judgement.finding(judged, 45 * DAY, device_id="ct-1", site_id="h/1", customer_id="h")
    rows = hospital().observe(found, 45 * DAY)
    (message,) = (row for row in rows if isinstance(row, OutboxRow))
    _, english, _, chinese = message.body.splitlines()
    assert english.startswith(en)
    assert zh in chinese


def test_a_critical_alert_escalates_then_reminds_less_and_less_and_stops() -> None:
    desk = hospital()
    desk.observe(tube_failure(0), 0)
    at = [
        (hour, row.kind, row.audience)
        for hour in range(1, 1000)
        for row in desk.tick(hour * HOUR)
        if isinstance(row, OutboxRow) and row.kind != "order_opened"
    ]
    assert at == [
        (1, "alert_escalated", "service_manager"),
        (4, "alert_reminder", "service"),
        (12, "alert_reminder", "service"),
        (28, "alert_reminder", "service_manager"),
        (72, "alert_reminder", "service_manager"),
    ]


def test_who_acknowledges_hears_no_reminders() -> None:
    desk = hospital()
    alert = last_alert(desk.observe(tube_failure(0), 0))
    rows = desk.command(AcknowledgeAlert(command_id=next(command_ids), actor="ann", alert_id=alert.alert_id), 0)
    assert (last_alert(rows).state, last_alert(rows).acknowledged_by) == ("acknowledged", "ann")
    assert told(desk.tick(100 * HOUR)) == ["order_opened"]


def test_a_repair_ends_what_the_failure_and_its_prediction_raised() -> None:
    desk = hospital()
    desk.observe(risk(0, 0.8), 0)
    desk.observe(tube_failure(10 * HOUR), 10 * HOUR)
    rows = desk.repaired("ct-1", 20 * HOUR)
    assert transitions(rows) == [("firing", "resolved", "repaired")] * 2
    assert desk.repaired("ct-1", 21 * HOUR) == []


def test_a_failed_device_is_no_longer_at_risk() -> None:
    desk = hospital()
    desk.observe(tube_failure(10 * HOUR), 10 * HOUR)
    rows = desk.observe(risk(11 * HOUR, 0.9), 11 * HOUR)
    assert (last_alert(rows).state, last_alert(rows).suppressed_by) == ("pending", "device failed")


def test_an_alert_that_people_closed_stays_quiet_for_a_while() -> None:
    desk = hospital()
    alert = last_alert(desk.observe(risk(0, 0.8), 0))
    desk.command(CloseAlert(command_id=next(command_ids), actor="ann", alert_id=alert.alert_id, outcome="false"), HOUR)
    assert [label.outcome for label in desk.labels()] == ["false"]
    assert desk.observe(risk(2 * HOUR, 0.9), 2 * HOUR) == []
    assert last_alert(desk.observe(risk(5 * DAY, 0.9), 5 * DAY)).flaps == 0


def test_silence_that_people_closed_stays_quiet_until_the_device_was_heard() -> None:
    desk = hospital()
    alert = last_alert(desk.observe(silent(0), 0))
    desk.command(CloseAlert(command_id=next(command_ids), actor="ann", alert_id=alert.alert_id, outcome="unclear"), 0)
    assert desk.observe(silent(30 * DAY), 30 * DAY) == []
    desk.observe(silent(31 * DAY, score=0.0), 31 * DAY)
    assert last_alert(desk.observe(silent(32 * DAY), 32 * DAY)).state == "pending"


def test_how_an_alert_ended_is_forgotten_after_three_months_unless_its_quiet_waits_for_the_condition_to_go() -> None:
    desk = hospital()
    for number in range(3):
        desk.observe(finding("fault_rule", 0, subsystem=f"made-up-{number}"), 0)
        desk.observe(finding("fault_rule", HOUR, 0.0, subsystem=f"made-up-{number}"), HOUR)
    alert = last_alert(desk.observe(silent(0), 0))
    desk.command(CloseAlert(command_id=next(command_ids), actor="ann", alert_id=alert.alert_id, outcome="unclear"), 0)
    desk.tick(89 * DAY)
    assert "made-up-2" in repr(state(desk))
    desk.tick(92 * DAY)
    assert "made-up" not in repr(state(desk))
    assert desk.observe(silent(93 * DAY), 93 * DAY) == []


def test_an_alert_that_comes_again_soon_counts_a_flap_and_must_hold_longer() -> None:
    desk = hospital()
    desk.observe(silent(0), 0)
    desk.tick(HOUR)
    desk.observe(silent(2 * HOUR, score=0.0), 2 * HOUR)
    assert last_alert(desk.observe(silent(3 * HOUR), 3 * HOUR)).flaps == 1
    assert transitions(desk.tick(3 * HOUR + 15 * MINUTE)) == []
    assert len(transitions(desk.tick(3 * HOUR + 30 * MINUTE))) == 1


def test_a_command_is_applied_once_and_what_cannot_be_applied_says_why() -> None:
    desk = hospital()
    alert = last_alert(desk.observe(silent(0), 0))
    command = AcknowledgeAlert(command_id=next(command_ids), actor="ann", alert_id=alert.alert_id)
    (audit,) = desk.command(command, 0)
    assert isinstance(audit, AuditRow)
    assert (audit.audit_id, audit.result) == (command.command_id, "refused")
    assert audit.detail == "the alert is pending; only a firing alert can be acknowledged"
    assert desk.command(command, 0) == []


def test_a_sender_without_uuids_does_no_harm() -> None:
    (audit,) = hospital().command(AcknowledgeAlert(command_id="1", actor="ann", alert_id="nonsense"), 0)
    assert isinstance(audit, AuditRow)
    assert len(audit.audit_id) == 36
    assert audit.result == "refused"


def test_an_alert_that_was_muted_throughout_is_never_announced_as_over() -> None:
    desk = hospital()
    desk.register(maintenance(9 * HOUR, 14 * HOUR))
    rows = desk.observe(tube_failure(10 * HOUR), 10 * HOUR) + desk.repaired("ct-1", 12 * HOUR)
    assert told(rows) == []


kinds = st.sampled_from(["fault", "silence", "risk", "usage"])
events = st.tuples(st.sampled_from(DEVICES), kinds, st.sampled_from([0.0, 0.4, 1.0]), st.integers(0, HOUR - 1))
hours = st.lists(st.lists(events, max_size=8), min_size=1, max_size=12)


def _finding(hour: int, event: tuple[str, str, float, int]) -> Finding:
    device_id, kind, score, offset_ms = event
    at_ms = hour * HOUR + offset_ms
    match kind:
        case "fault":
            return tube_failure(at_ms, device_id)
        case "silence":
            return silent(at_ms, device_id, score)
        case "risk":
            return risk(at_ms, score, device_id)
        case _:
            return finding("usage_drop", at_ms, score, device_id=device_id)


def _run(
    course: list[list[tuple[str, str, float, int]]], seed: int | None
) -> tuple[Desk, dict[str, Row], list[list[Row]]]:
    """Play the hours, a tick after each; with a seed, devices interleave otherwise but keep their own order."""
    desk = hospital()
    desk.register(maintenance(3 * HOUR, 5 * HOUR, site_id="h/1"))
    tables: dict[str, Row] = {}
    ticks: list[list[Row]] = []
    for hour, group in enumerate(course):
        events = sorted(group, key=lambda event: event[3])
        if seed is not None:
            events.sort(key=lambda event: (seed * 7 + int(event[0][-1])) % 5)
        rows = [row for event in events for row in desk.observe(_finding(hour, event), hour * HOUR)]
        ticks.append(desk.tick((hour + 1) * HOUR))
        for row in [*rows, *ticks[-1]]:
            tables["/".join([row.TABLE, *(str(getattr(row, column)) for column in row.KEY)])] = row
    return desk, tables, ticks


@settings(max_examples=60, deadline=None)
@given(hours, st.integers(0, 4))
def test_devices_may_interleave_in_any_way_between_two_ticks(
    course: list[list[tuple[str, str, float, int]]], seed: int
) -> None:
    desk, tables, ticks = _run(course, None)
    other, other_tables, other_ticks = _run(course, seed)
    assert other_tables == tables
    assert other_ticks == ticks
    assert state(other) == state(desk)


@settings(max_examples=60, deadline=None)
@given(hours)
def test_there_is_never_more_than_one_open_order_for_a_device_and_subsystem(
    course: list[list[tuple[str, str, float, int]]],
) -> None:
    _, tables, _ = _run(course, None)
    keys = [
        (row.device_id, row.subsystem)
        for row in tables.values()
        if isinstance(row, WorkOrderRow) and row.state != "done"
    ]
    assert len(keys) == len(set(keys))


@settings(max_examples=30, deadline=None)
@given(hours, st.integers(0, 11))
def test_a_desk_that_was_stored_and_loaded_goes_on_as_if_nothing_had_happened(
    course: list[list[tuple[str, str, float, int]]], cut: int
) -> None:
    cut = min(cut, len(course))
    desk, _, _ = _run(course[:cut], None)
    desk = pickle.loads(pickle.dumps(desk))
    whole, _, ticks = _run(course, None)
    for hour, group in enumerate(course[cut:], cut):
        for event in sorted(group, key=lambda event: event[3]):
            desk.observe(_finding(hour, event), hour * HOUR)
        assert desk.tick((hour + 1) * HOUR) == ticks[hour]
    assert state(desk) == state(whole)
