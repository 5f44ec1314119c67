"""How much a customer uses its devices against what is usual, with the caution that small counts ask for."""

import math
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

WINDOW_DAYS = 7
"""Whole weeks, so that weekends weigh the same on every day."""
CAUTION = 0.5
"""Standard errors of doubt given to the customer. Of 600 simulated customers who stay for 8 weeks, half of them with 5
devices of only 5 uses a day, one reaches yellow; of as many who leave by a ramp 100 % and 93 % (5 uses) are seen within
14 days. With 0.25 it is one, 100 % and 97 %, and twice as many reach blue."""
_BETWEEN_DEVICES = 0.15
"""Standard deviation of a device's own way, apart from its customer's: work moves between rooms. It keeps one busy
analyser from speaking for the whole customer."""
_BETWEEN_WEEKS = 0.03
"""Standard deviation of whole weeks at one customer."""
_BETWEEN_DAYS = 0.15
"""Standard deviation of single days at one device, beyond what counting explains."""
_PRIOR_DISPERSION = 1.5
_PRIOR_DAYS = 14
_CLIP = 9.0
"""A single day cannot teach that counts disperse without bound; a departure is no dispersion."""


@dataclass(frozen=True, slots=True)
class DeviceDay:
    """Use of a device on one UTC day, in its own counter's unit.

    Windows that could not be judged are in neither figure. `dark` is a device silent for more than a week without
    outage or maintenance (observed 0, expected in full), `excused` one that says nothing about its use.
    """

    device_id: str
    observed: float
    expected: float
    status: Literal["reporting", "dark", "excused"]


class _Day(msgspec.Struct, frozen=True):
    """One day of a customer's devices, those left out that say nothing; compact, for it is kept for two weeks."""

    device_ids: tuple[str, ...]
    observed: "array[float]"
    expected: "array[float]"
    dark: tuple[str, ...]


class UsageScore(msgspec.Struct, frozen=True):
    """Use over the last week, against what is usual."""

    score: float
    """0 to 100: the share of its usual use that the customer has kept, doubts counted in its favour."""
    ratio: float
    """Observed over expected, shrunk towards 1 by as much as a few counts deserve."""
    error: float
    """Standard error of the ratio."""
    observed: float
    expected: float
    dark: int
    """Devices that have gone dark."""
    devices: int


class UsageRecord:
    """Use of one customer's devices over the last week, and how much its counts disperse.

    The ratio of each device is R = (O + k) / (E + k) with k the dispersion: no evidence means no change. Devices are
    weighed as in a random-effects meta-analysis (DerSimonian and Laird 1986), w = 1 / (k / E + 0.15²), because devices
    go their own ways besides their customer. Counts disperse by k >= 1 times the variance of Poisson's and of days
    that differ by 15 %, learned from days that are two weeks old and thus not part of the question. Score = 100 (R +
    CAUTION x its standard error), at most 100.

    Memory: two weeks of days for each device.
    """

    def __init__(self) -> None:
        self._days: deque[_Day] = deque(maxlen=2 * WINDOW_DAYS)
        self._dispersion = _PRIOR_DISPERSION
        self._learned = 0

    def add(self, devices: Iterable[DeviceDay]) -> None:
        """Take in one day."""
        if len(self._days) == self._days.maxlen:
            self._learn(self._days[0])
        told = [each for each in devices if each.status != "excused" and each.expected > 0]
        device_ids = tuple(each.device_id for each in told)
        if self._days and self._days[-1].device_ids == device_ids:
            device_ids = self._days[-1].device_ids  # one tuple for all days
        self._days.append(
            _Day(
                device_ids,
                array("d", [each.observed for each in told]),
                array("d", [each.expected for each in told]),
                tuple(each.device_id for each in told if each.status == "dark"),
            )
        )

    def score(self) -> UsageScore | None:
        """The score of the last week; None if nothing could be judged."""
        week = list(self._days)[-WINDOW_DAYS:]
        gone = set(week[-1].dark) if week else set()
        totals: dict[str, tuple[float, float]] = {}
        if gone:
            newest = zip(week[-1].device_ids, week[-1].expected, strict=True)
            totals = {device_id: (0.0, WINDOW_DAYS * expected) for device_id, expected in newest if device_id in gone}
        for day in week:
            for device_id, day_observed, day_expected in zip(day.device_ids, day.observed, day.expected, strict=True):
                if device_id not in gone:
                    observed, expected = totals.get(device_id, (0.0, 0.0))
                    totals[device_id] = observed + day_observed, expected + day_expected
        if not totals:
            return None
        return _pooled([totals[device_id] for device_id in sorted(totals)], self._dispersion, len(gone))

    def _learn(self, day: _Day) -> None:
        dark = set(day.dark)
        for device_id, observed, expected in zip(day.device_ids, day.observed, day.expected, strict=True):
            if device_id not in dark:
                surprise = min((observed - expected) ** 2 / _spread(expected, 1), _CLIP)
                self._learned += 1
                rate = 1 / (_PRIOR_DAYS + min(self._learned, 200))
                self._dispersion += rate * (surprise - self._dispersion)
        self._dispersion = max(self._dispersion, 1.0)


def _spread(expected: float, days: int) -> float:
    """Variance of a count over `days` with this expectation, before dispersion."""
    return expected + (_BETWEEN_DAYS * expected) ** 2 / days


def _pooled(totals: Sequence[tuple[float, float]], dispersion: float, dark: int) -> UsageScore:
    weights = [1 / (dispersion / expected + _BETWEEN_DEVICES**2) for _, expected in totals]
    ratios = [(observed + dispersion) / (expected + dispersion) for observed, expected in totals]
    whole = sum(weights)
    ratio = sum(weight * each for weight, each in zip(weights, ratios, strict=True)) / whole
    variance = sum(
        (weight / whole) ** 2 * dispersion * each * _spread(expected, WINDOW_DAYS) / expected**2
        for weight, each, (_, expected) in zip(weights, ratios, totals, strict=True)
    )
    error = math.sqrt(variance + (_BETWEEN_WEEKS * ratio) ** 2)
    return UsageScore(
        score=min(100.0, 100 * (ratio + CAUTION * error)),
        ratio=ratio,
        error=error,
        observed=sum(observed for observed, _ in totals),
        expected=sum(expected for _, expected in totals),
        dark=dark,
        devices=len(totals),
    )
