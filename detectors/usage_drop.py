"""Usage drop: is a device used less than is usual for it, since when, by how much, in which way, how certainly."""

from math import exp, log
from typing import Any

import msgspec
import numpy as np
from river import base

from detectors.usage_counts import Floats
from detectors.usage_filter import (
    AGES,
    DEAD,
    HYPOTHESES,
    IN_SPELL,
    LAST_DAYS,
    LASTING,
    LEVEL,
    ODDS,
    OWN,
    RAMPS,
    RISES,
    SHIFT,
    STEPS,
    STOPS,
    VAR_LEVEL,
    VAR_RESIDUAL,
    VARIANCE,
    Singles,
    advance,
    describe,
    left_at,
    settle,
)
from detectors.usage_fleet import UsagePrior
from detectors.usage_judgement import Shape, UsageJudgement
from detectors.usage_memory import UsageMemory, packed, unpacked
from detectors.usage_rhythm import POOLED, RHYTHM_DAYS, learn, look, share_hours
from schema.interned import same

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_MONDAY = 3  # 1970-01-01 was a Thursday

_SHAPES: dict[Shape, slice] = {"step": STEPS, "ramp": RAMPS, "stop": STOPS}
_FALLS = slice(0, RISES.start)
_LEFT = np.array([[left_at(k, age) for k in range(RISES.start)] for age in range(AGES)])


