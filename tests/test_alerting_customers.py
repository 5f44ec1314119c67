"""Customer health and churn flags: who leaves is flagged in two weeks, who stays is not, and levels move slowly."""

from collections.abc import Callable

import numpy as np
import pytest
from alerting_help import DAY, DEVICES, HOUR, command_ids, finding, hospital, orders, told, tube_failure

from alerting.customers import CustomerBook
from alerting.desk import Desk
from alerting.directory import Directory
from alerting.health import Baseline, Watch, health_of
from alerting.service import ServiceScore
from alerting.texts import text
from alerting.usage import DeviceDay, UsageRecord, UsageScore
from schema.commands import AcknowledgeFlag, CloseFlag, FlagOutcome
from schema.findings import Severity
from schema.rows import ChurnFlagRow, CustomerHealthRow, OutboxRow, Row

WELL = ServiceScore(100.0, 0, 0, 1.0, 0.0, None, 1.0, 0)


def used(share: float) -> UsageScore:
    return UsageScore(100 * share, share, 0.0, share, 1.0, 0, 5)


def days_of(share: float, status: str = "reporting") -> list[DeviceDay]:
    """A day of five devices with 100 uses expected of each."""
    assert status in ("reporting", "dark")
    return [DeviceDay(each, 100 * share, 100.0, "dark" if status == "dark" else "reporting") for each in DEVICES]


def live(desk: Desk, shares: list[float], first_day: int = 0) -> list[Row]:
    """Let the hospital live through days with these shares of its usual use."""
    return [row for day, share in enumerate(shares, first_day + 1) for row in desk.day("h", day * DAY, days_of(share))]


def flags(rows: list[Row]) -> list[ChurnFlagRow]:
    return [row for row in rows if isinstance(row, ChurnFlagRow)]


def levels(rows: list[Row]) -> list[str]:
    return [row.level for row in rows if isinstance(row, CustomerHealthRow)]


def test_health_rests_on_the_known_dimensions_and_says_on_how_much() -> None:
    both = health_of(used(0.5), WELL)
    assert both.health == pytest.approx((30 * 50 + 20 * 100) / 50)
    assert both.known_weight == 0.5
    assert health_of(None, WELL).known_weight == 0.2


def test_usage_down_requests_up_and_repairs_slower_weigh_more_together_than_apart() -> None:
    poor = ServiceScore(80.0, 0, 4, 1.0, 2.1, 3.0 * DAY, 2.0, 0)
    together = 100 - health_of(used(0.8), poor).health
    apart = (100 - health_of(used(0.8), WELL).health) + (100 - health_of(used(1.0), poor).health)
    assert together == pytest.approx(apart + 10)
    assert health_of(used(0.8), poor).cause == "combination"


def test_a_few_counts_prove_little() -> None:
    def score(expected: float) -> float:
        record = UsageRecord()
        record.add([DeviceDay("a", 0.4 * expected, expected, "reporting")])
        result = record.score()
        assert result is not None
        return result.score

    assert score(5) > 70
    assert score(1000) == pytest.approx(41, abs=2)


def test_one_busy_device_does_not_speak_for_the_customer() -> None:
    record = UsageRecord()
    scanners = [DeviceDay(f"ct-{n}", 20.0, 20.0, "reporting") for n in range(4)]
    for _ in range(7):
        record.add([DeviceDay("ivd", 225.0, 500.0, "reporting"), *scanners])
    result = record.score()
    assert result is not None
    assert result.observed / result.expected < 0.55
    assert result.ratio > 0.8


def test_the_baseline_is_old_and_does_not_follow_a_slow_decline() -> None:
    baseline = Baseline()
    for day in range(120):
        baseline.add(100 - 0.4 * max(0, day - 30))
    assert baseline.value == 100


def test_a_level_counts_after_two_days_and_falls_after_a_calm_week() -> None:
    watch = Watch()
    assert [watch.update(pct) for pct in (20, 0, 20, 20)] == [0, 0, 0, 2]
    assert [watch.update(13) for _ in range(14)] == [2] * 14  # within 3 % of the threshold
    assert [watch.update(5) for _ in range(7)] == [2] * 6 + [0]


