"""Failure risk: judgements of subsystems, what became of each, and when that is known."""

import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any
from zlib import crc32

import msgspec

from detectors.announcement import AnnouncementThreshold
from detectors.bayes_logistic import log_odds, sigmoid
from detectors.detector import Detector
from detectors.risk_learned import LearnedRisk
from detectors.risk_reliability import Reliability
from detectors.risk_signs import Labelled, Names, Signs
from detectors.risk_words import words
from detectors.subsystem_health import FEATURES
from schema.findings import Finding

VERSION = "failure_risk/2"
DAY_MS = 86_400_000

Key = tuple[str, str]


class Risk(msgspec.Struct, frozen=True):
    """A judgement of one subsystem of one device."""

    probability: float
    """Calibrated probability that the subsystem fails within the horizon."""
    score: float
    """The same on the scale of alerts: 0.5 where it is worth while to announce the failure."""
    threshold: float
    """Log odds at which the score is 0.5."""
    signs: Signs
    """What was judged."""


class _Example(msgspec.Struct, gc=False):
    at_ms: int
    device_id: str
    subsystem: str
    model: str
    signs: Signs
    odds: tuple[float, ...]
    probability: float
    weight: float
    """How many judgements it stands for; 0 if it only bears witness to the announcements that it began."""
    begun_from: int
    begun_to: int
    """Announcements that it began, see `AnnouncementThreshold`."""


