"""Failure risk: what raises it, how it learns from labels that arrive late, and how the threshold follows."""

import math
import random

import pytest

from detectors.announcement import AnnouncementThreshold, FleetAnnouncements
from detectors.bayes_logistic import BayesianLogistic
from detectors.failure_risk import DAY_MS, FailureRisk, finding
from detectors.risk_learned import LearnedRisk
from detectors.subsystem_health import FEATURES, HOUR_MS, SubsystemHealth
from schema.catalogue import Allowance

CALM = dict.fromkeys(FEATURES, 0.0)
TENSE = CALM | {"codes_1d": 1.4, "codes_3d": 1.8, "codes_7d": 2.0, "level_z": 3.0}


def month(shift: float = 0.0, from_hour: int = 24 * 28, hours: int = 24 * 35, seed: int = 1) -> SubsystemHealth:
    """A gauge with a daily cycle that is `shift` standard deviations off from `from_hour` on."""
    rng = random.Random(seed)
    health = SubsystemHealth()
    for hour in range(hours):
        off = shift if hour >= from_hour else 0.0
        health.window((hour + 1) * HOUR_MS, "tube_cel", 60 + 8 * (8 <= hour % 24 < 18) + rng.gauss(off, 1), 6)
    return health


def test_the_daily_cycle_is_no_deviation() -> None:
    assert month().features(24 * 35 * HOUR_MS, 0, 0)["level_z"] < 3


@pytest.mark.parametrize("shift", [-3.0, 3.0])
def test_a_gauge_off_its_usual_level_shows_either_way(shift: float) -> None:
    assert month(shift, from_hour=24 * 33).features(24 * 35 * HOUR_MS, 0, 0)["level_z"] > 5


def test_a_level_that_stays_becomes_usual() -> None:
    assert month(4.0, hours=24 * 80).features(24 * 80 * HOUR_MS, 0, 0)["level_z"] < 3


def test_codes_fade_and_a_repair_forgets_them() -> None:
    health = SubsystemHealth()
    for hour in range(5):
        health.fault(hour * HOUR_MS, "warning")
    now, later = (health.features(hour * HOUR_MS, 0, 0)["codes_1d"] for hour in (5, 72))
    assert now > 1.5 > 0.4 > later > 0
    health.restored(73 * HOUR_MS)
    assert health.features(74 * HOUR_MS, 0, 0)["codes_7d"] == 0.0


def test_information_is_no_sign_of_failure() -> None:
    health = SubsystemHealth()
    health.fault(0, "info")
    assert health.features(HOUR_MS, 0, 0)["codes_1d"] == 0.0


def learn(risk: FailureRisk, learned: LearnedRisk, now_ms: int) -> int:
    known = risk.mature(now_ms)
    learned.learn(known)
    return len(known)


def test_before_any_label_the_prior_tells_tense_from_calm() -> None:
    risk, learned = FailureRisk(), LearnedRisk()
    calm, tense = (risk.judge(learned, 0, device, "tube", signs) for device, signs in (("a", CALM), ("b", TENSE)))
    assert calm.probability < 0.05
    assert calm.score < 0.25
    assert tense.score > 0.5


#    judged   +24 h                 +7 d
#      |--------|---------------------|
#        late          right            wrong
@pytest.mark.parametrize(
    ("after_ms", "raises"), [(2 * DAY_MS, True), (7 * DAY_MS, True), (8 * DAY_MS, False), (None, False)]
)
def test_a_judgement_is_right_if_the_failure_comes_within_the_horizon(after_ms: int | None, raises: bool) -> None:
    risk, learned = FailureRisk(), LearnedRisk()
    before = risk.judge(learned, 0, "a", "tube", TENSE).probability
    if after_ms is not None:
        risk.failed("a", "tube", after_ms)
    assert learn(risk, learned, 7 * DAY_MS - 1) == 0
    assert learn(risk, learned, 7 * DAY_MS) == 1
    after = risk.judge(learned, 20 * DAY_MS, "b", "tube", TENSE).probability
    assert (after > before) is raises


def test_a_failure_that_follows_too_soon_teaches_nothing_but_makes_no_true_announcement() -> None:
    risk, learned = FailureRisk(), LearnedRisk()
    risk.judge(learned, 0, "a", "tube", TENSE)
    risk.failed("a", "tube", DAY_MS)
    assert risk.mature(7 * DAY_MS) == []
    assert risk.announcements.record() == (1.0, 0.0)


