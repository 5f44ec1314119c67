"""The alert budget: thresholds keep what people allow, from what the detectors offer and what became of it."""

import pickle
import random
from collections.abc import Iterator

import pytest

from detectors.alert_threshold import Scale, Threshold, log_odds, sigmoid, surprise
from detectors.budget import DAY_MS, AlertBudget
from schema.catalogue import Allowance, CatalogueError, load_catalogue, parse_budgets

DEVICES = 200
CALM = -20.0


def budget_of(detector: str, false_alerts: float = 0.1, false: float = 1.0, miss: float = 1.0) -> AlertBudget:
    budget = AlertBudget()
    budget.allowances = {detector: Allowance(false_alerts, false, miss)}
    return budget


def live(
    budget: AlertBudget, detector: str, days: int, alerts_a_day: float, overconfidence: float = 0.0
) -> Iterator[int]:
    """False alerts raised on each day: device-days with candidates whose probability is right, or too high by so many
    log odds; people judge each alert that was raised after ten days."""
    rng = random.Random(5)
    waiting: list[tuple[int, str, bool]] = []
    for day in range(days):
        raised_false = 0
        for device in range(DEVICES):
            key = (f"d{device}",)
            if rng.random() >= alerts_a_day / DEVICES:
                budget.observe(detector, key, day * DAY_MS, CALM)
                continue
            odds = rng.gauss(0.0, 1.5)
            true = rng.random() < sigmoid(odds)
            raised = budget.observe(detector, key, day * DAY_MS, odds + overconfidence) >= 0.5
            raised_false += raised and not true
            if raised:
                waiting.append((day + 10, key[0], true))
        while waiting and waiting[0][0] <= day:
            _, device_id, came_true = waiting.pop(0)
            budget.judged(detector, (device_id,), came_true)
        budget.watched(DEVICES)
        budget.absorb([budget.contribution()])
        yield raised_false


def false_a_month(days: list[int]) -> float:
    return 30 * sum(days) / (len(days) * DEVICES)


@pytest.mark.parametrize("allowed", [0.03, 0.08])
def test_the_false_alerts_of_a_calibrated_detector_stay_within_the_budget(allowed: float) -> None:
    days = list(live(budget_of("usage_drop", allowed), "usage_drop", 360, alerts_a_day=10))
    assert false_a_month(days[:10]) > 1.3 * allowed
    assert 0.4 * allowed < false_a_month(days[180:]) < 1.3 * allowed


def test_what_people_find_corrects_a_detector_that_is_too_sure() -> None:
    judged, unjudged = (budget_of("usage_drop", 0.1, miss=100.0) for _ in range(2))
    days = list(live(judged, "usage_drop", 360, 10, overconfidence=2.0))
    unjudged.judged = lambda *_: None  # type: ignore[method-assign]
    unheard = list(live(unjudged, "usage_drop", 360, 10, overconfidence=2.0))
    assert judged.threshold("usage_drop") > unjudged.threshold("usage_drop")
    assert false_a_month(days[180:]) < 0.7 * false_a_month(unheard[180:])


@pytest.mark.parametrize(("false", "miss", "least"), [(1.0, 1.0, 0.5), (1.0, 3.0, 0.25), (2.0, 1.0, 2 / 3)])
def test_with_room_in_the_budget_the_costs_say_how_sure_is_sure_enough(false: float, miss: float, least: float) -> None:
    budget = budget_of("usage_drop", 10.0, false, miss)
    for _ in live(budget, "usage_drop", 90, alerts_a_day=1):
        pass
    assert least - 0.01 <= sigmoid(budget.threshold("usage_drop")) < least + 0.08


def test_a_threshold_moves_by_a_step_a_day() -> None:
    budget = budget_of("sensor_anomaly", 0.001)
    before = budget.threshold("sensor_anomaly")
    for day in range(20):
        for device in range(DEVICES):
            budget.observe("sensor_anomaly", (f"d{device}", str(day)), day * DAY_MS, 30.0)
        budget.watched(DEVICES)
        budget.absorb([budget.contribution()])
        after = budget.threshold("sensor_anomaly")
        assert 0 <= after - before <= Threshold.STEP
        before = after
    assert before > 12.0


def test_a_quiet_detector_becomes_more_sensitive_but_not_without_limit() -> None:
    budget = budget_of("sensor_anomaly", 0.1)
    start = budget.threshold("sensor_anomaly")
    for _ in range(400):
        budget.watched(DEVICES)
        budget.absorb([budget.contribution()])
    assert start + Scale(start, False).lowest <= budget.threshold("sensor_anomaly") < start - 1


def test_an_episode_counts_once_at_its_peak() -> None:
    #       ___/\__
    # _____/       \____   one episode
    threshold = Threshold()
    for day, odds in enumerate([CALM, 0.1, 1.0, 2.5, 1.0, 0.1, CALM, CALM, CALM]):
        threshold.observe(("d",), day * DAY_MS, odds)
    start = threshold.level
    assert threshold.day.onsets[start] == 1
    assert threshold.day.charges[start] == pytest.approx(1e6 * sigmoid(-2.5), rel=0.01)
    threshold.observe(("d",), 20 * DAY_MS, 0.1)
    assert threshold.day.onsets[start] == 2