class FailureRisk(Detector):
    """Hands out judgements and keeps each until its outcome is known; `LearnedRisk` judges and learns.

    A judgement at t is right if the subsystem fails in (t + NEAREST, t + HORIZON], or if a technician confirms within
    HORIZON that it would have; one that is followed by a failure sooner teaches nothing. That it was right is known at
    the failure, that it was wrong at t + HORIZON; both are taught at t + HORIZON, so that failures are not learned
    sooner than what went well, and a judgement is scored before it is learned (prequential). Of judgements in which
    nothing was unusual only every KEEP-th is kept and weighs for the others, which leaves the probability calibrated.
    When more than PENDING wait, every second is dropped, and of those to come as well: a large fleet is learned from a
    sample. What began an announcement stays.

    * Range: probability in (0, 1); score = sigmoid(logit probability - threshold), so 0.5 is the threshold, which
      `AnnouncementThreshold` learns.
    * Warm-up: none; the prior of `LearnedRisk` judges until labels come.
    * Memory: a HORIZON of judgements, about PENDING of 600 bytes at most: 3 MB for 150 devices, 12 MB for many.
    * Source: Gama, Sebastião and Rodrigues (2013), On evaluating stream learning algorithms, Machine Learning 90.

    >>> risk, learned = FailureRisk(), LearnedRisk()
    >>> calm = risk.judge(learned, 0, "ct-1", "tube", {"codes_3d": 0.0})
    >>> tense = risk.judge(learned, 0, "ct-2", "tube", {"codes_1d": 1.4, "codes_3d": 1.8, "level_z": 5.0})
    >>> calm.score < 0.1 < 0.5 < tense.score
    True
    """

    NEAREST_MS = DAY_MS
    HORIZON_MS = 7 * DAY_MS
    KEEP = 8
    CALM = 0.03
    """Probability below which a judgement is one of many that say nothing."""
    PENDING = 20_000
    FADE_MS = 3 * DAY_MS
    """Time constant of a technician's word that nothing was found."""
    BINS = 41
    NAMES = 2_000
    """Different tuples of names that are kept once; beyond that they are forgotten and kept anew."""

    def __init__(self) -> None:
        self.announcements = AnnouncementThreshold()
        self.pending: deque[_Example] = deque()
        self.failures: dict[Key, list[int]] = {}
        self.confirmations: dict[Key, list[int]] = {}
        self.dismissals: dict[Key, int] = {}
        self.judged = 0
        self.every = 1
        """Of the judgements that would be kept one in so many is, a power of two."""
        self.bins = [[0.0, 0.0] for _ in range(self.BINS)]
        self.reliability = Reliability()
        self.names: dict[Names, Names] = {}
        self.loss = self.weight = 0.0

    def judge(
        self,
        learned: LearnedRisk,
        at_ms: int,
        device_id: str,
        subsystem: str,
        features: Mapping[str, float],
        ages_h: Mapping[str, float] = MappingProxyType({}),
        model: str = "",
    ) -> Risk:
        """Probability of a failure within the horizon; the judgement waits for its outcome.

        `features` by name, NaN where unknown; `ages_h`: hours since things happened, by names that begin with `SINCE`.
        Judgements come in canonical order: time of the tick, device, subsystem.
        """
        key = (device_id, subsystem)
        since_ms = at_ms - self.dismissals.get(key, at_ms - 10 * self.FADE_MS)
        if len(self.names) > self.NAMES:
            self.names = {}
        dismissed = math.exp(-max(0, since_ms) / self.FADE_MS)
        signs = Signs.of({**features, "dismissed": dismissed}, ages_h, self.names)
        opinion = learned.judge(model, signs)
        probability = opinion.probability
        odds = log_odds(probability)
        begun = self.announcements.observe(key, at_ms, odds)
        self.judged += 1
        busy = probability >= self.CALM or begun[0] < begun[1]
        lot = crc32(f"{device_id} {subsystem} {at_ms}".encode())  # the same in whatever partition the device is
        sampled = lot % (self.every if busy else self.every * self.KEEP) == 0
        if sampled or begun[0] < begun[1]:
            weight = (1.0 if busy else float(self.KEEP)) if sampled else 0.0
            self.pending.append(_Example(at_ms, *key, model, signs, opinion.odds, probability, weight, *begun))
            if len(self.pending) > self.PENDING:
                self._thin()
        threshold = self.announcements.value(model)
        return Risk(probability, sigmoid(odds - threshold), threshold, signs)

    def failed(self, device_id: str, subsystem: str, at_ms: int) -> None:
        """The subsystem failed."""
        insort(self.failures.setdefault((device_id, subsystem), []), at_ms)

    def confirmed(self, device_id: str, subsystem: str, at_ms: int) -> None:
        """A technician confirmed, before any failure, what had been announced."""
        insort(self.confirmations.setdefault((device_id, subsystem), []), at_ms)

    def dismissed(self, device_id: str, subsystem: str, at_ms: int) -> None:
        """A technician looked and found nothing: from now on the feature `dismissed`, which fades within days.

        The label stays with what happens within the horizon: an engineer may be wrong, a failure is not.
        """
        self.dismissals[device_id, subsystem] = at_ms

    def mature(self, now_ms: int) -> list[Labelled]:
        """Take out the judgements whose horizon has passed, oldest first, with what became of them."""
        known: list[Labelled] = []
        looked_at = 0
        while self.pending and self.pending[0].at_ms + self.HORIZON_MS <= now_ms:
            known += self._settled(self.pending.popleft())
            looked_at += 1
        if looked_at:
            if self.every > 1 and len(self.pending) < self.PENDING // 4:
                self.every //= 2
            old_ms = now_ms - 2 * self.HORIZON_MS
            for times in (self.failures, self.confirmations):
                for key in [key for key, known in times.items() if known[-1] < old_ms]:
                    del times[key]
            for key in [key for key, at_ms in self.dismissals.items() if at_ms < old_ms]:
                del self.dismissals[key]
        return known

    def metrics(self) -> dict[str, float]:
        """Prequential figures: log loss, average precision and base rate of judgements, record of announcements."""
        positives = sum(positive for _, positive in self.bins)
        found = seen = area = 0.0
        for negative, positive in reversed(self.bins):
            found += positive
            seen += positive + negative
            area += positive * found / seen if positive else 0.0
        announced, came_true = self.announcements.record()
        return {
            "log_loss": self.loss / self.weight if self.weight else math.nan,
            "average_precision": area / positives if positives else math.nan,
            "base_rate": positives / self.weight if self.weight else math.nan,
            "announced": announced,
            "announced_true": came_true,
            "judgements_learned": self.weight,
        }

    def _thin(self) -> None:
        """Drop every second sample if there are many, and all but the newest of those that only bear witness."""
        samples = sum(example.weight > 0 for example in self.pending)
        if samples > self.PENDING // 2:
            self.every *= 2
            for number, example in enumerate(each for each in self.pending if each.weight):
                if number % 2 == 0:
                    example.weight = 0.0
        witnesses = sum(example.begun_from < example.begun_to and not example.weight for example in self.pending)
        too_many = witnesses - self.PENDING // 4
        kept: deque[_Example] = deque()
        for example in self.pending:
            if not example.weight:
                if example.begun_from == example.begun_to:
                    continue
                too_many -= 1
                if too_many >= 0:
                    continue
            kept.append(example)
        self.pending = kept

    def _settled(self, example: _Example) -> Iterator[Labelled]:
        failed_after_ms = self._next_after(self.failures, example)
        too_late = failed_after_ms <= self.NEAREST_MS
        confirmed = self._next_after(self.confirmations, example) <= self.HORIZON_MS
        happened = not too_late and (confirmed or failed_after_ms <= self.HORIZON_MS)
        self.announcements.verdict(example.model, (example.begun_from, example.begun_to), happened)
        if too_late or not example.weight:
            return
        p = min(max(example.probability, 1e-9), 1 - 1e-9)
        self.loss -= example.weight * math.log(p if happened else 1 - p)
        self.weight += example.weight
        middle = self.BINS // 2
        place = min(self.BINS - 1, max(0, round(middle + 4 * math.log(p / (1 - p)))))
        self.bins[place][happened] += example.weight
        self.reliability.add(p, happened, example.weight)
        yield Labelled(
            example.at_ms,
            example.device_id,
            example.subsystem,
            example.model,
            example.signs,
            example.odds,
            example.weight,
            happened,
        )

    def _next_after(self, known: Mapping[Key, list[int]], example: _Example) -> int:
        times = known.get((example.device_id, example.subsystem), ())
        place = bisect_right(times, example.at_ms)
        return times[place] - example.at_ms if place < len(times) else self.HORIZON_MS + 1


def finding(
    risk: Risk,
    reasons: Mapping[str, float],
    codes: Mapping[str, int],
    at_ms: int,
    onset_ms: int,
    *,
    device_id: str,
    site_id: str,
    customer_id: str,
    subsystem: str,
) -> Finding:
    """Put a judgement into alerting's words; policy raises at a score of 0.5 and resolves below 0.25.

    `reasons` as `LearnedRisk.reasons` gives them.
    """
    general = {name: round(value, 3) for name, value in risk.signs.by_name().items() if value and name in FEATURES}
    evidence: dict[str, Any] = {
        "probability": round(risk.probability, 4),
        "threshold": round(sigmoid(risk.threshold), 4),
        "horizon_h": [24, 168],
        "codes": dict(codes),
        "features": general,
        "reasons": words(reasons, risk.signs),
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
