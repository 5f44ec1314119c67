"""The experts on one device model: three views of the same signs."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detectors.bayes_logistic import BayesianLogistic
from detectors.detector import Detector
from detectors.risk_crosses import CAP_H, SparseCrosses
from detectors.risk_signs import SINCE, Labelled, Names, Signs
from detectors.risk_trees import RefittedTrees
from schema.compiled import compiled

EXPERTS = ("linear", "crosses", "trees")
_NEVER = float(np.log1p(CAP_H))
Row = NDArray[np.float32]
Vector = NDArray[np.float64]


class RiskExperts(Detector):
    """Log odds of a failure by experts who look at the same columns in their own way.

    * `linear`: Bayesian logistic regression with full covariance, each column in standard deviations of what the fleet
      shows, clipped at CLIP. The fleet's mean is its healthy level, for nearly all of it is healthy.
    * `crosses`: hours since things happened, and pairs of them (`SparseCrosses`).
    * `trees`: boosting on all columns, refitted at day boundaries (`RefittedTrees`).

    * Range: log odds. Warm-up: none for `linear`; the others say 0 until they know something.
    * Memory: (columns + 1) squared floats (COLUMNS: 320 kB), 1 MB of crosses, and what `RefittedTrees` keeps.
    """

    CLIP = 5.0
    WARM = 20.0
    """Examples before the fleet's spread is believed; columns are 0 until then."""
    WELL_KNOWN = 30
    """Failures after which the experts have half their standing."""
    STORY_MS = 7 * 86_400_000
    """Judgements of a subsystem that came true within such a time tell of one failure."""
    COLUMNS = 200
    """So many there are before nothing new that may happen gets one of its own: devices may make codes up, and the
    covariance grows with the square. What an expert has no column for, `crosses` still hears of."""
    NAMES = 1_000
    """Different tuples of names whose places are remembered."""

    def __init__(self) -> None:
        self.columns: dict[str, int] = {}
        self.count = 0.0
        self.centre: Vector = np.zeros(0)
        self.square: Vector = np.zeros(0)
        self.linear = BayesianLogistic({"": -3.0}, variance=0.05, constant_variance=4.0)
        self.crosses = SparseCrosses()
        self.trees = RefittedTrees()
        self.failures = 0
        self._newest: dict[tuple[str, str], int] = {}
        """When the last judgement that came true was made, by device and subsystem."""
        self._places: dict[Names, tuple[NDArray[np.int64], Row]] = {}

    @property
    def standing(self) -> float:
        """How far the experts are to be believed, in [0, 1): by the failures that they have learned from."""
        return self.failures / (self.failures + self.WELL_KNOWN)

    def judge(self, signs: Signs) -> tuple[float, float, float]:
        """Log odds by each of `EXPERTS`; changes nothing that is learned."""
        row = self._row(signs)
        linear, spread = _normal(self._scaled(row), self.linear.mean, self.linear.cov)
        crosses = self.crosses.odds(np.frombuffer(signs.ages, np.int64))
        return linear / math.sqrt(1 + math.pi * spread / 8), crosses, self.trees.odds(row)

    def learn(self, example: Labelled) -> None:
        """Learn what became of a judgement."""
        for name in sorted(set(example.signs.names) - self.columns.keys()):
            if len(self.columns) < self.COLUMNS or not name.startswith(SINCE):
                self._add(name)
        happened, weight = example.happened, example.weight
        if happened:
            self._count(example)
        row = self._row(example.signs)
        self.count += weight
        _centre(row, weight / self.count, self.centre, self.square)
        self.linear.learn(self._scaled(row), happened, weight)
        self.crosses.learn(np.frombuffer(example.signs.ages, np.int64), happened, weight)
        self.trees.learn(row, happened, weight)

    def _count(self, example: Labelled) -> None:
        key = (example.device_id, example.subsystem)
        if key not in self._newest or example.at_ms - self._newest[key] > self.STORY_MS:
            self.failures += 1
        self._newest[key] = example.at_ms
        if len(self._newest) > self.NAMES:
            del self._newest[next(iter(self._newest))]

    def moved(self, signs: Signs, trust: Sequence[float]) -> dict[str, float]:
        """How much each column moved the log odds, each expert counting for its `trust`."""
        row = self._row(signs)
        of_linear, of_crosses, of_trees = trust
        total = of_linear * (self.linear.mean * self._scaled(row))[1:] + of_trees * self.trees.moved(row)
        moved = {name: float(total[place]) for name, place in self.columns.items() if total[place]}
        for name, change in self.crosses.moved(signs.names, np.frombuffer(signs.ages, np.int64)).items():
            moved[name] = moved.get(name, 0.0) + of_crosses * change
        return moved

    def _row(self, signs: Signs) -> Row:
        """(columns,): what is unknown is 0, what never happened is as long ago as can be told."""
        known = self._places.get(signs.names)
        if known is None:
            if len(self._places) >= self.NAMES:
                self._places.clear()
            places = [self.columns.get(name, -1) for name in signs.names]
            blank = [_NEVER if name.startswith(SINCE) else 0.0 for name in self.columns]
            known = self._places[signs.names] = np.array(places, np.int64), np.array(blank, np.float32)
        row: Row = _filled(np.frombuffer(signs.values, np.float32), *known)
        return row

    def _scaled(self, row: Row) -> Vector:
        scaled: Vector = _scaled(row, self.centre, self.square, self.CLIP if self.count > self.WARM else 0.0)
        return scaled

    def _add(self, name: str) -> None:
        self.columns[name] = len(self.columns)
        self.linear.vector({name: 0.0})
        self.centre = np.append(self.centre, _NEVER if name.startswith(SINCE) else 0.0)
        self.square = np.append(self.square, 0.0)
        self._places.clear()
        self.trees.widen(_NEVER if name.startswith(SINCE) else 0.0)


@compiled
def _filled(values: Row, places: NDArray[np.int64], blank: Row) -> Row:
    row = blank.copy()
    for i in range(len(places)):
        if places[i] >= 0 and values[i] == values[i]:
            row[places[i]] = values[i]
    return row


@compiled
def _scaled(row: Row, centre: Vector, square: Vector, clip: float) -> Vector:
    """(columns + 1,): 1, then the columns in standard deviations, within +-clip."""
    out = np.ones(len(row) + 1)
    for i in range(len(row)):
        spread = np.sqrt(square[i] + 1e-18 + 1e-12 * centre[i] * centre[i])
        out[i + 1] = min(clip, max(-clip, (row[i] - centre[i]) / spread))
    return out


@compiled
def _centre(row: Row, rate: float, centre: Vector, square: Vector) -> None:
    for i in range(len(row)):
        off = row[i] - centre[i]
        centre[i] += off * rate
        square[i] += (off * (row[i] - centre[i]) - square[i]) * rate


@compiled
def _normal(x: Vector, mean: Vector, cov: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and variance of the log odds; columns that are 0 cost nothing."""
    total = variance = 0.0
    for i in range(len(x)):
        if x[i]:
            total += mean[i] * x[i]
            inner = 0.5 * cov[i, i] * x[i]
            for j in range(i):
                inner += cov[i, j] * x[j]
            variance += 2 * inner * x[i]
    return total, max(0.0, variance)
