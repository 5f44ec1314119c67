"""The gauges of one subsystem: hours that are unlike all before, and levels that have shifted."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.change_point import ChangePoint
from detectors.detector import Detector, is_number
from detectors.sensor_hours import GAUGE_DTYPE, HOUR_MS, SPAN_MS, close_span, take_hour
from schema.findings import Finding
from schema.interned import one_of

VERSION = "sensor_watch/1"
SHARPNESS = 2.5
"""Of 200 simulated device-months, the share of spans with evidence e falls as exp(-2.5 e), down to one in 30,000."""
EVEN = 10.0
"""A shift that is as likely as not was told wrongly in fewer than one of 22,000 spans there (e^-10)."""
NOTHING = -40.0
"""Odds of a span that tells nothing."""


@dataclass(frozen=True, slots=True)
class Surprise:
    """The hour of a span, and the gauge, that were least like what had been before."""

    metric: str
    end_ms: int
    expected: float
    observed: float
    odds: float
    """Log odds against such a span where nothing is wrong."""


@dataclass(frozen=True, slots=True)
class LevelShift:
    """A gauge that has another level since `onset_ms`."""

    metric: str
    onset_ms: int
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class SpanJudgement:
    """What a span of six hours told of a subsystem's gauges."""

    end_ms: int
    surprise: Surprise | None
    shift_odds: float
    """Log odds against levels that look so shifted where nothing is wrong; `NOTHING` while it is too early to say."""
    shifts: tuple[LevelShift, ...]
    """What has shifted, the clearest first; empty unless it is told now."""

    @property
    def surprise_odds(self) -> float:
        """Of the surprise; `NOTHING` if there is none."""
        return self.surprise.odds if self.surprise is not None else NOTHING