class UsageDrop(UsageMemory, base.Base):  # type: ignore[misc]  # River publishes no types
    """Bayesian filter over falls of overdispersed counts against the device's own week.

    A day's judged hours are added up, because what moves usage (weather, a feast, a doctor's leave) moves whole days.
    Usual is level x weekday x share of the day's hours that were judged, less on days that look like a rest day by
    their hours (`detectors.usage_rhythm`). Each day weighs what may have happened: nothing, or a stop, step, ramp or
    rise that began with one of the last AGES days (`detectors.usage_filter`). The belief is the posterior probability
    of all falls together; once it has reached 0.5 it does not go below while at least HOLD would be left. Level, week
    and noise are learnt by as much as nothing is believed to have happened, so a slow decline is not learnt away; a
    fall that is older than AGES days is the new normal, and so is a rise after two weeks.

    Hourly and daily series are the same to it: an hour that is never fed has no share of the day.

    * Range: belief in [0, 1], 0.5 is its own word for "down"; it changes when the first window of a new day comes.
    * Warm-up: LEARNING_DAYS of judged days, LEANING_DAYS with a prior of the fleet; the belief is 0 until then.
    * Memory: at most 240 hypotheses of four numbers, 216 of hours, 30 days: at most 6 kB, 3 kB in quiet times.
    * Source: see `detectors.usage_filter`.

    >>> usage = UsageDrop()
    >>> for day in range(60):
    ...     judgement = usage.update((day + 1) * DAY_MS, 40.0 if day < 45 else 10.0)
    >>> judgement.belief > 0.5, judgement.shape, round(judgement.drop_pct), judgement.since_ms // DAY_MS
    (True, 'step', 74, 45)
    """

    LEARNING_DAYS = 21
    """Each weekday is known three times."""
    LEANING_DAYS = 4
    """With a prior the weekdays are known, and only the device's own level is not."""
    HOLD = 0.2
    SUSPECT = 0.1
    """Belief from which on a fall is described."""
    FREEZE = 0.3
    """Belief from which on the week is not learnt at all."""
    FIRST_VARIANCE = 0.5
    """Of the log level after the first day: a first day may be half or double of what follows."""
    FIRST_DOUBT = 1.0
    """Variance of what a weekday is worth as a log, before anything is known: a third of the average, or nothing."""
    FIRST_SPREAD, SPREAD_DAYS = 0.1, 10
    """Variance of days' log rates before anything is known, and the days as which that counts: a third of usual."""
    SPREAD_RATE = 0.04
    """A day's weight in the variance of days: half is forgotten after 17 days."""
    LEAST_SPREAD = 0.01
    """Days differ by at least 10 %, however alike the first ones were."""
    MOST_OFF = 1.5
    """How far one day may be off in the variance of days, as a share of usual."""
    LEAST_LEVEL = 0.3
    """Events a day as which a device that is not used at first counts."""
    LEAST_COVERED = 0.02
    """Share of a day's use that must be covered for the day to be judged."""
    MOST_COUNT = 1e12
    """Of a window: no machine is used so often."""

    __slots__ = (
        "day",
        "days",
        "judged_day",
        "judgement",
        "leans",
        "level",
        "rested",
        "spread",
    )

    def __init__(self) -> None:
        super().__init__()
        self.day = -1
        """UTC day since the epoch that is being added up."""
        self.days = 0
        """Judged days so far."""
        self.judged_day = -1
        self.leans = False
        """Whether it began with a prior."""
        self.level = 0.0
        """Log of the usual use of a day; what falls took away is not taken off."""
        self.spread = self.FIRST_SPREAD
        self.rested = 0.0
        self.doubts[:] = self.FIRST_DOUBT
        self.judgement = UsageJudgement(0.0, 0.0, 0.0, 0.0, 0)

    def __getstate__(self) -> tuple[Any, ...]:
        return (
            self.day,
            self.days,
            self.judged_day,
            self.leans,
            self.level,
            self.spread,
            self.rested,
            self.hypotheses,
            self.singles.tobytes(),
            self.doubles.tobytes(),
            *msgspec.structs.astuple(self.judgement),
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.day, self.days, self.judged_day, self.leans, self.level, self.spread, self.rested = state[:7]
        self.hypotheses, singles, doubles, *judged = state[7:]
        self.judgement = UsageJudgement(*map(same, judged))
        self.singles, self.doubles = np.frombuffer(singles, np.float32).copy(), np.frombuffer(doubles).copy()

    def lean(self, prior: UsagePrior) -> None:
        """Begin with what is usual for other devices; only before the first update."""
        assert self.day < 0
        self.leans = True
        self.usual[LEVEL], self.usual[VAR_LEVEL] = prior.level, prior.level_variance
        self.level, self.spread = prior.level, max(self.LEAST_SPREAD, prior.spread)
        self.weekdays[:], self.doubts[:] = prior.weekdays, prior.doubts
        self.hours[:] = POOLED * prior.hours
        self.pooled[:] = POOLED * prior.hours.mean(axis=0)
        self.watched[:] = RHYTHM_DAYS

    def update(self, end_ms: int, count: float, exposure: float = 1.0) -> UsageJudgement:
        """Take the usage of the window (hour or day) that ends at `end_ms`; days come in order, hours in any.

        `exposure` is the part of the window in [0, 1] during which the device could be watched; windows that cannot be
        judged (no connection, holiday, planned maintenance) are left out. The judgement is new when a day is over. What
        belongs to a day before, or is no count (NaN, below 0, above MOST_COUNT), is as if it had not been fed.
        """
        day, hour = divmod((end_ms - 1) // HOUR_MS, 24)
        if day < self.day:
            return self.judgement
        if day != self.day:
            if self.day >= 0:
                self._close_day()
            self.day = day
            self.counts[:] = 0.0
            self.exposure[:] = 0.0
        if 0 <= count <= self.MOST_COUNT:
            self.counts[hour] += count
            self.exposure[hour] = min(1.0, self.exposure[hour] + (exposure if exposure > 0 else 0.0))
        return self.judgement

    @property
    def drift_detected(self) -> bool:
        """River's word for it: usage is down."""
        return self.judgement.belief >= 0.5

    def expected(self, at_ms: int) -> float:
        """Usual count of the hour that ends at `at_ms` (of the day, if days are fed); 0 before anything is known."""
        if self.days == 0 and not self.leans:
            return 0.0
        day, hour = divmod((at_ms - 1) // HOUR_MS, 24)
        weekday = (day + _MONDAY) % 7
        return float(self._shares(weekday)[hour]) * exp(self.level + float(self.weekdays[weekday]))

    def shares(self) -> Floats:
        """(7, 24) shares of the hours in a weekday's use, Monday first."""
        return np.array([self._shares(weekday) for weekday in range(7)])

    def _shares(self, weekday: int) -> Floats:
        shares = np.empty(24)
        share_hours(self.hours[weekday], self.pooled, self.watched, shares)
        return shares

    def _close_day(self) -> None:
        weekday = (self.day + _MONDAY) % 7
        total = float(self.counts.sum())
        if self.days == 0 and not self.leans:
            self.watched[:] = self.exposure
        covered, factor, doubt, rest_factor, rest_hours, spell_hours, rests = look(
            weekday, self.weekdays, self.hours, self.pooled, self.watched, self.counts, self.exposure, self.rested,
            self.leans or self.days >= RHYTHM_DAYS,
        )  # fmt: skip
        if covered < self.LEAST_COVERED:
            return
        if self.days == 0:
            self.judged_day = self.day - 1
            self.usual[VAR_RESIDUAL] = LASTING * self.spread
            if not self.leans:
                self.usual[LEVEL], self.usual[VAR_LEVEL] = log(max(total, self.LEAST_LEVEL)), self.FIRST_VARIANCE
        self.rested = rests
        told = np.empty(4)
        opens = self.days >= (self.LEANING_DAYS if self.leans else self.LEARNING_DAYS)
        usual, variance = exp(self.usual[LEVEL]) * factor, self.doubts[weekday] + doubt
        unsure = variance + self.usual[VAR_LEVEL]
        hypotheses = unpacked(self.hypotheses)
        belief = advance(
            self.usual, hypotheses, opens, self.day - self.judged_day, self.spread,
            total, factor, rest_factor, rest_hours, spell_hours, doubt, self.doubts[weekday], told,
        )  # fmt: skip
        self.days, self.judged_day = self.days + 1, self.day
        recent = self.recent
        recent[1:] = recent[:-1]
        recent[0] = self.day, total, factor
        if settle(self.usual, hypotheses, recent[:LAST_DAYS, 1], recent[:LAST_DAYS, 2]):
            belief = 0.0
        if self.judgement.belief >= 0.5 and self.HOLD <= belief < 0.5:
            belief = 0.5
        moved = self._learn(weekday, told, belief, rests, total, usual, unsure)
        hypotheses[:, :, LEVEL] += moved
        self._judge(belief, hypotheses)
        self.hypotheses = packed(hypotheses)

    def _learn(
        self, weekday: int, told: Floats, belief: float, rests: float, total: float, usual: float, unsure: float
    ) -> float:
        """Learn a day; by how much the level has moved."""
        off = max(-self.MOST_OFF, min(self.MOST_OFF, total / usual - 1)) if usual > 0 else 0.0
        rate = max(self.SPREAD_RATE, 1 / (self.days + self.SPREAD_DAYS)) * (1 - belief) * (told[OWN] + told[IN_SPELL])
        self.spread += rate * (off * off - 1 / (usual + self.LEAST_LEVEL) - unsure - self.spread)
        self.spread = max(self.LEAST_SPREAD, self.spread)
        trust = max(0.0, 1 - belief / self.FREEZE) * (1 - rests)  # a spell's hours are learnt: else new ones never were
        moved = learn(
            weekday, self.weekdays, self.doubts, self.hours, self.pooled, self.watched, self.counts, self.exposure,
            told[SHIFT], told[VARIANCE], trust * told[OWN], trust,
        )  # fmt: skip
        self.usual[LEVEL] += moved
        return moved

    def _judge(self, belief: float, hypotheses: Singles) -> None:
        odds = hypotheses[:, :, ODDS].astype(np.float64)
        weights = np.where(odds > DEAD, np.exp(odds - odds.max()), 0.0)
        nothing = exp(-odds.max())
        self.level = float(
            (nothing * self.usual[LEVEL] + (weights * hypotheses[:, :, LEVEL]).sum()) / (nothing + weights.sum())
        )
        falls = weights[:, _FALLS]
        level, days = self.level, min(7, self.days)
        shape: Shape = "none"
        certainty = fall = 0.0
        if belief >= self.SUSPECT:
            level = float((falls * hypotheses[:, :, LEVEL][:, _FALLS]).sum() / falls.sum())
            days, shape, certainty, fall = self._described(exp(level))
        expected = exp(level) * float(self.recent[:days, 2].sum())
        observed = float(self.recent[:days, 1].sum())
        drop_pct = max(0.0, 100 * (1 - observed / expected)) if expected > 0 else 0.0
        since_ms = int(self.recent[days - 1, 0]) * DAY_MS
        self.judgement = UsageJudgement(
            expected, observed, float(belief), drop_pct, since_ms, shape, certainty, 100 * fall
        )

    def _described(self, level: float) -> tuple[int, Shape, float, float]:
        """Of a fall: how many days it has lasted, its likeliest shape and how sure that is, the share it took away."""
        days = min(self.days, AGES)
        odds = np.empty((AGES, HYPOTHESES))
        describe(self.recent[:days, 1], level * self.recent[:days, 2].astype(np.float64), self.spread, odds)
        weights = np.exp(odds - odds.max())[:, _FALLS]
        weights /= weights.sum()
        by_shape = {name: float(weights[:, part].sum()) for name, part in _SHAPES.items()}
        shape = max(by_shape, key=lambda name: by_shape[name])
        by_age = weights[:, _SHAPES[shape]].sum(axis=1).cumsum()
        lasted = 1 + int(np.searchsorted(by_age, 0.5 * by_age[-1]))
        return lasted, shape, by_shape[shape], float((weights * (1 - _LEFT)).sum())
