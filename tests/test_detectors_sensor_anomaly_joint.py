"""Joint anomaly: a River citizen that sees when sensors no longer hang together."""

import math
import pickle
import random
import sys
from collections.abc import Callable, Hashable, Iterator
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from river import datasets
from river.checks import yield_checks

from detectors.anomaly_joint import MOST_SENSORS, JointAnomaly

STEP_MS = 300_000
ANNOUNCED = 0.5


class Pumps:
    """Pressures and a flow that one load drives, each with a noise of its own."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.load = 0.0

    def reading(self) -> dict[Hashable, float]:
        self.load = 0.97 * self.load + 0.24 * self.rng.gauss(0, 1)
        return {
            "supply_kpa": 300.0 + 20.0 * self.load + self.rng.gauss(0, 2),
            "return_kpa": 100.0 + 8.0 * self.load + self.rng.gauss(0, 0.8),
            "flow_lpm": 12.0 + self.load + self.rng.gauss(0, 0.1),
        }


def grown(readings: int = 3000, seed: int = 1) -> tuple[JointAnomaly, Pumps]:
    detector, pumps = JointAnomaly(), Pumps(seed)
    for i in range(readings):
        detector.update(pumps.reading(), i * STEP_MS)
    return detector, pumps


@pytest.mark.parametrize("seed", range(4))
def test_sensors_that_part_are_announced_although_each_value_is_usual(seed: int) -> None:
    # supply  ___/~~~      supply  ___/~~~
    # flow    ___/~~~      flow    ___\___
    detector, pumps = grown(seed=seed)
    usual = pumps.reading()
    apart = usual | {"flow_lpm": usual["flow_lpm"] - math.copysign(1.5, usual["flow_lpm"] - 12.0)}
    assert detector.score_one(usual) < ANNOUNCED < detector.score_one(apart)
    detector.learn_one(apart)
    assert detector.reasons()["flow_lpm"] < 2


def test_one_sensor_far_out_is_announced_and_named_first() -> None:
    detector, pumps = grown()
    assert detector.update(pumps.reading() | {"return_kpa": 400.0}) >= 0.7
    assert next(iter(detector.reasons())) == "return_kpa"


def test_scoring_teaches_nothing() -> None:
    detector, pumps = grown(500)
    before = pickle.dumps(detector)
    first = detector.score_one(pumps.reading() | {"new": 3.0})
    assert 0.0 <= first < 1.0
    assert pickle.dumps(detector) == before


def test_learning_and_scoring_agree_with_updating() -> None:
    one, other = JointAnomaly(), JointAnomaly()
    pumps = Pumps(2)
    for i in range(600):
        reading = pumps.reading()
        score = one.score_one(reading, i * STEP_MS)
        one.learn_one(reading, i * STEP_MS)
        assert other.update(reading, i * STEP_MS) == score


def test_missing_sensors_are_left_out() -> None:
    detector, pumps = grown(1000)
    rng = random.Random(3)
    for _ in range(500):
        reading = {name: math.nan if rng.random() < 0.3 else value for name, value in pumps.reading().items()}
        reading.pop(rng.choice(list(reading)))
        assert detector.update(reading) < 0.75
    assert detector.update({}) == detector.update({"flow_lpm": None, "note": "off"}) == 0.0


@pytest.mark.parametrize("number", [np.float32, np.int64, Fraction])
def test_any_kind_of_number_is_a_value_and_a_truth_is_none(number: Callable[[float], Any]) -> None:
    given, plain = JointAnomaly(), JointAnomaly()
    rng = random.Random(1)
    for i in range(600):
        kpa, lpm = rng.randrange(9), 99 if i > 590 else 0
        exact = given.update({"supply_kpa": number(kpa), "flow_lpm": number(lpm), "on": i % 2 == 0})
        assert exact == plain.update({"supply_kpa": float(kpa), "flow_lpm": float(lpm)})
    assert plain.reasons()["flow_lpm"] > 1
    assert given.reasons() == plain.reasons()


def test_a_sensor_that_comes_later_is_learned() -> None:
    detector, pumps = grown(1000)
    for _ in range(600):
        detector.update(pumps.reading() | {"speed_rpm": 900.0 + pumps.rng.gauss(0, 5)})
    assert detector.update(pumps.reading() | {"speed_rpm": 1400.0}) >= ANNOUNCED


def test_sensors_that_repeat_each_other_do_no_harm() -> None:
    detector, rng = JointAnomaly(), random.Random(4)
    scores = []
    for _ in range(3000):
        value = rng.gauss(0, 1)
        scores.append(detector.update({"a": value, "b": value, "c": 5.0}))
    assert all(0.0 <= score < 1.0 for score in scores)
    assert sum(score >= ANNOUNCED for score in scores) <= 10


def test_memory_is_bounded_by_the_number_of_sensors() -> None:
    detector = JointAnomaly()
    for i in range(300):
        detector.update({f"metric {k}": float(i * k % 17) for k in range(3 * MOST_SENSORS)})
    assert len(detector.reasons()) == MOST_SENSORS
    assert len(pickle.dumps(detector)) < 2000 * MOST_SENSORS


def test_a_snapshot_goes_on_the_same() -> None:
    detector, pumps = grown(800)
    copy = pickle.loads(pickle.dumps(detector))
    readings = [pumps.reading() for _ in range(200)]
    assert [copy.update(reading) for reading in readings] == [detector.update(reading) for reading in readings]


class CreditCard:
    """Stands in for the data set of that name that River's checks would fetch from the network."""

    COLUMNS = 30

    def take(self, n: int) -> Iterator[tuple[dict[str, float], int]]:
        rng = random.Random(5)
        for _ in range(n):
            fraud = rng.random() < 0.02
            yield {f"V{k}": rng.gauss(6.0 * fraud, 1.0) for k in range(self.COLUMNS)}, int(fraud)


@pytest.mark.filterwarnings("ignore")
def test_it_passes_rivers_own_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    package, sets, metrics = ModuleType("sklearn"), ModuleType("sklearn.datasets"), ModuleType("sklearn.metrics")
    package.datasets, package.metrics, metrics.roc_auc_score = sets, metrics, area  # type: ignore[attr-defined]
    for name, module in {"sklearn": package, "sklearn.datasets": sets, "sklearn.metrics": metrics}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(datasets, "CreditCard", CreditCard)
    names = set()
    for check in yield_checks(JointAnomaly()):
        check(JointAnomaly())
        names.add(check.__name__)
    assert {"check_learn_one", "check_pickling", "check_no_state_aliasing_with_input", "check_roc_auc"} <= names


def area(labels: list[int], scores: list[float]) -> float:
    """Share of pairs of an anomaly and a usual reading in which the anomaly scores higher, ties as halves."""
    odd = [score for score, label in zip(scores, labels, strict=True) if label]
    usual = [score for score, label in zip(scores, labels, strict=True) if not label]
    return sum((a > b) + 0.5 * (a == b) for a in odd for b in usual) / (len(odd) * len(usual))
