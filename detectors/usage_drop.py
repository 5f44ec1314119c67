"""Usage drop: is a device used less than is usual for it, since when, by how much, in which way, how certainly."""

from typing import Any

import msgspec
import numpy as np

from detectors.detector import Detector
from detectors.usage_counts import Floats
from detectors.usage_day import (
    BELIEF,
    CERTAINTY,
    EXPECTED,
    FALL,
    LEAST_SPREAD,
    OBSERVED,
    SAID,
    SHAPE,
    SHAPES,
    SINCE,
    add_hour,
    begin_day,
    close_day,
    shares_of,
    usual_hour,
)
from detectors.usage_filter import AGES, HYPOTHESES, LEVEL, VAR_LEVEL
from detectors.usage_fleet import UsagePrior
from detectors.usage_judgement import UsageJudgement
from detectors.usage_memory import (
    DOUBTS,
    LEVEL_NOW,
    POOLED_HOURS,
    SIZE,
    SPREAD,
    USUAL,
    WATCHED_DAYS,
    WEEKDAYS,
    doubles,
    keep_hours,
    singles,
)
from detectors.usage_rhythm import POOLED, RHYTHM_DAYS
from schema.interned import same

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_MONDAY = 3  # 1970-01-01 was a Thursday
_NOTHING = bytes(AGES * HYPOTHESES // 8)


class UsageDrop(Detector):
    """Bayesian filter over falls of overdispersed counts against the device's own week.

    A day's judged hours are added up, because what moves usage (weather, a feast, a doctor's leave) moves whole days.
    Usual is level x weekday x share of the day's hours that were judged, less on days that look like a rest day by
    their hours (`detectors.usage_rhythm`). Each day weighs what may have happened: nothing, or a stop, step, ramp or
    rise that began with one of the last AGES days (`detectors.usage_filter`). The belief is the posterior probability
    of all falls together; once it has reached 0.5 it does not go below while at least 0.2 would be left. Level, week
    and noise are learnt by as much as nothing is believed to have happened, so a slow decline is not learnt away; a
    fall that is older than AGES days is the new normal, and so is a rise after two weeks.

    Hourly and daily series are the same to it: an hour that is never fed has no share of the day.

    * Range: belief in [0, 1], 0.5 is its own word for "down"; it changes once a day.
    * Warm-up: LEARNING_DAYS of judged days, LEANING_DAYS with a prior of the fleet; the belief is 0 until then.
    * Memory: at most 240 hypotheses of four numbers, 216 of hours, 30 days: at most 3.3 kB, 2.2 kB in quiet times.
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
    FIRST_DOUBT = 1.0
    """Variance of what a weekday is worth as a log, before anything is known: a third of the average, or nothing."""
    FIRST_SPREAD = 0.1
    """Variance of days' log rates before anything is known: a third of usual."""
    MOST_COUNT = 1e12
    """Of a window: no machine is used so often."""

    __slots__ = ("day", "days", "hypotheses", "judged_day", "judgement", "leans", "memory", "open")

    def __init__(self) -> None:
        self.day = -1
        """UTC day since the epoch that is being added up."""
        self.open = True
        """Whether it is still added up, and not judged yet."""
        self.days = 0
        """Judged days so far."""
        self.judged_day = -1
        self.leans = False
        """Whether it began with a prior."""
        self.memory = np.zeros(SIZE, np.uint8)
        self.hypotheses = _NOTHING
        """What may have begun, `packed` (see `detectors.usage_memory`)."""
        self.judgement = UsageJudgement(0.0, 0.0, 0.0, 0.0, 0)
        double = doubles(self.memory)
        double[DOUBTS], double[SPREAD] = self.FIRST_DOUBT, self.FIRST_SPREAD

    def __getstate__(self) -> tuple[Any, ...]:
        return (
            self.day,
            self.open,
            self.days,
            self.judged_day,
            self.leans,
            self.memory.tobytes(),
            self.hypotheses,
            *msgspec.structs.astuple(self.judgement),
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.day, self.open, self.days, self.judged_day, self.leans, memory, self.hypotheses, *judged = state
        self.memory = np.frombuffer(memory, np.uint8).copy()
        self.judgement = UsageJudgement(*map(same, judged))

    def lean(self, prior: UsagePrior) -> None:
        """Begin with what is usual for other devices; only before the first update."""
        assert self.day < 0
        self.leans = True
        double, single = doubles(self.memory), singles(self.memory)
        double[USUAL][LEVEL], double[USUAL][VAR_LEVEL] = prior.level, prior.level_variance
        double[LEVEL_NOW], double[SPREAD] = prior.level, max(LEAST_SPREAD, prior.spread)
        double[WEEKDAYS], double[DOUBTS] = prior.weekdays, prior.doubts
        for weekday in range(7):
            keep_hours(self.memory, weekday, POOLED * prior.hours[weekday])
        single[POOLED_HOURS], single[WATCHED_DAYS] = POOLED * prior.hours.mean(axis=0), RHYTHM_DAYS

    def update(self, end_ms: int, count: float, exposure: float = 1.0) -> UsageJudgement:
        """Take the usage of the window (hour or day) that ends at `end_ms`; days come in order, hours in any.

        `exposure` is the part of the window in [0, 1] during which the device could be watched; windows that cannot be
        judged (no connection, holiday, planned maintenance) are left out. A day is judged as soon as all hours that are
        usually watched have come (known after two weeks), else when the next begins; an hour that comes after that is
        left out, but waited for from then on. What belongs to a day before or to an hour that was watched whole
        already, or is no count (NaN, below 0, above MOST_COUNT), is as if it had not been fed.
        """
        day, hour = divmod((end_ms - 1) // HOUR_MS, 24)
        if day < self.day:
            return self.judgement
        if day != self.day:
            if self.day >= 0 and self.open:
                self._close_day()
            self.day, self.open = day, True
            begin_day(self.memory)
        if not 0 <= count <= self.MOST_COUNT:
            return self.judgement
        watched = min(1.0, exposure) if exposure > 0 else 0.0
        if not self.open:
            days = singles(self.memory)[WATCHED_DAYS]
            days[hour] = max(days[hour], watched)
        elif add_hour(self.memory, hour, float(count), watched) and self._knows_hours():
            self.open = False
            self._close_day()
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
        return usual_hour(self.memory, (day + _MONDAY) % 7, hour)

    @property
    def level(self) -> float:
        """Log of the usual use of a day; what falls took away is not taken off."""
        return float(doubles(self.memory)[LEVEL_NOW])

    @property
    def weekdays(self) -> Floats:
        """(7,) log worth of the weekdays, Monday first."""
        return doubles(self.memory)[WEEKDAYS]

    @property
    def spread(self) -> float:
        """Variance of single days' log rates."""
        return float(doubles(self.memory)[SPREAD])

    def shares(self) -> Floats:
        """(7, 24) shares of the hours in a weekday's use, Monday first."""
        return np.array([shares_of(self.memory, weekday) for weekday in range(7)])

    def _knows_hours(self) -> bool:
        return self.leans or self.days >= RHYTHM_DAYS

    def _close_day(self) -> None:
        said = np.empty(SAID)
        hypotheses = close_day(
            self.memory,
            np.frombuffer(self.hypotheses, np.uint8),
            (self.day + _MONDAY) % 7,
            self.days,
            self.day - self.judged_day if self.days else 1,
            self.leans,
            self.days >= (self.LEANING_DAYS if self.leans else self.LEARNING_DAYS),
            self._knows_hours(),
            self.judgement.belief,
            said,
        )
        if not len(hypotheses):
            return
        self.days, self.judged_day, self.hypotheses = self.days + 1, self.day, hypotheses.tobytes()
        told = said.tolist()
        expected, observed, shape = told[EXPECTED], told[OBSERVED], int(told[SHAPE])
        self.judgement = UsageJudgement(
            expected,
            observed,
            told[BELIEF],
            max(0.0, 100 * (1 - observed / expected)) if expected > 0 else 0.0,
            (self.day - int(told[SINCE])) * DAY_MS,
            SHAPES[shape],
            told[CERTAINTY],
            100 * told[FALL],
        )
