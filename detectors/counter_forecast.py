"""Counter forecast: on which day will a counter have grown by so much, how certainly."""

import math
from array import array
from typing import Any

import msgspec

from detectors.detector import Detector

VERSION = "counter_forecast/1"
_MONDAY = 3  # 1970-01-01 was a Thursday
_P90 = 1.2816
"""Standard deviations of the normal distribution between its median and its ninth decile."""


class Forecast(msgspec.Struct, frozen=True):
    """In how many days a counter has grown by as much as remains: first decile, median and ninth decile.

    Not more than `CounterForecast.FARTHEST`, which stands for later ones too.
    """

    early_days: float
    days: float
    late_days: float


class CounterForecast(Detector):
    """How fast a counter grows: level x weekday share, and how wrong its own forecasts of four weeks have been.

    The logarithm of the growth over d days to come is taken for normal about that of sum(level x share), with

        s(d)^2 = day / d + slow x min(d, 56) / 28,

    `day` the relative variance of single days about their expectation, `slow` what the squared relative errors of its
    own forecasts of 28 days have been beyond day / 28. A day after a gap spans several days and is learned as their
    mean; at most MOST usual days count, so a broken counter or a feast does not become usual.

    * Range: days from 0 to FARTHEST; a chance in [0, 1]. Warm-up: none, but until LEARNING_DAYS have been seen the
      growth of the days so far is the level, and its spread is taken for twice as large.
    * Memory: 7 shares, four forecasts that wait: 400 bytes.
    * Source: exponential smoothing with a multiplicative week, Winters (1960), Forecasting sales by exponentially
      weighted moving averages, Management Science 6(3); clipped as in Gelper, Fried and Croux (2010), Robust
      forecasting with exponential and Holt-Winters smoothing, J. Forecasting 29; the spread is that of past forecasts.

    >>> hours = CounterForecast()
    >>> for day in range(60):
    ...     hours.update(day, 1.0, 0.0 if day % 7 in (2, 3) else 10.0)
    >>> [round(days) for days in msgspec.structs.astuple(hours.forecast(60, 96.0))]
    [11, 12, 15]
    """

    LEVEL_RATE = 0.05
    """A day's weight in the level: half is forgotten after two weeks."""
    SHARE_RATE = 0.12
    """A weekday's weight in its share: half is forgotten after 6 weeks."""
    SPREAD_RATE = 0.04
    MOST = 3.0
    LEARNING_DAYS = 14
    SLOW = 0.02
    """Variance of forecasts of 28 days before any has come true: 14 %."""
    SLOW_WEIGHT = 4.0
    """Forecasts as which that first guess counts."""
    SLOW_RATE = 0.1
    FARTHEST = 400
    WEEK, SPAN = 7, 28

    __slots__ = ("day_spread", "days", "errors", "level", "shares", "slow", "total", "waiting")

    def __init__(self) -> None:
        self.days = 0
        self.level = 0.0
        self.shares = array("d", [1.0]) * 7
        self.day_spread = 0.25
        self.slow = self.SLOW
        self.errors = 0
        self.total = 0.0
        self.waiting = array("d")
        """Forecasts of SPAN days that wait for what really comes: day, total then, growth foreseen."""

    def __getstate__(self) -> tuple[Any, ...]:
        """Numbers as bytes: a state is written for each device at each cut."""
        return (
            self.days,
            self.level,
            self.day_spread,
            self.slow,
            self.errors,
            self.total,
            self.shares.tobytes(),
            self.waiting.tobytes(),
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.days, self.level, self.day_spread, self.slow, self.errors, self.total, shares, waiting = state
        self.shares, self.waiting = array("d", shares), array("d", waiting)

    def update(self, day: int, span_days: float, growth: float) -> None:
        """Take in a day that is over; one whose numbers are none is left out.

        Args:
            day: UTC days since the epoch, rising.
            span_days: How long the growth took: more than a day after a gap; a part of one is no day and is not fed.
            growth: Counter increase, not negative.
        """
        if not (0 <= growth < math.inf and 0 < span_days < math.inf):
            return
        self.total += growth
        expected = self._growth(day + 1 - max(1, round(span_days)), day + 1) if self.days else growth
        young = 1 / (self.days + 1)
        self.days += 1
        span = max(1.0, span_days)
        if span <= 1.5 and self.days > 1:
            self._learn_day(day, growth, expected)
        ratio = growth / expected if expected > 0 else (self.MOST if growth > 0 else 1.0)
        if self.days > self.WEEK:
            ratio = min(ratio, self.MOST)
        if expected > 0:
            weight = self.shares[(day + _MONDAY) % 7] if span <= 1.5 else 1.0
            rate = min(1.0, max(self.LEVEL_RATE, young) * min(span, self.WEEK) * weight)
            self.level *= 1 + rate * (ratio - 1)
        elif growth > 0:
            self.level = growth / span if self.level <= 0 else self.level
        if self.days == 1:
            self.level = growth / span
        self._remember(day)

    def _learn_day(self, day: int, growth: float, expected: float) -> None:
        level = max(self.level, 1e-9)
        off = min((growth - expected) / level, self.MOST) if self.level > 0 else 0.0
        self.day_spread += max(self.SPREAD_RATE, 1 / (self.days + 4)) * (off * off - self.day_spread)
        weekday = (day + _MONDAY) % 7
        share = min(growth / level, self.MOST)
        rate = max(self.SHARE_RATE, 1 / (self.days // 7 + 2))
        self.shares[weekday] += rate * (share - self.shares[weekday])
        mean = sum(self.shares) / 7
        if mean > 0:
            for each in range(7):
                self.shares[each] /= mean

    def _remember(self, day: int) -> None:
        waiting = self.waiting
        while waiting and waiting[0] + self.SPAN <= day:
            begun, total, foreseen = waiting[:3]
            del waiting[:3]
            foreseen *= (day - begun) / self.SPAN
            came = self.total - total
            off = math.log(came / foreseen) if came > 0 and foreseen > 0 else self.MOST
            off = max(-1.0, min(off, 1.0))
            own = max(0.0, off * off - self.day_spread / self.SPAN)
            self.errors += 1
            self.slow += max(self.SLOW_RATE, 1 / (self.errors + self.SLOW_WEIGHT)) * (own - self.slow)
        if self.days >= self.LEARNING_DAYS and (not waiting or waiting[-3] + self.WEEK <= day):
            waiting.extend((day, self.total, self._growth(day + 1, day + 1 + self.SPAN)))

    def _growth(self, from_day: int, until_day: int) -> float:
        weeks, rest = divmod(until_day - from_day, 7)
        part = sum(self.shares[(from_day + each + _MONDAY) % 7] for each in range(rest))
        return self.level * (7 * weeks + part)

    def _spread(self, days: float) -> float:
        young = 2.0 if self.days < self.LEARNING_DAYS else 1.0
        return young * math.sqrt(self.day_spread / max(days, 1.0) + self.slow * min(days / self.SPAN, 2.0))

    def chance(self, from_day: int, remaining: float, days: int) -> float:
        """Probability that the counter grows by `remaining` within `days` from the beginning of `from_day`."""
        if remaining <= 0:
            return 1.0
        growth = self._growth(from_day, from_day + days)
        if growth <= 0 or days <= 0:
            return 0.0
        return 0.5 * math.erfc(math.log(remaining / growth) / self._spread(days) / math.sqrt(2))

    def forecast(self, from_day: int, remaining: float) -> Forecast:
        """In how many days from the beginning of `from_day` the counter has grown by `remaining`."""
        return Forecast(*(self._days(from_day, remaining, sds) for sds in (_P90, 0.0, -_P90)))

    def _days(self, from_day: int, remaining: float, sds: float) -> float:
        """The day on which growth with `sds` standard deviations of luck reaches `remaining`; halving intervals."""
        if remaining <= 0:
            return 0.0

        def grown(days: int) -> float:
            return self._growth(from_day, from_day + days) * math.exp(sds * self._spread(days))

        low, high = 0, self.FARTHEST
        if grown(high) < remaining:
            return float(self.FARTHEST)
        while high - low > 1:
            middle = (low + high) // 2
            if grown(middle) >= remaining:
                high = middle
            else:
                low = middle
        before, after = grown(low) if low else 0.0, grown(high)
        return low + (remaining - before) / (after - before) if after > before else float(high)
