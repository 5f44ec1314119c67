"""Failure risk: one model for all devices of a partition, taught by what became of its own judgements."""

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.bayes_logistic import BayesianLogistic, sigmoid
from schema.findings import Finding

VERSION = "failure_risk/1"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

PRIOR = {
    "": -6.0,
    "codes_1d": 1.0,
    "codes_3d": 1.5,
    "codes_rise": 0.3,
    "level_z": 0.25,
    "level_z_3d": 0.1,
    "slope_z": 0.1,
    "codes_and_level": 0.8,
    "dismissed": -1.0,
    "since_service": 0.1,
    "age": 0.1,
}
"""What an engineer would say before any data: a subsystem fails about once in two years; warnings that cluster and a
gauge that leaves its usual level raise the odds, both together more. Log odds per unit of the feature."""

Key = tuple[str, str]


class Risk(msgspec.Struct, frozen=True):
    """A judgement of one subsystem of one device."""

    probability: float
    """Calibrated probability that the subsystem fails within the horizon."""
    score: float
    """The same on the scale of alerts: 0.5 where announcements come true as often as is asked for."""


class _Example(msgspec.Struct):
    at_ms: int
    key: Key
    values: NDArray[np.float64]
    probability: float
    weight: float
    """How many judgements it stands for."""
    fired: tuple[int, int]
    """Half-open range of the thresholds at which it began an announcement."""


