"""Change points of one series or of several metrics of one thing, told while they are read."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from river import base

from detectors.change_evidence import LOOK_BACK, newest_change, onset_evidence
from detectors.detector import LARGEST, Detector

VERSION = "change_point/1"
_MOST_ODDS = 700.0


@dataclass(frozen=True, slots=True)
class Shift:
    """What a change did to one metric."""

    metric: int
    """Its place among the values of an update."""
    before: float
    """Mean of the last observations, at most `LOOK_BACK`, of the regime that ended."""
    after: float
    """Mean of the observations since."""
    evidence: float
    """Log Bayes factor of a change at that onset in this metric alone."""


class ChangePoint(Detector, base.DriftDetector):  # type: ignore[misc]  # River publishes no types
    """Tells when a series has entered a new regime: another level if it keeps one, another drift if it wanders.

    At each observation every onset among the `LOOK_BACK` newest places is weighed against none (see
    `detectors.change_evidence`): an autoregression learnt from what was before forecasts what came after, and a
    standing error of the forecasts speaks for the onset. A change is told once, as soon as

        odds = RATE * sum of the Bayes factors of all onsets

    reach 1 (`told_from` 0): it is then more likely than not. What follows is judged by the new regime alone. Several
    metrics share their onsets, and each of them may show a change or not. Nothing depends on units, and only the last
    `keep` observations are known, as single floats about the median of their window.

    * Range: `certainty` in [0, 1]; `change` is an index of observations, counted from 0, None most of the time.
    * Delay: at least LEAST_AFTER, at most LOOK_BACK observations from the onset.
    * Warm-up: LEAST_BEFORE + LEAST_AFTER observations.
    * Memory: 4 bytes an observation kept and metric: 0.5 kB a metric.
    * Limits: the rhythm of a day or week is to be taken out before, else it counts as noise.

    >>> import random
    >>> rng, detector = random.Random(1), ChangePoint()
    >>> for index in range(200):
    ...     detector.update(rng.gauss(20, 1) + (4 if index >= 120 else 0))
    ...     if detector.drift_detected:
    ...         print(index, detector.change, [round(each.after - each.before) for each in detector.shifts()])
    123 120 [4]
    """

    __slots__ = (
        "_before",
        "_begin",
        "_drift_detected",
        "_origin",
        "_written",
        "change",
        "count",
        "keep",
        "log_odds",
        "told_from",
    )

    def __init__(self, keep: int = 100) -> None:
        super().__init__()
        self.keep = keep
        """Observations that are known before the newest one."""
        self.change: int | None = None
        """Index of the first observation of the regime that the last update told of."""
        self.log_odds = -math.inf
        """Of there having been, at the last update, a change since the last one told."""
        self.told_from = 0.0
        """Log odds from which a change is told; an alert budget may move it."""
        self.count = 0
        """Observations so far."""
        self._begin = 0
        self._before = 0
        self._origin: array[float] = array("d")
        self._written = b""
        """The last observations less `_origin`, (N, D) single floats: as bytes they take 100 less than as an array."""

    def __getstate__(self) -> tuple[Any, ...]:
        """Numbers as bytes."""
        return (
            self.keep,
            self._drift_detected,
            self.change,
            self.log_odds,
            self.told_from,
            self.count,
            self._begin,
            self._before,
            self._origin.tobytes(),
            self._written,
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        (
            self.keep,
            self._drift_detected,
            self.change,
            self.log_odds,
            self.told_from,
            self.count,
            self._begin,
            self._before,
            origin,
            self._written,
        ) = state
        self._origin = array("d", origin)

    @property
    def _window(self) -> npt.NDArray[np.float32]:
        return np.frombuffer(self._written, np.float32).reshape(-1, max(len(self._origin), 1))

    def update(self, x: float | Sequence[float | None] | None) -> None:
        """Take the next observation: one number, or one for each metric; None, NaN and beyond LARGEST are missing.

        Without any metric nothing is observed, but counted.

        Raises:
            ValueError: the number of metrics is another than before.
        """
        values = x if isinstance(x, Sequence) else (x,)
        self.change, self._drift_detected = None, False
        if not values and not self._origin:
            self.count += 1
            return
        origin = self._origin
        if not len(origin):
            origin = self._origin = array("d", [math.nan] * len(values))
        if len(values) != len(origin):
            raise ValueError(f"{len(values)} metrics, {len(origin)} before")
        index = self.count
        self.count += 1
        if index % (self.keep + 1) == 0 or index & (index - 1) == 0:
            self._move_origin()
        row = np.empty((1, len(values)), np.float32)
        for metric, value in enumerate(values):
            if value is None or not abs(value) <= LARGEST:
                row[0, metric] = math.nan
                continue
            if origin[metric] != origin[metric]:
                origin[metric] = value
            row[0, metric] = value - origin[metric]
        window = np.concatenate((self._window[-self.keep :], row))
        self._written = window.tobytes()
        if np.isnan(row).all():
            return
        first = index + 1 - len(window)
        place, log_odds = newest_change(window, max(0, self._begin - first))
        self.log_odds = log_odds
        if place >= 0 and log_odds >= self.told_from:
            self._before, self._begin = self._begin, first + place
            self.change, self._drift_detected = self._begin, True
            self._sharpen(self._begin - first)

    def _move_origin(self) -> None:
        """Count from the median of what is known: from a first value far away single floats would not tell the rest.

        Once a window, and while the first one fills whenever it has doubled.
        """
        window = self._window[-self.keep :].astype(np.float64)
        for metric in range(window.shape[1]):
            known = np.sort(window[~np.isnan(window[:, metric]), metric])
            off = known[len(known) // 2] if len(known) else math.nan
            window[:, metric] -= off
            self._origin[metric] += off
        self._written = window.astype(np.float32).tobytes()

    def _sharpen(self, place: int) -> None:
        """Where the onset's own observation still has the old level, the new regime begins with the next one.

        The step into the onset counts for neither side, so its place is known to one observation.
        """
        for shift in self.shifts()[:1]:
            value = self._origin[shift.metric] + float(self._window[place, shift.metric])
            if abs(value - shift.before) < abs(value - shift.after):
                self.change = self._begin + 1

    @property
    def certainty(self) -> float:
        """Probability that there has been a change since the last one told."""
        return 1.0 / (1.0 + math.exp(-self.log_odds)) if self.log_odds > -_MOST_ODDS else 0.0

    def restart(self) -> None:
        """A new regime begins with the next observation, for a reason that is known."""
        self._begin, self.log_odds = self.count, -math.inf

    def shifts(self) -> list[Shift]:
        """What the change that the last update told of did to each metric that shows it; the clearest first."""
        if self.change is None:
            return []
        window = self._window.copy()
        first = self.count - len(window)
        begin, judged, place = max(0, self._before - first), self._begin - first, self.change - first
        evidence = np.empty(len(window))
        found = []
        for metric in range(window.shape[1]):
            series = window[:, metric]
            if not onset_evidence(series, begin, evidence):
                continue
            shown = float(evidence[judged])
            if shown > 0.0:
                before, after = (part[~np.isnan(part)] for part in (series[begin:place], series[place:]))
                origin = self._origin[metric]
                found.append(
                    Shift(
                        metric,
                        origin + float(before[-LOOK_BACK:].mean(dtype=np.float64)),
                        origin + float(after.mean(dtype=np.float64)),
                        shown,
                    )
                )
        return sorted(found, key=lambda each: -each.evidence)
