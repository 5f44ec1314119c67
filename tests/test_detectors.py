"""What every detector promises: it can be cloned and pickled, repeats itself, stays small and within its range."""

import importlib
import math
import pickle
import pkgutil
import random
import sys
from collections.abc import Callable, Hashable
from types import ModuleType
from typing import Any

import pytest
from river import base, preprocessing
from river.checks import yield_checks

import detectors
from detectors.alert_threshold import Threshold
from detectors.announcement import AnnouncementThreshold, FleetAnnouncements
from detectors.anomaly_joint import JointAnomaly
from detectors.bayes_logistic import BayesianLogistic
from detectors.budget import AlertBudget
from detectors.change_point import ChangePoint
from detectors.counter_forecast import CounterForecast
from detectors.detector import Detector
from detectors.due import Dues
from detectors.failure_risk import FailureRisk
from detectors.fault_patterns import CodeRates, FaultPatterns
from detectors.fault_rules import FaultRules
from detectors.risk_crosses import SparseCrosses
from detectors.risk_experts import RiskExperts
from detectors.risk_learned import LearnedRisk
from detectors.risk_trees import RefittedTrees
from detectors.sensor_anomaly import SensorAnomaly
from detectors.sensor_watch import SensorWatch
from detectors.silence import Cadence
from detectors.subsystem_health import SubsystemHealth
from detectors.usage_drop import DAY_MS, HOUR_MS, UsageDrop
from schema.catalogue import Limit

Step = Callable[[Any, random.Random, int], list[float]]


def number(rng: random.Random, value: float) -> float:
    """The value, or now and then NaN or infinite: legal input of whoever takes numbers."""
    return value if rng.random() < 0.95 else rng.choice([math.nan, math.inf, -math.inf])


def usage(detector: UsageDrop, rng: random.Random, hour: int) -> list[float]:
    judgement = detector.update((hour + 1) * HOUR_MS, number(rng, rng.randrange(5)), number(rng, 1.0))
    return [judgement.belief]


def health(detector: SubsystemHealth, rng: random.Random, hour: int) -> list[float]:
    at_ms = (hour + 1) * HOUR_MS
    if rng.random() < 0.1:
        detector.fault(at_ms, rng.choice(["info", "warning", "error"]))
    detector.window(at_ms, rng.choice(["tube_cel", "detector_cel"]), number(rng, rng.gauss(50, 3)), 6)
    return [value / 100 for value in map(abs, detector.features(at_ms, 400 * DAY_MS, DAY_MS).values())]


class AloneRisk(base.Base):  # type: ignore[misc]  # River publishes no types
    """Failure risk of one partition that learns at once."""

    def __init__(self) -> None:
        self.risk, self.learned = FailureRisk(), LearnedRisk()
        self.learned.experts[""] = RiskExperts()
        self.learned.experts[""].trees.MOST = 256


def risk(detector: AloneRisk, rng: random.Random, hour: int) -> list[float]:
    at_ms = (hour + 1) * HOUR_MS
    detector.learned.learn(detector.risk.mature(at_ms))
    if hour % 24 == 0:
        detector.learned.refit()
    scores = []
    for device in ("ct-1", "ct-2"):
        signs = {name: number(rng, rng.random()) for name in rng.sample(["codes_1d", "codes_3d", "level_z"], 2)}
        ages_h = {name: number(rng, 200 * rng.random()) for name in rng.sample(["since code arc", "since part"], 1)}
        judgement = detector.risk.judge(detector.learned, at_ms, device, "tube", signs, ages_h)
        scores += [judgement.probability, judgement.score]
        if rng.random() < 0.01:
            detector.risk.failed(device, "tube", at_ms)
    return scores


def rules(detector: FaultRules, rng: random.Random, hour: int) -> list[float]:
    at_ms = (hour + 1) * HOUR_MS
    found = detector.tick(at_ms)
    judgement = detector.fault(at_ms, "XR-101", rng.choice(["info", "warning", "warning", "error"]), "tube")
    return [each.score for each in [*found, judgement] if each is not None]


def cadence(detector: Cadence, rng: random.Random, hour: int) -> list[float]:
    detector.heard(hour * HOUR_MS + rng.randrange(HOUR_MS))
    overdue_ms = detector.overdue_at_ms()
    assert overdue_ms is not None
    return [(overdue_ms - detector.last_ms) / (30 * HOUR_MS)]


def anomaly(detector: SensorAnomaly, rng: random.Random, hour: int) -> list[float]:
    values = [rng.choice([None, 50 + hour % 24, number(rng, rng.gauss(50, 3))]) for _ in range(4)]
    return [detector.update(hour * HOUR_MS, value) for value in values]


