"""Fault rules: what speaks at once, what has to repeat, and when it is over."""

import pytest

from detectors.fault_rules import DAY_MS, HOUR_MS, FaultRules, RuleJudgement, finding


def warnings(rules: FaultRules, *hours: float, codes: tuple[str, ...] = ("XR-101",)) -> list[RuleJudgement | None]:
    return [
        rules.fault(round(hour * HOUR_MS), codes[number % len(codes)], "warning", "tube")
        for number, hour in enumerate(hours)
    ]


@pytest.mark.parametrize("severity", ["error", "critical"])
def test_an_error_is_reported_at_once(severity: str) -> None:
    judgement = FaultRules().fault(5, "XR-900", severity, "tube")  # type: ignore[arg-type]
    assert judgement is not None
    assert (judgement.rule, judgement.score, judgement.severity, judgement.onset_ms) == ("immediate", 1.0, severity, 5)


def test_information_is_never_reported() -> None:
    rules = FaultRules()
    assert all(rules.fault(at_ms, "SYS-001", "info", "system") is None for at_ms in range(100))
    assert rules.deadline_ms() is None


def test_the_same_warning_four_times_in_a_day_is_a_repeat() -> None:
    found = warnings(FaultRules(), 0, 6, 12, 18)
    assert [judgement and judgement.rule for judgement in found] == [None, None, None, "repeat"]
    assert found[-1] is not None
    assert found[-1].codes == {"XR-101": 4}


def test_a_day_between_them_makes_no_repeat() -> None:
    assert not any(warnings(FaultRules(), 0, 25, 50, 75, 100, 125))


def test_different_warnings_of_one_subsystem_are_a_burst() -> None:
    found = warnings(FaultRules(), 0, 1, 2, 3, 4, codes=("XR-101", "XR-102"))
    assert [judgement and judgement.rule for judgement in found] == [None, None, None, None, "burst"]


def test_warnings_of_different_subsystems_are_no_burst() -> None:
    rules = FaultRules()
    parts = ("tube", "gantry", "detector")
    assert not any(rules.fault(hour * HOUR_MS, f"{part}-1", "warning", part) for hour in range(3) for part in parts)


def test_a_device_that_always_warns_has_to_warn_more() -> None:
    rules = FaultRules()
    for day in range(90):
        warnings(rules, *(24 * day + hour for hour in (0, 8, 16)))
    quiet_from = 24 * 92
    assert len(rules.tick(quiet_from * HOUR_MS)) <= 1
    assert not any(warnings(rules, *(quiet_from + hour for hour in (0, 5, 10, 15))))


def test_a_rule_holds_until_a_day_has_been_quiet() -> None:
    #  e           w              deadline
    #  |-----------|---------------|
    #  0          10              34
    rules = FaultRules()
    rules.fault(0, "GAN-202", "error", "gantry")
    assert rules.fault(10 * HOUR_MS, "GAN-201", "warning", "gantry") is not None
    assert rules.deadline_ms() == 10 * HOUR_MS + DAY_MS
    assert rules.tick(10 * HOUR_MS + DAY_MS - 1) == []
    (cleared,) = rules.tick(10 * HOUR_MS + DAY_MS)
    assert (cleared.score, cleared.subsystem) == (0.0, "gantry")
    assert rules.deadline_ms() is None


def test_a_hard_failure_holds_until_the_device_is_restored() -> None:
    rules = FaultRules()
    rules.fault(0, "XR-900", "critical", "tube", stops_device=True)
    assert rules.deadline_ms() is None
    assert rules.tick(30 * DAY_MS) == []
    assert [judgement.score for judgement in rules.restored(30 * DAY_MS)] == [0.0]
    assert rules.restored(31 * DAY_MS) == []


def test_subsystems_that_have_long_been_quiet_are_forgotten_but_not_one_that_stopped_the_device() -> None:
    rules = FaultRules()
    rules.fault(0, "XR-900", "critical", "tube", stops_device=True)
    for day in range(400):
        rules.fault(day * DAY_MS, "X-1", "warning", f"made-up-{day}")
    assert "tube" in rules.subsystems
    assert len(rules.subsystems) < 200


def test_what_gets_worse_is_reported_as_worse() -> None:
    rules = FaultRules()
    rules.fault(0, "XR-101", "error", "tube")
    worse = rules.fault(HOUR_MS, "XR-900", "critical", "tube", stops_device=True)
    assert worse is not None
    assert (worse.severity, worse.onset_ms) == ("critical", 0)
    found = finding(worse, device_id="ct-1", site_id="s", customer_id="c")
    assert (found.detector, found.evidence["advice"]) == ("fault_rule", "dispatch_engineer")
