"""Usage drop: is a device used less than is usual for it, since when, by how much, how certainly."""

from array import array
from itertools import accumulate, islice
from math import log
from typing import Any

import msgspec
from river import base

from schema.findings import Finding, Severity

VERSION = "usage_drop/1"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_MONDAY = 3  # 1970-01-01 was a Thursday


class UsageJudgement(msgspec.Struct, frozen=True):
    """What is known after a window; `expected` and `observed` are in the counter's unit since `since_ms`."""

    expected: float
    observed: float
    belief: float
    """Certainty that usage is down, in [0, 1]; an alert is raised at 0.5."""
    drop_pct: float
    """100 x (1 - observed / expected), at least 0."""
    since_ms: int


_TOTAL, _MEAN, _RATIOS = 1, 2, 3
"""Columns of a recent day behind its beginning in ms: usage, what is usual for the hours that could be judged, and the
nats by which the day speaks for each of the falls and against usual."""
_COLUMNS = _RATIOS + 4


class UsageDrop(base.Base):  # type: ignore[misc]  # River publishes no types
    """Generalised likelihood ratio of falls of overdispersed counts against the device's own week.

    A day's judged hours are added up, because what moves usage (weather, a feast, a doctor's leave) moves whole days.
    Usual is level x weekday share x share of the day's hours that were judged. A day with total y and usual m weighs

        log NB(y; fall m, size) - log NB(y; m, size),   size = 1 / dispersion,

    for each fall of FALLS, clipped on both sides: one dead day is no drop. The evidence is the largest sum over the
    last SHORTEST .. LAGS days and all falls; belief = evidence / (2 LIMIT), and once it has reached 0.5 it does not go
    below while at least HOLD would be left. What is usual is learned only while nothing is suspected, so a slow decline
    is not learned away, and is given up after GIVE_UP_DAYS of being down: then the low level is the new normal.

    Hourly and daily series are the same to it: an hour that is never fed has no share of the day.

    * Range: belief in [0, 1], 0.5 is its own word for "down"; it changes when the first window of a new day comes.
    * Warm-up: LEARNING_DAYS of judged days; the belief is 0 until then.
    * Memory: 168 hour counts and exposures, 7 weekday shares, at most LAGS + GIVE_UP_DAYS days: about 4 kB.
    * Source: Lorden (1971), Procedures for reacting to a change in distribution, Ann. Math. Statist. 42(6); clipped
      scores after Huber (1965), A robust version of the probability ratio test, Ann. Math. Statist. 36(6).

    >>> usage = UsageDrop()
    >>> for day in range(60):
    ...     judgement = usage.update((day + 1) * DAY_MS, 40.0 if day < 45 else 10.0)
    >>> judgement.belief > 0.5, round(judgement.drop_pct), judgement.since_ms // DAY_MS
    (True, 75, 45)
    """

    LIMIT = 6.0
    """Nats at which the belief is 0.5. Over public counts (hire bikes, buses) that is 0.2 false alarms a year."""
    FALLS = ((0.75, 0.8), (0.6, 0.8), (0.4, 0.8), (0.1, 1.5))
    """Falls that are tested, as shares of usual, and the nats that one day may weigh for each: a partial fall needs
    eight days, as bad weather lasts for days too; a standstill needs four, longer than a long weekend."""
    SHORTEST, LAGS = 3, 21
    """Days summed: three weeks find a fall by a quarter, and a ramp, within a month."""
    HOLD = 0.4
    LEARNING_DAYS = 21
    """Each weekday is known three times."""
    GIVE_UP_DAYS = 28
    SUSPECT = 0.3
    """Belief from which on nothing is learned."""
    LEVEL_RATE = 0.02
    """A day's weight in the level: half is forgotten after 5 weeks."""
    SPREAD_RATE = 0.05
    SHARE_RATE = 0.12
    """A weekday's weight in its share: half is forgotten after 6 weeks."""
    SHARE_SHRINK = 3.0
    """Events as which the first guess counts, that all weekdays are alike."""
    LEAST_DISPERSION = 0.02
    """Days differ by at least 14 %, however alike the first ones were."""
    MOST = 3.0
    """Usual days that one day counts for in learning: a broken counter or a feast does not become usual."""
    LEAST_MEAN = 0.3
    """Events a day below which a device counts as hardly used, and days say little."""
    HOUR_MEMORY = 0.95
    """What a week leaves of an hour's weight in the shape of its day."""
    SHRINK = 30.0
    """Events after which a weekday's own hours weigh as much as the hours of all days."""

    __slots__ = (
        "adjusted",
        "day",
        "days",
        "days_down",
        "excess",
        "fed",
        "hours",
        "judgement",
        "level",
        "recent",
        "seen",
        "shares",
        "squares",
        "total",
        "weekdays",
    )

    def __init__(self) -> None:
        self.days = 0
        self.level: float | None = None
        self.excess = self.squares = 1.0
        self.weekdays = array("d", [1.0]) * 7
        self.hours = array("f", bytes(4 * 168))
        self.seen = array("f", bytes(4 * 168))
        self.shares: dict[int, array[float]] = {}
        self.recent: array[float] = array("d")
        """The last LAGS days, oldest first, `_COLUMNS` numbers each."""
        self.adjusted: array[float] = array("d")
        self.days_down = 0
        self.day = -1
        self.total = 0.0
        self.fed: array[float] = array("d")
        """Hour of the day and exposure of each window of the day that is not closed."""
        self.judgement = UsageJudgement(0.0, 0.0, 0.0, 0.0, 0)
        """The last judgement."""

    def __getstate__(self) -> tuple[Any, ...]:
        """Numbers as bytes: a state is written for each device at each cut."""
        arrays = (self.hours, self.seen, self.weekdays, self.recent, self.adjusted, self.fed)
        single = (self.days, self.level, self.excess, self.squares, self.days_down, self.day, self.total)
        shares = {weekday: each.tobytes() for weekday, each in self.shares.items()}
        return *single, msgspec.structs.astuple(self.judgement), shares, *(each.tobytes() for each in arrays)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.days, self.level, self.excess, self.squares, self.days_down, self.day, self.total = state[:7]
        self.judgement = UsageJudgement(*state[7])
        self.shares = {weekday: array("d", each) for weekday, each in state[8].items()}
        arrays = (array(code, each)[:] for code, each in zip("ffdddd", state[9:], strict=True))  # [:]: no room to grow
        self.hours, self.seen, self.weekdays, self.recent, self.adjusted, self.fed = arrays

    def update(self, at_ms: int, count: float, exposure: float = 1.0) -> UsageJudgement:
        """Take in the judged window that ends at `at_ms`; windows that cannot be judged are not fed.

        Args:
            at_ms: End of the window, rising.
            count: Counter increase of the window, not negative.
            exposure: Share of the window that the device could be used, in (0, 1].
        """
        hour = (at_ms - 1) // HOUR_MS
        day, hour_of_day = divmod(hour, 24)
        if day != self.day:
            if self.day >= 0:
                self._close_day()
            self.day = day
            self.total = 0.0
            self.fed = array("d")
        self.total += count
        self.fed.extend((hour_of_day, exposure))
        slot = (day + _MONDAY) % 7 * 24 + hour_of_day
        self.hours[slot] += count
        self.seen[slot] += exposure
        return self.judgement

    @property
    def drift_detected(self) -> bool:
        """River's word for it: usage is down."""
        return self.judgement.belief >= 0.5

    def expected(self, at_ms: int) -> float:
        """Usual count of the hour that ends at `at_ms` (of the day, if days are fed); 0 before anything is known."""
        day, hour_of_day = divmod((at_ms - 1) // HOUR_MS, 24)
        weekday = (day + _MONDAY) % 7
        return (self.level or 0.0) * self.weekdays[weekday] * self._shares(weekday)[hour_of_day]

    def _shares(self, weekday: int) -> "array[float]":
        """Shares of the hours in a day's usage: the weekday's own, drawn towards those of all days; their sum is 1."""
        if weekday not in self.shares:
            self.shares[weekday] = self._new_shares(weekday)
        return self.shares[weekday]

    def _new_shares(self, weekday: int) -> "array[float]":
        first = weekday * 24
        shrink = self.SHRINK / max(self.level or 0.0, self.LEAST_MEAN)
        rates = []
        for hour in range(24):
            seen = sum(self.seen[hour::24])
            pooled = self.weekdays[weekday] * sum(self.hours[hour::24]) / seen if seen else 0.0
            rates.append((self.hours[first + hour] + shrink * pooled) / (self.seen[first + hour] + shrink))
        total = sum(rates)
        return array("d", [rate / total for rate in rates] if total > 0 else [1.0 / 24] * 24)

    def _close_day(self) -> None:
        weekday = (self.day + _MONDAY) % 7
        self.shares.clear()
        shares = self._shares(weekday)
        fed = zip(self.fed[::2], self.fed[1::2], strict=True)
        covered = min(1.0, sum(shares[int(hour)] * exposure for hour, exposure in fed))
        if covered < 1e-6:
            return
        self.days += 1
        adjusted = self.total / (self.weekdays[weekday] * covered)
        if self.level is None:
            self.level = adjusted
        if self.days > 7:
            adjusted = min(adjusted, self.MOST * max(self.level, self.LEAST_MEAN))
        mean = max(self.level * self.weekdays[weekday], self.LEAST_MEAN) * covered
        self.recent.extend((self.day * DAY_MS, self.total, mean, *self._ratios(mean)))
        del self.recent[: -self.LAGS * _COLUMNS]
        self.adjusted.append(adjusted)
        del self.adjusted[: -self.GIVE_UP_DAYS]
        belief = self._evidence()
        self.days_down = self.days_down + 1 if belief >= 0.5 else 0
        if self.days_down > self.GIVE_UP_DAYS:
            self.level = sum(self.adjusted) / len(self.adjusted)
            self.recent = array("d")
            self.days_down, belief = 0, 0.0
        self._judge(belief)
        if belief < self.SUSPECT:
            self._learn(weekday, covered, mean, adjusted)

    def _ratios(self, mean: float) -> tuple[float, ...]:
        size = 1 / max(self.excess / self.squares, self.LEAST_DISPERSION)
        total = self.total
        return tuple(
            max(-clip, min(clip, total * log(fall) - (total + size) * log((size + fall * mean) / (size + mean))))
            for fall, clip in self.FALLS
        )

    def _evidence(self) -> float:
        if self.days <= self.LEARNING_DAYS:
            return 0.0
        best = 0.0
        for column in range(_RATIOS, _COLUMNS):
            ratios = reversed(self.recent[column::_COLUMNS])
            best = max(best, *islice(accumulate(ratios), self.SHORTEST - 1, None), 0.0)
        belief = min(1.0, best / (2 * self.LIMIT))
        return 0.5 if self.judgement.belief >= 0.5 and self.HOLD <= belief < 0.5 else belief

    def _onset(self) -> int:
        """How many of the recent days belong to the fall: those with the greatest Poisson ratio for a free fall."""
        best, days = 0.0, 7
        expected = observed = 0.0
        means, totals = self.recent[_MEAN::_COLUMNS], self.recent[_TOTAL::_COLUMNS]
        for number, (mean, total) in enumerate(zip(reversed(means), reversed(totals), strict=True), 1):
            expected += mean
            observed += total
            ratio = expected - observed + (observed * log(observed / expected) if observed else 0.0)
            if number >= self.SHORTEST and observed < expected and ratio > best:
                best, days = ratio, number
        return days

    def _judge(self, belief: float) -> None:
        days = self.recent[-_COLUMNS * (self._onset() if belief > 0 else 7) :]
        expected = sum(days[_MEAN::_COLUMNS])
        observed = sum(days[_TOTAL::_COLUMNS])
        drop_pct = max(0.0, 100 * (1 - observed / expected)) if expected > 0 else 0.0
        since_ms = int(days[0]) if days else self.day * DAY_MS
        self.judgement = UsageJudgement(expected, observed, belief, drop_pct, since_ms)

    def _learn(self, weekday: int, covered: float, mean: float, adjusted: float) -> None:
        assert self.level is not None
        young = 1 / self.days
        spread_rate = covered * max(self.SPREAD_RATE, young)
        excess = min(max((self.total - mean) ** 2 - mean, 0.0), mean * mean)
        self.excess += spread_rate * (excess - self.excess)
        self.squares += spread_rate * (mean * mean - self.squares)
        self.level += covered * max(self.LEVEL_RATE, young) * self.weekdays[weekday] * (adjusted - self.level)
        for slot in range(weekday * 24, weekday * 24 + 24):
            self.hours[slot] *= self.HOUR_MEMORY
            self.seen[slot] *= self.HOUR_MEMORY
        if self.days > 1:
            share = adjusted * self.weekdays[weekday] / max(self.level, self.LEAST_MEAN)
            visits = (self.days + 6) // 7
            rate = max(self.SHARE_RATE, 1 / (visits + self.SHARE_SHRINK / max(self.level, self.LEAST_MEAN)))
            self.weekdays[weekday] += covered * rate * (share - self.weekdays[weekday])
            average = sum(self.weekdays) / 7
            self.weekdays = array("d", [max(each / average, 0.02) for each in self.weekdays])


def finding(
    judgement: UsageJudgement, at_ms: int, *, device_id: str, site_id: str, customer_id: str, unit: str = ""
) -> Finding:
    """Put a judgement into alerting's words; policy raises at a score of 0.5 and resolves below 0.25."""
    severity: Severity = "error" if judgement.drop_pct >= 60 else "warning"
    evidence: dict[str, Any] = {
        "expected": round(judgement.expected, 2),
        "observed": round(judgement.observed, 2),
        "unit": unit,
        "drop_pct": round(judgement.drop_pct, 1),
        "window": [judgement.since_ms, at_ms],
        "version": VERSION,
        "advice": "offer_training_or_device_check",
    }
    return Finding(
        detector="usage_drop",
        device_id=device_id,
        site_id=site_id,
        customer_id=customer_id,
        subsystem="",
        at_ms=at_ms,
        onset_ms=judgement.since_ms,
        score=judgement.belief,
        severity=severity,
        evidence=evidence,
    )
