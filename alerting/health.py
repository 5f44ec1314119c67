"""Customer health of one day, and what its decline against the own baseline means: score, baseline, level."""

from collections import deque
from statistics import median
from typing import Literal

import msgspec

from alerting.escalation import Audience
from alerting.service import ServiceScore
from alerting.usage import UsageScore

WEIGHTS = {"trade": 30, "interaction": 25, "service": 20, "finance": 15, "strategic": 10}
"""Five dimensions. Usage stands in for trade while orders are unknown; what is unknown is left out."""

Level = Literal["none", "blue", "yellow", "orange", "red"]
LEVELS: tuple[Level, ...] = ("none", "blue", "yellow", "orange", "red")
DECLINES_PCT = (0.0, 10.0, 15.0, 25.0, 35.0)
"""Decline against the own baseline from which each level counts."""
OWNERS: dict[Level, Audience] = {
    "blue": "account_manager",
    "yellow": "regional_manager",
    "orange": "sales_director",
    "red": "executive",
}
Cause = Literal["usage_falls", "devices_dark", "many_faults", "slow_repair", "combination"]
INTERVENTIONS: dict[Cause, str] = {
    "usage_falls": "application_training",
    "devices_dark": "site_visit",
    "many_faults": "engineer_visit",
    "slow_repair": "escalation_contact",
    "combination": "joint_recovery",
}

_COMBINATION = 10.0
"""Points that usage down, requests up and repairs slower take together, beyond what each takes."""
_DOWN_DAYS = 7
_DOWN_BY_PCT = 3.0


class Health(msgspec.Struct, frozen=True):
    """Health of one day."""

    health: float
    """0 to 100, over the known dimensions."""
    known_weight: float
    """Share of the weights that is known, in (0, 1]."""
    combination: bool
    cause: Cause
    """What takes the most points; of no meaning while nothing does."""


def health_of(usage: UsageScore | None, service: ServiceScore) -> Health:
    """Weigh what is known."""
    known = {"service": service.score} | ({"trade": usage.score} if usage else {})
    whole = sum(WEIGHTS[name] for name in known)
    health = sum(WEIGHTS[name] * score for name, score in known.items()) / whole
    combination = usage is not None and usage.score <= 90 and service.requests_excess > 1 and service.slower > 1.5
    if combination:
        health -= _COMBINATION
    return Health(max(0.0, health), whole / sum(WEIGHTS.values()), combination, _cause(usage, service, combination))


def _cause(usage: UsageScore | None, service: ServiceScore, combination: bool) -> Cause:
    if combination:
        return "combination"
    used_less = WEIGHTS["trade"] * (100 - usage.score) if usage else 0.0
    if usage and used_less >= WEIGHTS["service"] * (100 - service.score):
        return "devices_dark" if 2 * usage.dark >= usage.devices else "usage_falls"
    late = 5 * service.overdue + 10 * max(0.0, service.slower - 1)
    return "slow_repair" if late > 10 * max(0.0, service.requests_excess - 1) + 5 * service.repeats else "many_faults"


class Baseline:
    """What a customer's health usually is: the best of the weekly medians that are at least two weeks old.

    The best, and only old weeks, so that a slow decline does not become the measure of itself; medians, so that one
    good day does not. Half a year is remembered.
    """

    LEARNING_DAYS = 14
    FROZEN_DAYS = 14

    def __init__(self) -> None:
        self.days = 0
        self._week: list[float] = []
        self._weeks: deque[float] = deque(maxlen=26)
        self._fresh: deque[float] = deque(maxlen=self.FROZEN_DAYS // 7)

    def add(self, health: float) -> None:
        """Take in one day."""
        self.days += 1
        self._week.append(health)
        if len(self._week) == 7:
            if len(self._fresh) == self._fresh.maxlen:
                self._weeks.append(self._fresh[0])
            self._fresh.append(median(self._week))
            self._week = []

    @property
    def learning(self) -> bool:
        """Too little is known to say that anything has declined."""
        return self.days < self.LEARNING_DAYS

    @property
    def value(self) -> float:
        """The baseline; until the first week is old enough that week, and before that what is known so far."""
        known = list(self._weeks) or list(self._fresh)[:1] or self._week
        return max(known, default=100.0) if self._weeks or self._fresh else median(known or [100.0])


class Watch(msgspec.Struct):
    """The level with hysteresis: up after two days in a row, down only after a week clearly below."""

    level: int = 0
    yesterday: int = 0
    calm_days: int = 0
    calm_worst: int = 0

    def update(self, decline_pct: float) -> int:
        """The level after one more day."""
        today = max(index for index, least in enumerate(DECLINES_PCT) if decline_pct >= least or index == 0)
        held = min(today, self.yesterday)
        self.yesterday = today
        if held > self.level:
            self.level, self.calm_days, self.calm_worst = held, 0, 0
        elif self.level and decline_pct < DECLINES_PCT[self.level] - _DOWN_BY_PCT:
            self.calm_days += 1
            self.calm_worst = max(self.calm_worst, today)
            if self.calm_days >= _DOWN_DAYS:
                self.level, self.calm_days, self.calm_worst = self.calm_worst, 0, 0
        else:
            self.calm_days = self.calm_worst = 0
        return self.level