def test_nothing_is_flagged_in_the_first_two_weeks() -> None:
    assert flags(live(hospital(), [1.0] * 4 + [0.2] * 9)) == []


def test_a_customer_that_stops_is_flagged_red_and_the_executive_hears_of_it() -> None:
    rows = live(hospital(), [1.0] * 28 + [0.0] * 7)
    last = flags(rows)[-1]
    assert (last.level, last.owner_role, last.owner) == ("red", "executive", "Ann")
    assert last.intervention == "application_training"
    assert None not in (last.blue_at, last.yellow_at, last.orange_at, last.red_at)
    messages = [row for row in rows if isinstance(row, OutboxRow)]
    assert messages[-1].audience == "executive"
    assert "高管" in messages[-1].body or "管理层" in messages[-1].body
    assert len({message.outbox_id for message in messages}) == len(messages)


def test_devices_that_went_dark_are_a_withdrawal_and_ask_for_a_visit() -> None:
    desk = hospital()
    live(desk, [1.0] * 28)
    rows = [row for day in range(29, 36) for row in desk.day("h", day * DAY, [])]
    assert levels(rows) == ["none"] * 7  # dark for less than a week: nothing is known
    rows = [row for day in (36, 37) for row in desk.day("h", day * DAY, days_of(0.0, "dark"))]
    assert [(flag.level, flag.intervention) for flag in flags(rows)] == [("red", "site_visit")]


def test_a_device_that_waits_for_its_repair_is_not_used_less() -> None:
    desk = hospital()
    live(desk, [1.0] * 28)
    desk.observe(tube_failure(28 * DAY + HOUR), 28 * DAY)
    day = [DeviceDay("ct-1", 2.0, 100.0, "reporting"), DeviceDay("ct-2", 100.0, 100.0, "reporting")]
    (row,) = desk.day("h", 29 * DAY, day)
    assert isinstance(row, CustomerHealthRow)
    assert row.usage == 100
    desk.repaired("ct-1", 29 * DAY + HOUR)
    (row,) = desk.day("h", 30 * DAY, day)
    assert isinstance(row, CustomerHealthRow)
    assert row.usage == 100


def test_three_failures_in_a_month_are_poor_service_but_no_churn() -> None:
    desk = hospital()
    live(desk, [1.0] * 28)
    for number in range(3):
        desk.observe(tube_failure(28 * DAY + number, f"ct-{number + 1}"), 28 * DAY)
        desk.tick(28 * DAY + number)
        desk.repaired(f"ct-{number + 1}", 28 * DAY + 10)
    assert set(levels(live(desk, [1.0] * 14, 28))) <= {"none", "blue"}


@pytest.mark.parametrize(("detector", "days_late", "score"), [("due", 29, 100), ("due", 31, 85), ("fault_rule", 4, 85)])
def test_planned_work_is_forgotten_after_a_month_and_a_repair_after_three_days(
    detector: str, days_late: int, score: float
) -> None:
    desk = hospital()
    severity: Severity = "info" if detector == "due" else "error"
    for device_id in DEVICES[:3]:
        desk.observe(finding(detector, 0, device_id=device_id, subsystem="service", severity=severity), 0)
    opened = orders(desk.tick(0))
    assert len(opened) == 3
    late = desk._customers._record("h").service.score(max(order.due_at for order in opened) + days_late * DAY)
    assert 100 - 5 * late.overdue == score


def flagged(desk: Desk) -> ChurnFlagRow:
    return flags(live(desk, [1.0] * 28 + [0.5] * 14))[-1]


def close(desk: Desk, flag: ChurnFlagRow, outcome: FlagOutcome) -> list[Row]:
    return desk.command(
        CloseFlag(command_id=next(command_ids), actor="ann", flag_id=flag.flag_id, outcome=outcome), 42 * DAY
    )