class FailureRisk:
    """Online Bayesian logistic regression whose labels arrive late, with a threshold that keeps a promise.

    A judgement at t is right if the subsystem fails in (t + NEAREST, t + HORIZON]; one that is followed by a failure
    sooner than that teaches nothing. It waits HORIZON for its label and is scored before it is learned (prequential).
    Failures are rare and each is preceded by many judgements that tell the same story, so an example weighs
    STORY; of judgements in which nothing was unusual only every KEEP-th is kept and weighs for the others, which
    leaves the probability calibrated.

    The threshold is no constant. For each of a grid of thresholds the model keeps account of the announcements that it
    would have made (one begins when the probability reaches the threshold and ends below half its odds), and of how
    many came true. Used is the lowest threshold whose share of true announcements, starting from PRIOR_ANNOUNCEMENTS
    that came true as promised by their probability, is at least PRECISION.

    * Range: probability in (0, 1); score = sigmoid(logit p - logit threshold), so 0.5 is the threshold.
    * Warm-up: none; the prior (`PRIOR`) judges until labels come.
    * Memory: HORIZON's worth of judgements, at most PENDING; thresholds, weights: below 1 MB for 150 devices.
    * Source: Gama, Sebastião and Rodrigues (2013), On evaluating stream learning algorithms (prequential);
      see `detectors.bayes_logistic` for the model.

    >>> risk = FailureRisk()
    >>> calm = risk.judge(0, "ct-1", "tube", {"codes_3d": 0.0})
    >>> tense = risk.judge(0, "ct-2", "tube", {"codes_3d": 3.0, "level_z": 5.0, "codes_and_level": 3.0})
    >>> calm.score < 0.1 < tense.probability
    True
    """

    NEAREST_MS = DAY_MS
    HORIZON_MS = 7 * DAY_MS
    STORY = 0.15
    """Weight of one judgement as evidence: judged every 3 h over some days, some seven judgements tell one story."""
    KEEP = 8
    CALM = 0.01
    """Probability below which a judgement is one of many that say nothing."""
    PRECISION = 0.6
    """Share of announcements that is to come true; the rest is the budget for false ones."""
    PRIOR_ANNOUNCEMENTS = 8.0
    PENDING = 200_000
    FADE_MS = 3 * DAY_MS
    """Time constant of a technician's word that nothing was found."""

    GRID = tuple(-5.0 + 0.25 * i for i in range(25))
    """Log odds of the thresholds that are tried: probabilities 0.007 to 0.73."""
    RESOLVE = math.log(2)

    def __init__(self) -> None:
        self.model = BayesianLogistic(PRIOR, variance=0.25)
        self.pending: deque[_Example] = deque()
        self.happened: dict[Key, list[int]] = {}
        self.looked_at: dict[Key, int] = {}
        self.up: dict[Key, int] = {}
        self.judged = 0
        self.announced = [0.0] * len(self.GRID)
        self.came_true = [0.0] * len(self.GRID)
        self.bins = [[0.0, 0.0] for _ in range(41)]
        self.loss = self.weight = 0.0
        self.threshold = self._choose()

    def judge(self, at_ms: int, device_id: str, subsystem: str, features: Mapping[str, float]) -> Risk:
        """Probability of a failure within the horizon; the judgement waits for its label.

        Judgements come in canonical order: time, device, subsystem.
        """
        key = (device_id, subsystem)
        looked_at_ms = self.looked_at.get(key)
        dismissed = math.exp((looked_at_ms - at_ms) / self.FADE_MS) if looked_at_ms is not None else 0.0
        values = self.model.vector({**features, "dismissed": dismissed})
        probability = self.model.probability(values)
        odds = math.log(probability / (1 - probability))
        level, before = bisect_right(self.GRID, odds), self.up.get(key, 0)
        fired = (before, level)
        if level > before:
            self.up[key] = level
        else:
            fired = (0, 0)
            still = min(before, bisect_right(self.GRID, odds + self.RESOLVE))
            if still:
                self.up[key] = still
            elif before:
                del self.up[key]
        self.judged += 1
        busy = probability >= self.CALM or fired != (0, 0)
        if busy or self.judged % self.KEEP == 0:
            if len(self.pending) >= self.PENDING:
                self.pending.popleft()
            weight = 1.0 if busy else float(self.KEEP)
            self.pending.append(_Example(at_ms, key, values, probability, weight, fired))
        return Risk(probability, sigmoid(odds - self.threshold))

    def failed(self, device_id: str, subsystem: str, at_ms: int) -> None:
        """The subsystem failed, or a technician confirmed that it was about to."""
        insort(self.happened.setdefault((device_id, subsystem), []), at_ms)

    def dismissed(self, device_id: str, subsystem: str, at_ms: int) -> None:
        """A technician looked and found nothing: from now on the feature `dismissed`, which fades within days.

        The label stays with what happens within the horizon: an engineer may be wrong, a failure is not.
        """
        self.looked_at[device_id, subsystem] = at_ms

    def mature(self, now_ms: int) -> int:
        """Learn the judgements whose horizon has passed, oldest first; how many were learned."""
        learned = 0
        while self.pending and self.pending[0].at_ms + self.HORIZON_MS <= now_ms:
            learned += self._learn(self.pending.popleft())
        if learned:
            self.threshold = self._choose()
            oldest_ms = now_ms - 2 * self.HORIZON_MS
            for key in [key for key, times in self.happened.items() if times[-1] < oldest_ms]:
                del self.happened[key]
        return learned

    def metrics(self) -> dict[str, float]:
        """Prequential figures: log loss, average precision and base rate of learned judgements, announcements."""
        chosen = bisect_left(self.GRID, self.threshold)
        positives = sum(bin[1] for bin in self.bins)
        found = seen = area = 0.0
        for negative, positive in reversed(self.bins):
            found += positive
            seen += positive + negative
            if positive:
                area += positive * found / seen
        return {
            "log_loss": self.loss / self.weight if self.weight else math.nan,
            "average_precision": area / positives if positives else math.nan,
            "base_rate": positives / self.weight if self.weight else math.nan,
            "threshold": sigmoid(self.threshold),
            "announced": self.announced[chosen],
            "announced_true": self.came_true[chosen],
            "examples": self.weight,
        }

    def _learn(self, example: _Example) -> bool:
        times = self.happened.get(example.key, ())
        place = bisect_right(times, example.at_ms)
        after_ms = times[place] - example.at_ms if place < len(times) else self.HORIZON_MS + 1
        happened = self.NEAREST_MS < after_ms <= self.HORIZON_MS
        for grid in range(*example.fired):
            self.announced[grid] += 1
            self.came_true[grid] += happened
        if after_ms <= self.NEAREST_MS:
            return False
        p = example.probability
        self.loss -= example.weight * math.log(p if happened else 1 - p)
        self.weight += example.weight
        place = min(40, max(0, round(20 + 4 * math.log(p / (1 - p)))))
        self.bins[place][happened] += example.weight
        self.model.learn(example.values, happened, self.STORY * example.weight)
        return True

    def _choose(self) -> float:
        for grid, announced, true in zip(self.GRID, self.announced, self.came_true, strict=True):
            promised = self.PRIOR_ANNOUNCEMENTS * sigmoid(grid + 0.5)
            if (true + promised) / (announced + self.PRIOR_ANNOUNCEMENTS) >= self.PRECISION:
                return grid
        return self.GRID[-1]


def finding(
    risk: Risk,
    threshold: float,
    features: Mapping[str, float],
    codes: Mapping[str, int],
    at_ms: int,
    onset_ms: int,
    *,
    device_id: str,
    site_id: str,
    customer_id: str,
    subsystem: str,
) -> Finding:
    """Put a judgement into alerting's words; policy raises at a score of 0.5 and resolves below 0.25."""
    evidence: dict[str, Any] = {
        "probability": round(risk.probability, 4),
        "threshold": round(sigmoid(threshold), 4),
        "horizon_h": [24, 168],
        "codes": dict(codes),
        "features": {name: round(value, 3) for name, value in features.items() if value},
        "version": VERSION,
        "advice": "plan_visit_with_part",
    }
    return Finding(
        detector="failure_risk",
        device_id=device_id,
        site_id=site_id,
        customer_id=customer_id,
        subsystem=subsystem,
        at_ms=at_ms,
        onset_ms=onset_ms,
        score=risk.score,
        severity="warning",
        evidence=evidence,
    )