def test_an_event_after_a_quiet_day_begins_another_episode() -> None:
    budget = AlertBudget()
    for day in (0, 1, 1.5, 9):
        budget.observe("fault_pattern", ("d", "tube"), round(day * DAY_MS), 12.0)
    threshold = budget.thresholds["fault_pattern"]
    assert threshold.day.onsets[threshold.level] == 3


def test_codes_that_foretold_nothing_within_their_horizon_were_false() -> None:
    budget = budget_of("fault_pattern", 1.0)
    for device in range(20):  # once each, and nothing of them is heard ever after
        budget.observe("fault_pattern", (f"d{device}", "tube"), 0, 12.0)
    for day in range(18):
        if day == 5:
            for device in range(5):
                budget.judged("fault_pattern", (f"d{device}", "tube"), true=True)
        budget.watched(DEVICES)
        budget.absorb([budget.contribution()])
    threshold = budget.thresholds["fault_pattern"]
    assert threshold.claimed == pytest.approx(20, rel=0.1)
    assert threshold.false == pytest.approx(15, rel=0.1)
    assert not threshold.episodes
    assert not threshold.over


def test_a_day_that_closes_between_two_faults_does_not_divide_their_episode() -> None:
    budget = budget_of("fault_rule", 1.0)
    for day in range(6):
        budget.observe("fault_rule", ("d", "tube"), round(0.9 * day * DAY_MS), 12.0)
        budget.absorb([budget.contribution()])
    threshold = budget.thresholds["fault_rule"]
    assert threshold.onsets[threshold.level] == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("partitions", [4, 16])
def test_the_number_of_partitions_and_their_order_do_not_show(partitions: int) -> None:
    def fleet(parts: int) -> list[AlertBudget]:
        rng = random.Random(3)
        budgets = [budget_of("usage_drop", 0.05) for _ in range(parts)]
        for day in range(60):
            for device in range(64):
                budget = budgets[device % parts]
                budget.observe("usage_drop", (f"d{device}",), day * DAY_MS, rng.gauss(-1, 2))
                if device % 7 == 0:
                    budget.judged("usage_drop", (f"d{device}",), day % 2 == 0)
            for number, budget in enumerate(budgets):
                budget.watched(len(range(number, 64, parts)))
            contributions = [budget.contribution() for budget in budgets]
            for budget in budgets:
                rng_of_day = random.Random(day)
                rng_of_day.shuffle(contributions)
                budget.absorb(contributions)
        return budgets

    alone, *_ = fleet(1)
    for each in fleet(partitions):
        assert dict(each.metrics()) == dict(alone.metrics())
    assert alone.threshold("usage_drop") > 0


def test_a_partition_without_such_devices_learns_the_same_threshold() -> None:
    here, there = budget_of("usage_drop", 0.01, false=3.0), AlertBudget()
    for day in range(30):
        for device in range(DEVICES):
            here.observe("usage_drop", (f"d{device}", str(day)), day * DAY_MS, 1.5)
        here.watched(DEVICES)
        contribution = here.contribution()
        here.absorb([contribution])
        there.absorb([contribution, b""])
    assert there.threshold("usage_drop") == here.threshold("usage_drop")


def test_a_device_that_has_left_leaves_no_episode_behind() -> None:
    budget = AlertBudget()
    for device in ("a", "b"):
        budget.observe("usage_drop", (device, ""), 0, 5.0)
    budget.left("a")
    assert list(budget.thresholds["usage_drop"].episodes) == [("b", "")]


def test_no_judgement_is_no_candidate() -> None:
    budget = AlertBudget()
    assert budget.observe("usage_drop", ("d",), 0, float("nan")) == 0.0
    assert budget.contribution() == b""


def test_a_budget_from_a_snapshot_goes_on_as_if_nothing_had_happened() -> None:
    first = budget_of("usage_drop", 0.05)
    list(live(first, "usage_drop", 40, 10))
    second = pickle.loads(pickle.dumps(first))
    assert list(live(second, "usage_drop", 20, 10)) == list(live(first, "usage_drop", 20, 10))


def test_surprise_and_log_odds_are_the_same_scale() -> None:
    assert surprise(1e-4) == pytest.approx(log_odds(1 - 1e-4))
    assert surprise(0.0) == 40.0
    assert surprise(1.0) < -10


def test_the_catalogue_gives_every_model_its_budgets() -> None:
    ct, ventilator = (load_catalogue()[model].budgets for model in ("ct", "ventilator"))
    assert ct["usage_drop"].false_alerts_per_device_month == 0.05
    assert ventilator["failure_risk"].cost_of_miss > ct["failure_risk"].cost_of_miss


def test_a_budget_without_sense_is_refused() -> None:
    with pytest.raises(CatalogueError, match="false_alerts_per_device_month"):
        parse_budgets("mine.toml", "[all.usage_drop]\nfalse_alerts_per_device_month = 0\n")