def test_a_flag_is_acknowledged_and_closed_with_what_became_of_the_customer() -> None:
    desk = hospital()
    flag = flagged(desk)
    (row, _) = desk.command(AcknowledgeFlag(command_id=next(command_ids), actor="ann", flag_id=flag.flag_id), 42 * DAY)
    assert isinstance(row, ChurnFlagRow)
    assert (row.state, row.acknowledged_at) == ("acknowledged", 42 * DAY)
    (row, _) = close(desk, flag, "kept")
    assert isinstance(row, ChurnFlagRow)
    assert (row.state, row.outcome, row.closed_at) == ("closed", "kept", 42 * DAY)


@pytest.mark.parametrize(("outcome", "again"), [("false_alarm", True), ("lost", False)])
def test_a_closed_case_is_raised_again_after_four_weeks_unless_the_customer_is_lost(
    outcome: FlagOutcome, again: bool
) -> None:
    desk = hospital()
    close(desk, flagged(desk), outcome)
    assert flags(live(desk, [0.5] * 27, 42)) == []
    assert bool(flags(live(desk, [0.5] * 14, 69))) is again


def test_a_closed_case_that_gets_worse_is_raised_at_once() -> None:
    desk = hospital()
    close(desk, flagged(desk), "false_alarm")
    rows = live(desk, [0.0] * 8, 42)
    assert flags(rows)
    assert "flag_raised" in told(rows)


def test_a_customer_that_recovers_closes_its_own_case() -> None:
    desk = hospital()
    flagged(desk)
    last = flags(live(desk, [1.0] * 21, 42))[-1]
    assert (last.state, last.level, last.evidence["closed"]) == ("closed", "none", "recovered")


def test_every_text_is_there_in_both_languages() -> None:
    for key in ("intervention.site_visit", "action.red", "detector.silence", "severity.critical", "kind.inspection"):
        assert all(text(key))
        assert text(key).en != text(key).zh
    assert text("detector.of_tomorrow").en == "of_tomorrow"


def simulate(seed: int, share: Callable[[int, int], float], days: int = 56) -> int | None:
    """First day a customer with five devices of 5 to 40 uses a day is yellow; None for never.

    Counts are Poisson with days that differ by 9 % and weeks by 2.5 %, weekends are quiet, and half of the devices
    cannot be judged for a day or two. `share` is what is left of the use of a device on a day.
    """
    rng = np.random.default_rng(seed)
    book = CustomerBook(0, Directory())
    usual = rng.uniform(5, 40, 5)
    weekend = rng.uniform(0.1, 1.0, 5)
    away = [int(rng.integers(2 * days)) for _ in range(5)]
    for day in range(days):
        week = 1 + 0.025 * float(np.random.default_rng((seed, day // 7)).standard_normal())
        expected = usual * (weekend if day % 7 >= 5 else 1.0)
        counts = rng.poisson([expected[n] * week * rng.gamma(123, 1 / 123) * share(n, day) for n in range(5)])
        devices = [
            DeviceDay(f"d{n}", float(counts[n]), float(expected[n]), "reporting")
            for n in range(5)
            if not away[n] <= day < away[n] + 2
        ]
        (row, *_) = book.day("c", (day + 1) * DAY, devices)
        assert isinstance(row, CustomerHealthRow)
        if row.level in ("yellow", "orange", "red"):
            return day + 1
    return None


def test_of_a_hundred_steady_customers_none_is_ever_yellow() -> None:
    assert [seed for seed in range(100) if simulate(seed, lambda _n, _day: 1.0)] == []


def test_work_that_moves_from_one_device_to_another_is_no_churn() -> None:
    moved = [seed for seed in range(50) if simulate(seed, lambda n, day: (0.45, 1.3, 1, 1, 1)[n] if day > 30 else 1.0)]
    assert len(moved) <= 1


@pytest.mark.parametrize(("least", "ramp_days"), [(0.6, 0), (0.45, 14), (0.0, 0)], ids=["step", "ramp", "stop"])
def test_who_leaves_is_yellow_within_two_weeks(least: float, ramp_days: int) -> None:
    onset = 35

    def share(_n: int, day: int) -> float:
        if day < onset:
            return 1.0
        return 1 - (1 - least) * (min(1, (day - onset + 0.5) / ramp_days) if ramp_days else 1)

    found = [simulate(seed, share) for seed in range(50)]
    assert all(day is not None and onset < day <= onset + 14 for day in found)
