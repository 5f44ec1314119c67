"""Joint anomaly: do the sensors of one device, taken together, show something new."""

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from river import base

from detectors.anomaly_news import NEWS_DTYPE, tell_news
from detectors.anomaly_tail import BLOCK, PEAKS, learn_peak, tail_evidence
from detectors.anomaly_views import STATE_DTYPE, observe
from detectors.detector import is_number
from schema.compiled import compiled

VERSION = "joint_anomaly/1"
MOST_SENSORS = 16
"""Sensors beyond these are not looked at: it bounds the memory. The first ones seen are taken, of one reading
those that come first in the order of names."""
RATE = 0.002
"""Least weight of a reading in spreads and correlations: a memory of some 500 readings."""
SHRINK = 0.02
"""How far correlations are drawn towards none, so that sensors that repeat each other do no harm."""
_TINY = 1e-9
CLIP = 6.0
"""Spreads beyond which a residual teaches no more than at that distance."""
STEP_MS = 300_000
"""Taken as the time since the last reading where none is given."""

_JOINT_DTYPE = np.dtype(
    [
        ("at_ms", "i8"),
        ("learned", "i4", (MOST_SENSORS,)),
        ("spread", "f8", (MOST_SENSORS,)),
        ("products", "f4", (MOST_SENSORS, MOST_SENSORS)),
        ("peaks", "f4", (PEAKS,)),
        ("block", "f8"),
        ("in_block", "i8"),
        ("blocks", "i8"),
    ]
)
"""By sensor: readings learned (spreads are known after BLOCK of them, products after twice as many), mean absolute
residual, mean products of residuals in spreads. Peaks of the largest residual that the others do not explain."""