def joint(detector: JointAnomaly, rng: random.Random, hour: int) -> list[float]:
    names = rng.sample(["kpa", "cel", "lpm"], rng.randrange(4))
    reading: dict[Hashable, Any] = {name: rng.choice([None, number(rng, rng.gauss(50, 3))]) for name in names}
    return [detector.score_one(reading, hour * HOUR_MS), detector.update(reading, hour * HOUR_MS)]


def change(detector: ChangePoint, rng: random.Random, hour: int) -> list[float]:
    detector.update([number(rng, rng.gauss(5 * (hour // 100 % 3), 1)), rng.choice([None, math.nan, rng.gauss(50, 3)])])
    return [detector.certainty, float(detector.drift_detected)]


def sensors(detector: SensorWatch, rng: random.Random, hour: int) -> list[float]:
    level = 50 + 9 * (hour // 400 % 2)
    means = {name: number(rng, rng.gauss(level, 3)) for name in rng.sample(["kpa", "cel", "lpm"], 2)}
    judged = detector.window((hour + 1) * HOUR_MS, means)
    return [] if judged is None else [(each + 40) / 800 for each in (judged.surprise_odds, judged.shift_odds)]


def threshold(detector: AnnouncementThreshold, rng: random.Random, hour: int) -> list[float]:
    begun = detector.observe((rng.choice("ab"),), hour * HOUR_MS, number(rng, rng.gauss(-1, 2)))
    detector.verdict("ct", begun, rng.random() < 0.5)
    return [(detector.value("ct") + 5) / 10]


def budget(detector: AlertBudget, rng: random.Random, hour: int) -> list[float]:
    names = ("usage_drop", "failure_risk", "fault_pattern")
    odds = {name: number(rng, rng.gauss(0, 5)) for name in names}
    scores = [detector.observe(name, (rng.choice("abc"),), hour * HOUR_MS, odds[name]) for name in names]
    if rng.random() < 0.1:
        detector.judged(rng.choice(names), (rng.choice("abc"),), rng.random() < 0.5)
    if hour % 24 == 23:
        detector.watched(3)
        detector.absorb([detector.contribution()])
    return scores


def patterns(detector: FaultPatterns, rng: random.Random, hour: int) -> list[float]:
    if hour % 24 == 0:
        detector.watched()
    if rng.random() < 0.8:
        return []
    judged = detector.fault(hour * HOUR_MS, rng.choice(["XR-101", "XR-102", "GAN-201"]), "tube", 0.05)
    detector.raised(judged)
    return [(judged.odds + 40) / 80, *((each.odds + 40) / 80 for each in detector.tick(hour * HOUR_MS))]


def rates(detector: CodeRates, rng: random.Random, hour: int) -> list[float]:
    detector.seen(rng.choice(["XR-101", "XR-102"]))
    if hour % 24 == 23:
        detector.watched(10)
        detector.absorb([detector.contribution()])
    return [min(1.0, detector.rate("XR-101"))]


def due(detector: Dues, rng: random.Random, hour: int) -> list[float]:
    growth, limit = rng.random() * 10, Limit(metric="scans", every=500.0)
    detector.counter("scans", hour, number(rng, 1.0), number(rng, growth))
    judged, _ = detector.judge("service", limit, hour, growth, 5 * hour)
    if hour % 120 == 0:
        detector.served("service", hour * DAY_MS)
    return [judged.chance] if judged is not None else []


EVERY = [
    pytest.param(UsageDrop, usage, id="usage_drop"),
    pytest.param(SubsystemHealth, health, id="subsystem_health"),
    pytest.param(AloneRisk, risk, id="failure_risk"),
    pytest.param(FaultRules, rules, id="fault_rules"),
    pytest.param(lambda: Cadence(1_800_000), cadence, id="silence"),
    pytest.param(AnnouncementThreshold, threshold, id="announcement"),
    pytest.param(ChangePoint, change, id="change_point"),
    pytest.param(SensorWatch, sensors, id="sensor_watch"),
    pytest.param(AlertBudget, budget, id="budget"),
    pytest.param(FaultPatterns, patterns, id="fault_patterns"),
    pytest.param(CodeRates, rates, id="code_rates"),
    pytest.param(Dues, due, id="due"),
    pytest.param(SensorAnomaly, anomaly, id="sensor_anomaly"),
    pytest.param(JointAnomaly, joint, id="joint_anomaly"),
]


def run(detector: Any, step: Step, first: int, stop: int, seed: int = 1) -> list[float]:
    rng = random.Random(f"{seed}/{first}")
    return [score for hour in range(first, stop) for score in step(detector, rng, hour)]


@pytest.mark.parametrize(("make", "step"), EVERY)
def test_the_same_input_gives_the_same_scores(make: Callable[[], Any], step: Step) -> None:
    assert run(make(), step, 0, 1500) == run(make(), step, 0, 1500)


@pytest.mark.parametrize(("make", "step"), EVERY)
def test_a_detector_from_a_snapshot_goes_on_as_if_nothing_had_happened(make: Callable[[], Any], step: Step) -> None:
    detector = make()
    run(detector, step, 0, 900)
    copy = pickle.loads(pickle.dumps(detector))
    assert run(copy, step, 900, 1500) == run(detector, step, 900, 1500)


@pytest.mark.parametrize(("make", "step"), EVERY)
def test_scores_stay_in_their_range(make: Callable[[], Any], step: Step) -> None:
    scores = run(make(), step, 0, 1500)
    assert scores
    assert all(0.0 <= score <= 1.0 for score in scores)


@pytest.mark.parametrize(("make", "step"), EVERY)
def test_memory_does_not_grow_with_the_length_of_the_stream(make: Callable[[], Any], step: Step) -> None:
    detector = make()
    run(detector, step, 0, 2000)
    early = len(pickle.dumps(detector))
    run(detector, step, 2000, 6000)
    assert len(pickle.dumps(detector)) < 1.25 * early + 500


@pytest.mark.parametrize(("make", "step"), EVERY)
def test_a_clone_begins_anew(make: Callable[[], Any], step: Step) -> None:
    detector = make()
    run(detector, step, 0, 900)
    assert run(detector.clone(), step, 0, 900) == run(make(), step, 0, 900)


@pytest.fixture
def without_sklearn(monkeypatch: pytest.MonkeyPatch) -> None:
    """River's checks import scikit-learn for data that only multi-output regressors are given."""
    package, datasets = ModuleType("sklearn"), ModuleType("sklearn.datasets")
    package.datasets = datasets  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sklearn", package)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", datasets)


ESTIMATORS = (
    AlertBudget, AnnouncementThreshold, BayesianLogistic, Cadence, ChangePoint, CodeRates, CounterForecast, Dues,
    FailureRisk, FaultPatterns, FaultRules, FleetAnnouncements, JointAnomaly, LearnedRisk, RefittedTrees, RiskExperts,
    SensorAnomaly, SensorWatch, SparseCrosses, SubsystemHealth, Threshold, UsageDrop,
)  # fmt: skip
GENERAL_CHECKS = {
    "check_clone_changes_memory_addresses",
    "check_clone_is_idempotent",
    "check_clone_same_class",
    "check_clone_with_new_params_applies",
    "check_doc",
    "check_get_params_matches_signature",
    "check_init_default_params_are_not_mutable",
    "check_init_has_default_params_for_tests",
    "check_mutate_can_be_idempotent",
    "check_pickling_supports_roundtrip",
    "check_repr",
    "check_repr_roundtrips_clone",
    "check_str",
    "check_tags",
}


def test_every_estimator_is_checked() -> None:
    modules = [importlib.import_module(f"detectors.{each.name}") for each in pkgutil.iter_modules(detectors.__path__)]
    kinds = [kind for module in modules for kind in vars(module).values() if isinstance(kind, type)]
    ours = {kind for kind in kinds if issubclass(kind, base.Base) and kind.__module__.startswith("detectors.")}
    assert ours == {*ESTIMATORS, Detector}


@pytest.mark.usefixtures("without_sklearn")
@pytest.mark.parametrize("kind", ESTIMATORS, ids=lambda kind: kind.__name__)
def test_every_estimator_passes_rivers_general_checks(kind: type[base.Base]) -> None:
    names = set()
    for check in yield_checks(kind()):
        names.add(check.__name__)
        if check.__name__ in GENERAL_CHECKS:
            check(kind())
    assert names >= GENERAL_CHECKS


@pytest.mark.usefixtures("without_sklearn")
@pytest.mark.parametrize(
    "model",
    [BayesianLogistic(), preprocessing.StandardScaler() | BayesianLogistic(), SparseCrosses()],
    ids=["alone", "scaled", "crosses"],
)
def test_the_model_passes_rivers_checks_on_data_too(model: base.Estimator) -> None:
    names = set()
    for check in yield_checks(model):
        if check.__name__ not in model._unit_test_skips():
            check(model.clone())
            names.add(check.__name__)
    assert {"check_learn_one", "check_pickling", "check_predict_proba_one"} <= names