class SensorWatch(Detector):
    """Watches the closed hourly windows of a subsystem's gauges, and judges them every six hours.

    Each gauge has a level that follows within ten days and a rhythm of the week. An hour is as surprising as its
    distance from both is rare among the largest that this gauge has had (`detectors.anomaly_tail`). The means of spans
    of six hours without the rhythm go to one `ChangePoint` for all gauges together, with a memory of KEEP spans; a
    shift that was told moves the level. Both are told in log odds of one scale, for an alert budget to choose.

    * Range: log odds, from `NOTHING` up.
    * Warm-up: surprises after nine days of hours, shifts after three days.
    * Memory: about 550 bytes a gauge.

    >>> watch = SensorWatch()
    >>> for hour in range(24 * 40):
    ...     level = 36.0 if hour < 24 * 30 else 38.0
    ...     told = watch.window((hour + 1) * 3_600_000, {"detector_cel": level + hour % 5 / 10 + hour % 7 / 20})
    ...     if told is not None and told.shifts:
    ...         print(round(hour / 24), round(told.shifts[0].onset_ms / 86_400_000))
    31 30
    """

    KEEP = 60
    """Spans: two weeks."""

    __slots__ = ("_gauges", "changes", "first", "followed", "metrics", "shifted_until_ms", "span")

    def __init__(self) -> None:
        self.metrics: tuple[str, ...] = ()
        self._gauges = bytearray()
        self.changes = ChangePoint(self.KEEP)
        self.span = -1
        """The running span, counted from the epoch."""
        self.first = -1
        """The span of the first observation of `changes`."""
        self.followed = 0
        """For how many spans to come the surprise that was told last is followed."""
        self.shifted_until_ms = 0
        """Until when the shift that was told last is followed."""

    def __getstate__(self) -> tuple[Any, ...]:
        """Numbers as bytes."""
        return (
            self.metrics,
            bytes(self._gauges),
            self.changes.__getstate__(),
            self.span,
            self.first,
            self.followed,
            self.shifted_until_ms,
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        metrics, gauges, changes, self.span, self.first, self.followed, self.shifted_until_ms = state
        self.changes = ChangePoint()
        self.changes.__setstate__(changes)
        self.metrics = one_of(metrics)
        self._gauges = bytearray(gauges)

    @property
    def gauges(self) -> npt.NDArray[np.void]:
        """(gauges,) of GAUGE_DTYPE, to be changed in place; kept as bytes, which take 100 less than an array does."""
        return np.frombuffer(self._gauges, GAUGE_DTYPE)

    def window(self, end_ms: int, means: Mapping[str, float | None], told_from: float = EVEN) -> SpanJudgement | None:
        """Take in an hour; the judgement of the span before, if this hour begins another one and there is any gauge.

        Args:
            end_ms: End of the hour. One of a span that has been judged already is dropped.
            means: By gauge; one that is missing or no number has no reading in this hour.
            told_from: Odds from which a shift is told.
        """
        span = (end_ms - 1) // SPAN_MS
        if span < self.span or not (means or self.metrics):
            return None
        judged = self._close(told_from) if span > self.span >= 0 else None
        if span - self.span > self.KEEP:
            self._begin_anew()
        self.span = span
        if any(metric not in self.metrics for metric in means):
            self._grow(means)
        values = [value if is_number(value := means.get(metric)) else math.nan for metric in self.metrics]
        take_hour(self.gauges, end_ms, np.array(values))
        return judged

    def restored(self) -> None:
        """The subsystem was repaired: levels are learnt anew, what they were is no measure any more."""
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.gauges["hours"] = 0
        self.changes, self.first = ChangePoint(self.KEEP), -1

    def _grow(self, means: Mapping[str, float | None]) -> None:
        new = [metric for metric in means if metric not in self.metrics]
        self.metrics = one_of((*self.metrics, *new))
        self._gauges = bytearray(bytes(self._gauges) + bytes(len(new) * GAUGE_DTYPE.itemsize))
        self.changes, self.first = ChangePoint(self.KEEP), -1

    def _close(self, told_from: float) -> SpanJudgement:
        start_ms, end_ms = self.span * SPAN_MS, (self.span + 1) * SPAN_MS
        gauges = self.gauges
        surprises = [
            Surprise(
                self.metrics[place],
                int(gauge["at_ms"]),
                float(gauge["expected"]),
                float(gauge["observed"]),
                SHARPNESS * float(gauge["evidence"]),
            )
            for place, gauge in enumerate(gauges)
            if gauge["in_span"] and gauge["evidence"] > 0
        ]
        means = close_span(gauges, start_ms).tolist()
        if self.first < 0:
            self.first = self.span
        changes = self.changes
        changes.told_from = told_from - EVEN
        while self.first + changes.count < self.span:
            changes.update([math.nan] * len(means))
        changes.update(means)
        shifts = changes.shifts()
        for each in shifts:
            gauges["level"][each.metric] += each.after - each.before
        return SpanJudgement(
            end_ms,
            max(surprises, key=lambda each: (each.odds, each.metric), default=None),
            max(NOTHING, EVEN + changes.log_odds),
            tuple(
                LevelShift(self.metrics[each.metric], (self.first + changes.change) * SPAN_MS, each.before, each.after)
                for each in shifts
                if changes.change is not None
            ),
        )


def anomaly_finding(
    judged: SpanJudgement,
    score: float,
    threshold: float,
    *,
    subsystem: str,
    device_id: str,
    site_id: str,
    customer_id: str,
) -> Finding:
    """Put a surprise, or that there is none, into alerting's words; policy raises at a score of 0.5."""
    surprise = judged.surprise
    told = (
        {
            "metric": surprise.metric,
            "expected": round(surprise.expected, 4),
            "observed": round(surprise.observed, 4),
            "window": [surprise.end_ms - HOUR_MS, surprise.end_ms],
        }
        if surprise is not None
        else {}
    )
    return Finding(
        detector="sensor_anomaly",
        device_id=device_id,
        site_id=site_id,
        customer_id=customer_id,
        subsystem=subsystem,
        at_ms=judged.end_ms,
        onset_ms=surprise.end_ms - HOUR_MS if surprise is not None else judged.end_ms - SPAN_MS,
        score=score,
        severity="info",
        evidence=told
        | {
            "odds": round(judged.surprise_odds, 2),
            "raised_from_odds": round(threshold, 2),
            "version": VERSION,
            "advice": "look_at_sensor",
        },
    )


def shift_finding(
    judged: SpanJudgement,
    score: float,
    threshold: float,
    *,
    subsystem: str,
    device_id: str,
    site_id: str,
    customer_id: str,
) -> Finding:
    """Put shifted levels, or that they are the usual ones by now, into alerting's words."""
    shifts = judged.shifts
    return Finding(
        detector="level_shift",
        device_id=device_id,
        site_id=site_id,
        customer_id=customer_id,
        subsystem=subsystem,
        at_ms=judged.end_ms,
        onset_ms=shifts[0].onset_ms if shifts else judged.end_ms,
        score=score,
        severity="info",
        evidence={
            "levels": [
                {"metric": each.metric, "before": round(each.before, 4), "after": round(each.after, 4)}
                for each in shifts
            ],
            "since": shifts[0].onset_ms if shifts else None,
            "odds": round(judged.shift_odds, 2),
            "raised_from_odds": round(threshold, 2),
            "version": VERSION,
            "advice": "look_at_sensor",
        },
    )