class JointAnomaly(base.AnomalyDetector):  # type: ignore[misc]  # River publishes no types
    """Scores a reading of several sensors: each on its own, and how they hang together.

    Each sensor's value gives the evidence that `SensorAnomaly` gives it. What its expectation leaves of it is compared
    with what the other sensors' residuals say it should be, under their shrunk correlations: the largest residual that
    the others do not explain, in its own conditional deviations, is held against its own largest peaks and counts like
    one more sensor. The evidence of the reading is

        (mean of e^4 over the sensors present and their joint view)^(1/4),

    so one sensor out of nine must be 1.8 times as sure as one that is alone. Score, tail probability and announcing
    once are as in `SensorAnomaly`.

    * Range: [0, 1); 0 where no sensor has a value. Missing sensors, NaN and None are left out of that reading.
    * Warm-up: 224 readings. Memory: 1.4 kB a sensor and 1.3 kB, at most MOST_SENSORS.
    * Source: regression-adjusted variables, Hawkins (1991), Technometrics 33; shrinkage as in Ledoit and Wolf (2004),
      Journal of Multivariate Analysis 88.

    >>> detector = JointAnomaly()
    >>> for i in range(1000):
    ...     detector.learn_one({"supply_kpa": 50.0 + i % 7, "return_kpa": 20.0 + i % 7})
    >>> together, apart = {"supply_kpa": 56.0, "return_kpa": 26.0}, {"supply_kpa": 50.0, "return_kpa": 26.0}
    >>> detector.score_one(together) < 0.5 < detector.score_one(apart)
    True
    """

    def __init__(self) -> None:
        self._places: dict[Hashable, int] = {}
        self._sensors = np.zeros(0, STATE_DTYPE)
        self._joint = np.zeros(1, _JOINT_DTYPE)
        self._news = np.zeros(1, NEWS_DTYPE)

    def __getstate__(self) -> tuple[tuple[Hashable, ...], bytes, bytes, bytes]:
        """Numbers as bytes: a state is written for each device at each cut."""
        return tuple(self._places), self._sensors.tobytes(), self._joint.tobytes(), self._news.tobytes()

    def __setstate__(self, state: tuple[tuple[Hashable, ...], bytes, bytes, bytes]) -> None:
        self._places = {name: place for place, name in enumerate(state[0])}
        self._sensors = np.frombuffer(state[1], STATE_DTYPE).copy()
        self._joint = np.frombuffer(state[2], _JOINT_DTYPE).copy()
        self._news = np.frombuffer(state[3], NEWS_DTYPE).copy()

    def learn_one(self, x: Mapping[Hashable, Any], at_ms: int | None = None) -> None:
        """Take in a reading; without a time it is taken as STEP_MS after the last one."""
        self.update(x, at_ms)

    def score_one(self, x: Mapping[Hashable, Any], at_ms: int | None = None) -> float:
        """Score a reading that is not learned."""
        copy = JointAnomaly()
        copy.__setstate__(self.__getstate__())
        return copy.update(x, at_ms)

    def update(self, x: Mapping[Hashable, Any], at_ms: int | None = None) -> float:
        """Score a reading and learn from it."""
        places, values = self._present(x)
        if not len(places):
            return 0.0
        at_ms = int(self._joint["at_ms"][0]) + STEP_MS if at_ms is None else at_ms
        evidence = _observe_together(self._sensors, self._joint, at_ms, places, values)
        news = tell_news(self._news, evidence)
        return news / (1.0 + news)

    def reasons(self) -> dict[Hashable, float]:
        """Evidence of each sensor's last value, the most surprising first."""
        evidence = {name: float(self._sensors["evidence"][place]) for name, place in self._places.items()}
        return dict(sorted(evidence.items(), key=lambda each: -each[1]))

    def _present(self, x: Mapping[Hashable, Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        readings = {name: float(value) for name, value in x.items() if is_number(value)}
        for name in sorted(readings.keys() - self._places.keys(), key=str)[: MOST_SENSORS - len(self._places)]:
            self._places[name] = len(self._places)
            self._sensors = np.append(self._sensors, np.zeros(1, STATE_DTYPE))
        values = {self._places[name]: value for name, value in readings.items() if name in self._places}
        places = sorted(values)
        return np.array(places, np.int64), np.array([values[place] for place in places], np.float64)


@compiled
def _observe_together(
    sensors: npt.NDArray[np.void],
    joints: npt.NDArray[np.void],
    at_ms: int,
    places: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
) -> float:
    """Judge the values (n,) of the sensors at `places` (n,), rising, and learn from them."""
    joint = joints[0]
    n = len(places)
    quartic = 0.0
    ripe = True
    residuals = np.zeros(n)
    clipped = np.zeros(n)
    for i in range(n):
        place = places[i]
        quartic += observe(sensors, place, at_ms, values[i]) ** 4
        spread = joint.spread[place]
        residual = values[i] - sensors[place].usual
        if joint.learned[place] >= BLOCK and spread > 0.0:
            residuals[i] = residual / spread
            clipped[i] = max(-CLIP, min(CLIP, residuals[i]))
            residual = clipped[i] * spread
        ripe = ripe and joint.learned[place] >= 2 * BLOCK
        rate = max(RATE, 1.0 / (joint.learned[place] + 1))
        joint.spread[place] += rate * (abs(residual) - spread)
        joint.learned[place] += 1
    joint.at_ms = at_ms
    if n == 1:
        return float(quartic**0.25)
    size = _largest_apart(joint.products, places, residuals) if ripe else 0.0
    quartic += tail_evidence(joint.peaks, joint.blocks, size) ** 4
    for i in range(n):
        for k in range(i + 1):
            products = joint.products[places[i]]
            rate = max(RATE, 1.0 / (joint.learned[places[i]] + 1))
            products[places[k]] += rate * (clipped[i] * clipped[k] - products[places[k]])
    joint.block = max(joint.block, size)
    joint.in_block += 1
    if joint.in_block == BLOCK:
        learn_peak(joint.peaks, joint.block)
        joint.block, joint.in_block = 0.0, 0
        joint.blocks += 1
    return float((quartic / (n + 1)) ** 0.25)


@compiled
def _largest_apart(
    products: npt.NDArray[np.float32], places: npt.NDArray[np.int64], residuals: npt.NDArray[np.float64]
) -> float:
    """The largest of the residuals (n,) that the others do not explain, in its own conditional deviations.

    With P the inverse of the shrunk products and r the residuals these are |P r| / sqrt(diag P). P comes from
    Cholesky's factor L of the products, column by column of the inverse of L.
    """
    n = len(places)
    factor = np.zeros((n, n))
    inverse = np.zeros((n, n))
    for i in range(n):
        own = products[places[i], places[i]] + _TINY
        left = own
        for k in range(i):
            entry = (1.0 - SHRINK) * products[places[i], places[k]]
            for m in range(k):
                entry -= factor[i, m] * factor[k, m]
            factor[i, k] = entry / factor[k, k]
            left -= factor[i, k] ** 2
        factor[i, i] = math.sqrt(max(left, SHRINK * own))
        inverse[i, i] = 1.0 / factor[i, i]
        for k in range(i):
            for m in range(k, i):
                inverse[i, k] -= factor[i, m] * inverse[m, k]
            inverse[i, k] /= factor[i, i]
    largest = 0.0
    for i in range(n):
        apart, precision = 0.0, 0.0
        for k in range(n):
            entry = 0.0
            for m in range(max(i, k), n):
                entry += inverse[m, i] * inverse[m, k]
            apart += entry * residuals[k]
            if k == i:
                precision = entry
        largest = max(largest, abs(apart) / math.sqrt(precision))
    return largest
