"""Usage drop: is a device used less than is usual for it, since when, by how much, how certainly."""

import math
from collections import deque
from typing import Any

import msgspec

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


class Day(msgspec.Struct):
    """One judged day: what came, what is usual for the hours that could be judged, and the evidence."""

    from_ms: int
    total: float
    mean: float
    ratio: float


class UsageDrop:
    """Generalised likelihood ratio of a fall of overdispersed counts against the device's own week.

    A day's judged hours are added up, because what moves usage (weather, a holiday, a doctor's leave) moves whole days.
    Usual is level x weekday share x share of the hours that were judged. A day with total y and usual m weighs

        log NB(y; FALL_TO m, size) - log NB(y; m, size),   size = 1 / dispersion, clipped to +-CLIP

    and the evidence is the largest sum of it over the last 2 .. LAGS days; belief = evidence / (2 LIMIT), in [0, 1].
    What is usual is learned only while nothing is suspected, so a slow decline is not learned away, and is given up
    after GIVE_UP_DAYS of being down: then the low level is the new normal.

    Hourly and daily series are the same to it: an hour that is never fed has no share of the day.

    * Range: belief in [0, 1], 0.5 is its own word for "down"; expected and observed in the counter's unit.
    * Warm-up: LEARNING_DAYS of judged days; the belief is 0 until then.
    * Memory: 168 hour shares, 7 weekday shares, at most LAGS + GIVE_UP_DAYS days: about 4 kB.
    * Source: Lorden (1971), Procedures for reacting to a change in distribution, Ann. Math. Statist. 42(6).

    >>> usage = UsageDrop()
    >>> for day in range(60):
    ...     judgement = usage.update((day + 1) * DAY_MS, 40.0 if day < 45 else 10.0)
    >>> judgement.belief > 0.5, round(judgement.drop_pct)
    (True, 75)
    """

    LIMIT = 9.0
    """Evidence in nats at which the belief is 0.5: odds of 8000 to 1 cover the many days that are looked at."""
    LAGS = 14
    """Days looked back over: a fall is to be found within two weeks."""
    FALL_TO = 0.6
    """The fall that is tested, as a share of usual: between the -30 % that matter and the -100 % that are obvious."""
    CLIP = 3.0
    """Nats one day may weigh, so that one dead day or a feast is no drop."""
    LEARNING_DAYS = 28
    GIVE_UP_DAYS = 28
    RATE = 0.03
    """A day's weight in level and dispersion: half of it is forgotten after 23 days."""
    SHARE_RATE = 0.12
    """A weekday's weight in its share: half is forgotten after 6 weeks."""
    SHRINK = 30.0
    """Events after which a weekday's own hours weigh as much as the hours of all days."""

    def __init__(self) -> None:
        self.days = 0
        self.level: float | None = None
        self.dispersion = 1.0
        self.weekdays = [1.0] * 7
        self.hours = [0.0] * 168
        self.recent: deque[Day] = deque(maxlen=self.LAGS)
        self.adjusted: deque[float] = deque(maxlen=self.GIVE_UP_DAYS)
        self.days_down = 0
        self.belief = 0.0
        self.start = 0
        self.day = -1
        self.total = 0.0
        self.fed: list[tuple[int, float]] = []

    def update(self, at_ms: int, count: float, exposure: float = 1.0) -> UsageJudgement:
        """Take in the judged window that ends at `at_ms`; windows that cannot be judged are not fed.

        Args:
            at_ms: End of the window, rising.
            count: Counter increase of the window.
            exposure: Share of the window that the device could be used, in (0, 1].
        """
        hour = (at_ms - 1) // HOUR_MS
        if hour // 24 != self.day:
            if self.day >= 0:
                self._close_day()
            self.day = hour // 24
            self.total = 0.0
            self.fed = []
        self.total += count
        self.fed.append((hour % 24, exposure))
        self.hours[self._weekday(self.day) * 24 + hour % 24] += count
        return self.judgement()

    def expected(self, at_ms: int) -> float:
        """Usual count of the hour that ends at `at_ms` (of the day, if days are fed); 0 before anything is known."""
        hour = (at_ms - 1) // HOUR_MS
        weekday = self._weekday(hour // 24)
        return (self.level or 0.0) * self.weekdays[weekday] * self._share(weekday, hour % 24)

    def judgement(self) -> UsageJudgement:
        """The judgement as of the last closed day."""
        days = list(self.recent)[self.start :] if self.belief > 0 else list(self.recent)[-7:]
        expected = sum(day.mean for day in days)
        observed = sum(day.total for day in days)
        drop_pct = max(0.0, 100 * (1 - observed / expected)) if expected > 0 else 0.0
        since_ms = days[0].from_ms if days else self.day * DAY_MS
        return UsageJudgement(expected, observed, self.belief, drop_pct, since_ms)

    @staticmethod
    def _weekday(day: int) -> int:
        return (day + _MONDAY) % 7

    def _share(self, weekday: int, hour: int) -> float:
        own = self.hours[weekday * 24 : weekday * 24 + 24]
        of_hour, of_all = sum(self.hours[hour::24]), sum(self.hours)
        pooled = of_hour / of_all if of_all > 0 else 1.0 / 24
        return (own[hour] + self.SHRINK * pooled) / (sum(own) + self.SHRINK)

    def _close_day(self) -> None:
        weekday = self._weekday(self.day)
        covered = sum(self._share(weekday, hour) * exposure for hour, exposure in self.fed)
        if covered <= 0.0:
            return
        covered = min(1.0, covered)
        self.days += 1
        adjusted = self.total / (self.weekdays[weekday] * covered)
        if self.level is None:
            self.level = adjusted
        mean = max(self.level * self.weekdays[weekday] * covered, 0.3 * covered)
        if self.days > self.LEARNING_DAYS // 2:
            ratio = self._log_ratio(self.total, mean)
            self.recent.append(Day(self.day * DAY_MS, self.total, mean, ratio))
        self._weigh()
        self.adjusted.append(adjusted)
        if self.belief < 0.25:
            self._learn(weekday, covered, mean, adjusted)

    def _weigh(self) -> None:
        best = running = 0.0
        self.start = 0
        for lag in range(1, len(self.recent) + 1):
            running += self.recent[-lag].ratio
            if lag > 1 and running > best:
                best, self.start = running, len(self.recent) - lag
        self.belief = min(1.0, best / (2 * self.LIMIT)) if self.days > self.LEARNING_DAYS else 0.0
        self.days_down = self.days_down + 1 if self.belief >= 0.5 else 0
        if self.days_down > self.GIVE_UP_DAYS:
            self.level = sum(self.adjusted) / len(self.adjusted)
            self.recent.clear()
            self.days_down = 0

    def _log_ratio(self, total: float, mean: float) -> float:
        size = 1 / max(self.dispersion, 0.02)
        fallen = self.FALL_TO * mean
        ratio = total * math.log(fallen / mean) - (total + size) * math.log((size + fallen) / (size + mean))
        return max(-self.CLIP, min(self.CLIP, ratio))

    def _learn(self, weekday: int, covered: float, mean: float, adjusted: float) -> None:
        assert self.level is not None
        rate = max(self.RATE, 1 / self.days)
        excess = min(max((self.total - mean) ** 2 / mean - 1, 0.0) / mean, 4.0)
        self.dispersion += covered * rate * (excess - self.dispersion)
        self.level += covered * rate * (adjusted - self.level)
        if self.days > 1:
            share = self.total / covered / max(self.level, 0.3)
            self.weekdays[weekday] += covered * self.SHARE_RATE * (share - self.weekdays[weekday])
            average = sum(self.weekdays) / 7
            self.weekdays = [max(each / average, 0.05) for each in self.weekdays]


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
