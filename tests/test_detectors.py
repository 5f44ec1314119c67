"""What every detector promises: it can be cloned and pickled, repeats itself, stays small and within its range."""

import pickle
import random
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from river import base, preprocessing
from river.checks import yield_checks

from detectors.announcement import AnnouncementThreshold
from detectors.bayes_logistic import BayesianLogistic
from detectors.failure_risk import FailureRisk
from detectors.fault_rules import FaultRules
from detectors.silence import Cadence
from detectors.subsystem_health import SubsystemHealth
from detectors.usage_drop import DAY_MS, HOUR_MS, UsageDrop

Step = Callable[[Any, random.Random, int], list[float]]


def usage(detector: UsageDrop, rng: random.Random, hour: int) -> list[float]:
    judgement = detector.update((hour + 1) * HOUR_MS, rng.randrange(5))
    return [judgement.belief]


def health(detector: SubsystemHealth, rng: random.Random, hour: int) -> list[float]:
    at_ms = (hour + 1) * HOUR_MS
    if rng.random() < 0.1:
        detector.fault(at_ms, rng.choice(["info", "warning", "error"]))
    detector.window(at_ms, rng.choice(["tube_cel", "detector_cel"]), rng.gauss(50, 3), 6)
    return [value / 100 for value in map(abs, detector.features(at_ms, 400 * DAY_MS, DAY_MS).values())]


def risk(detector: FailureRisk, rng: random.Random, hour: int) -> list[float]:
    at_ms = (hour + 1) * HOUR_MS
    detector.mature(at_ms)
    scores = []
    for device in ("ct-1", "ct-2"):
        judgement = detector.judge(at_ms, device, "tube", {"codes_1d": rng.random(), "codes_3d": 2 * rng.random()})
        scores += [judgement.probability, judgement.score]
        if rng.random() < 0.01:
            detector.failed(device, "tube", at_ms)
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


def threshold(detector: AnnouncementThreshold, rng: random.Random, hour: int) -> list[float]:
    begun = detector.observe(rng.choice("ab"), hour * HOUR_MS, rng.gauss(-1, 2))
    detector.verdict(begun, rng.random() < 0.5)
    return [(detector.value + 5) / 10]


EVERY = [
    pytest.param(UsageDrop, usage, id="usage_drop"),
    pytest.param(SubsystemHealth, health, id="subsystem_health"),
    pytest.param(FailureRisk, risk, id="failure_risk"),
    pytest.param(FaultRules, rules, id="fault_rules"),
    pytest.param(lambda: Cadence(1_800_000), cadence, id="silence"),
    pytest.param(AnnouncementThreshold, threshold, id="announcement"),
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


@pytest.mark.usefixtures("without_sklearn")
@pytest.mark.parametrize(
    "model", [BayesianLogistic(), preprocessing.StandardScaler() | BayesianLogistic()], ids=["alone", "scaled"]
)
def test_the_model_passes_rivers_own_checks(model: base.Estimator) -> None:
    names = set()
    for check in yield_checks(model):
        if check.__name__ not in model._unit_test_skips():
            check(model.clone())
            names.add(check.__name__)
    assert {"check_learn_one", "check_pickling", "check_predict_proba_one"} <= names