def test_a_failure_of_another_subsystem_does_not_count() -> None:
    risk, learned = FailureRisk(), LearnedRisk()
    risk.judge(learned, 0, "a", "tube", TENSE)
    risk.failed("a", "gantry", 3 * DAY_MS)
    assert [each.happened for each in risk.mature(7 * DAY_MS)] == [False]


def test_a_technicians_word_counts_as_a_label() -> None:
    risk, learned = FailureRisk(), LearnedRisk()
    risk.judge(learned, 0, "a", "tube", TENSE)
    risk.confirmed("a", "tube", DAY_MS // 2)
    assert [each.happened for each in risk.mature(7 * DAY_MS)] == [True]
    assert risk.announcements.record() == (1.0, 1.0)


def test_nothing_found_lowers_the_risk_for_some_days() -> None:
    risk, learned = FailureRisk(), LearnedRisk()
    risk.dismissed("a", "tube", 0)
    soon, other, later = (
        risk.judge(learned, at_ms, device, "tube", TENSE).probability
        for at_ms, device in ((HOUR_MS, "a"), (HOUR_MS, "b"), (30 * DAY_MS, "a"))
    )
    assert soon < other
    assert later == pytest.approx(other)


def test_no_future_is_known_to_a_judgement() -> None:
    # two fleets that differ only in what fails after day 40: until then, and until that is known, they judge alike
    def probabilities(fails: bool) -> list[tuple[int, float]]:
        risk, learned, rng = FailureRisk(), LearnedRisk(), random.Random(2)
        said = []
        for step in range(8 * 55):
            at_ms = step * 3 * HOUR_MS
            learned.learn(risk.mature(at_ms))
            if at_ms % DAY_MS == 0:
                learned.refit()
            for device in range(6):
                signs = TENSE if rng.random() < 0.3 else CALM
                judged = risk.judge(learned, at_ms, f"d{device}", "tube", signs, {"since code a": rng.random() * 99})
                said.append((at_ms, judged.probability))
                if signs is TENSE and rng.random() < 0.05 and (fails or at_ms < 40 * DAY_MS):
                    risk.failed(f"d{device}", "tube", at_ms)
        return said

    both = zip(probabilities(True), probabilities(False), strict=True)
    same = [(at_ms, one == other) for (at_ms, one), (_, other) in both]
    # a judgement of day 33 is the first whose outcome differs, and its outcome is learned on day 40
    assert all(equal for at_ms, equal in same if at_ms <= 40 * DAY_MS)
    assert not all(equal for at_ms, equal in same if at_ms > 40 * DAY_MS)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e200])
def test_a_feature_that_is_no_number_counts_as_missing(value: float) -> None:
    broken, missing = BayesianLogistic(), BayesianLogistic()
    for model, x in ((broken, {"drift": 1.0, "codes": value}), (missing, {"drift": 1.0, "codes": 0.0})):
        model.learn_one({"drift": 1.0}, True)
        model.learn_one(x, True)
        model.learn_one({"drift": 2.0, "codes": 1.0}, False)
    assert broken.predict_proba_one({"drift": 1.0, "codes": value}) == missing.predict_proba_one({"drift": 1.0})


def test_data_override_a_wrong_prior() -> None:
    model = BayesianLogistic(prior={"": -4.0, "drift": 3.0})
    rng = random.Random(1)
    for _ in range(3000):
        drift = rng.random()
        model.learn_one({"drift": drift}, rng.random() < 0.2)
    assert model.predict_proba_one({"drift": 0.1})[True] == pytest.approx(0.2, abs=0.06)
    assert model.predict_proba_one({"drift": 0.9})[True] == pytest.approx(0.2, abs=0.06)


def test_probabilities_are_calibrated_although_calm_judgements_are_thinned() -> None:
    risk, learned = FailureRisk(), LearnedRisk()
    rng = random.Random(1)
    for step in range(20_000):
        at_ms = step * 3 * HOUR_MS
        device = f"d{step}"
        learn(risk, learned, at_ms)
        risk.judge(learned, at_ms, device, "tube", CALM)
        if rng.random() < 0.01:
            risk.failed(device, "tube", at_ms + 2 * DAY_MS)
    assert risk.judge(learned, 10**12, "x", "tube", CALM).probability == pytest.approx(0.01, rel=0.3)
    assert risk.metrics()["base_rate"] == pytest.approx(0.01, rel=0.3)


