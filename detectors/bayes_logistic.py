"""Bayesian online logistic regression: a prior that people can state, overridden by data as it comes."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import base

from detectors.detector import LARGEST


class BayesianLogistic(base.Classifier):  # type: ignore[misc]  # River publishes no types
    """Logistic regression whose weights are a Gaussian, updated example by example (extended Kalman filter).

    Weights ~ N(mean, cov). An example x with label y in {0, 1} and importance c changes them by one Newton step:

        v = cov x,   s = x' v,   p = sigmoid(mean' x),   h = c p (1 - p)
        mean += v c (y - p) / (1 + h s),   cov -= v v' h / (1 + h s)

    and the probability integrates over the weights: sigmoid(mean' x / sqrt(1 + pi s / 8)), in (0, 1). So few data leave
    the prior in charge, and the doubt of a young model draws its probabilities towards 1/2, never to 0 or 1.

    * Warm-up: none. Memory: (features + 1) squared floats. Unseen features join with the default prior.
    * Source: Spiegelhalter and Lauritzen (1990); MacKay (1992), The evidence framework applied to classification.

    Parameters
    ----------
    prior
        Mean of the prior by feature; the feature `""` is the constant. What is not named has mean 0.
    variance
        Prior variance of each weight; 1 leaves a factor e either way per unit of the feature.
    constant_variance
        That of the constant, if another.

    >>> model = BayesianLogistic(prior={"": -3.0, "drift": 1.0})
    >>> before = model.predict_proba_one({"drift": 2.0})[True]
    >>> for _ in range(20):
    ...     model.learn_one({"drift": 2.0}, True)
    >>> before < 0.4 < model.predict_proba_one({"drift": 2.0})[True]
    True
    """

    def __init__(
        self,
        prior: Mapping[str, float] | None = None,
        variance: float = 1.0,
        constant_variance: float | None = None,
    ) -> None:
        self.prior = prior
        self.variance = variance
        self.constant_variance = constant_variance
        self.index: dict[Any, int] = {"": 0}
        self.mean: NDArray[np.float64] = np.array([dict(prior or {}).get("", 0.0)])
        self.cov: NDArray[np.float64] = np.array([[constant_variance or variance]])

    def vector(self, x: Mapping[Any, float | None]) -> NDArray[np.float64]:
        """Features as the model's vector, the constant first; features not seen before are added to the model.

        What is missing, None, NaN, infinite or beyond LARGEST is 0.
        """
        for name in x:
            if name not in self.index:
                self._add(name)
        values = np.zeros(len(self.index))
        values[0] = 1.0
        for name, value in x.items():
            values[self.index[name]] = value if value is not None and abs(value) <= LARGEST else 0.0
        return values

    def probability(self, values: NDArray[np.float64]) -> float:
        """Probability of a vector made by `vector` (perhaps of an earlier, smaller model)."""
        n = len(values)
        spread = float(values @ self.cov[:n, :n] @ values)
        return sigmoid(float(self.mean[:n] @ values) / math.sqrt(1 + math.pi * max(spread, 0.0) / 8))

    def learn(self, values: NDArray[np.float64], y: bool, weight: float = 1.0) -> None:
        """Learn a vector made by `vector`; `weight` below 1 for examples that tell the same story many times."""
        n = len(values)
        if n < len(self.mean):
            values = np.concatenate([values, np.zeros(len(self.mean) - n)])
        v = self.cov @ values
        spread = float(values @ v)
        p = sigmoid(float(self.mean @ values))
        curvature = weight * p * (1 - p)
        step = 1 / (1 + curvature * spread)
        self.mean += v * (weight * (float(y) - p) * step)
        self.cov -= np.outer(v, v) * (curvature * step)

    def learn_one(self, x: Mapping[Any, float | None], y: Any, w: float = 1.0) -> None:
        """River's interface; `y` is true for the event."""
        self.learn(self.vector(x), bool(y), w)

    def predict_proba_one(self, x: Mapping[Any, float | None]) -> dict[bool, float]:
        """River's interface: probabilities of both labels."""
        p = self.probability(self.vector(x))
        return {False: 1 - p, True: p}

    def _add(self, name: Any) -> None:
        n = len(self.index)
        self.index[name] = n
        self.mean = np.append(self.mean, dict(self.prior or {}).get(name, 0.0))
        cov = np.zeros((n + 1, n + 1))
        cov[:n, :n] = self.cov
        cov[n, n] = self.variance
        self.cov = cov


def sigmoid(x: float) -> float:
    """Logistic function without overflow."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    odds = math.exp(x)
    return odds / (1 + odds)


def log_odds(probability: float) -> float:
    """Inverse of `sigmoid`, within +-21."""
    p = min(max(probability, 1e-9), 1 - 1e-9)
    return math.log(p / (1 - p))