def test_a_large_fleet_is_learned_from_a_sample_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FailureRisk, "PENDING", 400)
    risk, learned, rng = FailureRisk(), LearnedRisk(), random.Random(1)
    for step in range(60 * 8):
        at_ms = step * 3 * HOUR_MS
        learn(risk, learned, at_ms)
        for device in range(100):
            risk.judge(learned, at_ms, f"d{step}-{device}", "tube", TENSE)
            if rng.random() < 0.3:
                risk.failed(f"d{step}-{device}", "tube", at_ms + 2 * DAY_MS)
        assert len(risk.pending) <= 401
    spread = [example.at_ms for example in risk.pending]
    assert spread[-1] - spread[0] > 6 * DAY_MS
    assert risk.judge(learned, 10**12, "x", "tube", TENSE).probability == pytest.approx(0.3, rel=0.3)


def test_the_threshold_rises_when_weak_announcements_do_not_come_true() -> None:
    threshold = AnnouncementThreshold()
    for week in range(40):
        for key, odds, true in (("weak", -0.3, False), ("strong", 1.2, True)):
            threshold.verdict("ct", threshold.observe(key, week * 7 * DAY_MS, odds), true)
            for day in (3, 5):
                threshold.observe(key, (week * 7 + day) * DAY_MS, -9.0)
    assert -0.3 < threshold.value("ct") <= 1.2


def announced(model: str, odds: float, true: bool, times: int, into: FleetAnnouncements) -> None:
    """So many announcements of the odds, each over before the next begins."""
    for week in range(times):
        into.verdict(model, into.observe(model, week * 7 * DAY_MS, odds), true)
        for day in (3, 5):
            into.observe(model, (week * 7 + day) * DAY_MS, -9.0)


def test_a_model_keeps_its_budget_of_false_announcements_though_each_were_worth_its_cost() -> None:
    threshold = FleetAnnouncements()
    for model in ("ct", "mri"):
        threshold.allow(model, Allowance(false_alerts_per_device_month=0.1, cost_of_miss=3.0))
        threshold.watched(model, 30 * 300)
        announced(model, 1.2, True, 40, threshold)
        announced(model, -1.2, True, 40, threshold)
    announced("ct", -1.2, False, 60, threshold)
    announced("mri", -1.2, False, 6, threshold)
    threshold.absorb([threshold.contribution()])
    assert threshold.value("mri") <= -1.2 < threshold.value("ct") <= 1.2
    of_model = dict(threshold.metrics())
    assert of_model["ct"]["expected_false"] <= 0.1


def test_a_costlier_miss_is_announced_on_weaker_signs() -> None:
    threshold = FleetAnnouncements()
    threshold.allow("ct", Allowance(false_alerts_per_device_month=9.0))
    threshold.allow("ventilator", Allowance(false_alerts_per_device_month=9.0, cost_of_miss=4.0))
    announced("ct", -0.9, False, 20, threshold)
    announced("ct", -0.9, True, 10, threshold)
    announced("ct", 1.2, True, 20, threshold)
    threshold.absorb([threshold.contribution()])
    assert threshold.value("ventilator") <= -0.9 < threshold.value("ct")


def test_an_announcement_that_dips_for_an_hour_is_still_the_same() -> None:
    threshold = AnnouncementThreshold()
    assert threshold.observe("a", 0, 0.1) != (0, 0)
    assert threshold.observe("a", HOUR_MS, -5.0) == (0, 0)
    assert threshold.observe("a", 2 * HOUR_MS, 0.1) == (0, 0)


def test_a_finding_names_codes_probability_and_reasons() -> None:
    risk, learned = FailureRisk(), LearnedRisk()
    judged = risk.judge(learned, 0, "a", "tube", TENSE)
    names = {"device_id": "a", "site_id": "s", "customer_id": "c", "subsystem": "tube"}
    found = finding(judged, learned.reasons("ct", judged.signs), {"XR-101": 3}, 0, 0, **names)
    assert found.score == judged.score
    assert found.evidence["codes"] == {"XR-101": 3}
    assert 0 < found.evidence["probability"] < 1
    assert found.evidence["reasons"][0] == "fault codes within 3 days (1.8): odds x15"


def test_a_window_that_is_no_number_is_as_if_it_had_not_been() -> None:
    health = month()
    before = health.features(35 * DAY_MS, 0, 0) | health.trends(35 * DAY_MS)
    for mean in (math.nan, math.inf, -math.inf, 1e200, None, "off", True):
        health.window(35 * DAY_MS, "tube_cel", mean, 6)  # type: ignore[arg-type]
    assert health.features(35 * DAY_MS, 0, 0) | health.trends(35 * DAY_MS) == before
