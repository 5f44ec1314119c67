"""Alert threshold: how sure a detector must be, so that its false alerts stay within what people allow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from detectors.detector import Detector
from schema.catalogue import Allowance

VERSION = "alert_threshold/1"
DAY_MS = 86_400_000
MONTH_DAYS = 30
_MICRO = 1_000_000
"""Charges are counted in whole millionths: sums of whole numbers do not depend on their order."""


class Scale(msgspec.Struct, frozen=True):
    """On what scale a detector offers its candidates, and where its threshold begins."""

    start: float
    """Log odds at which it raises before anything is known."""
    probability: bool
    """The odds are those of an alert being true. Otherwise they are odds of surprise, log((1 - q) / q) for the chance q
    that nothing is wrong: they order the candidates, and each counts as false until people have said otherwise."""
    events: bool = False
    """Candidates come only when something happens; KEEP_MS without, or a whole day, ends an episode."""
    horizon_days: int = 0
    """What has not turned out true so many days after its end was false; 0 where only people can tell."""
    lowest: float = -3.0
    """Log odds from the start to the lowest threshold of the grid: above what is seen where nothing is."""


def surprise(chance: float) -> float:
    """Log odds of a candidate that has this chance of being seen although nothing is wrong; at most 40."""
    return 40.0 if chance <= 4e-18 else math.log1p(-min(chance, 1 - 1e-9)) - math.log(chance)


def log_odds(probability: float) -> float:
    """Log odds of a probability, within those of a millionth and its opposite."""
    p = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


def sigmoid(odds: float) -> float:
    """Probability of log odds."""
    return 1 / (1 + math.exp(-odds)) if odds > -700 else 0.0


SCALES = {
    "usage_drop": Scale(0.0, True),
    "sensor_anomaly": Scale(9.0, False),
    "level_shift": Scale(9.0, False, lowest=-2.0),
    "fault_rule": Scale(surprise(1 / 300), False, True, 14),
    "fault_pattern": Scale(surprise(1 / 10_000), False, True, 14),
}
"""Of the detectors that raise under a budget; failures have `detectors.announcement`, for time tells what came true.
Surprise begins at chances of 1 in 8,000 windows, at 1 in 300 days for rules (with 2.5 subsystems a false burst in four
months), at 1 in 10,000 days for patterns, which are a hint only. What codes foretell comes within two weeks or not at
all. Calm gauges reach the odds three below the start of shifts, and such an episode would hardly end."""
UNKNOWN = Scale(0.0, True)

Key = tuple[str, ...]
"""Device, subsystem, metric: whatever has one alert at a time."""


class _Episode(msgspec.Struct, gc=False):
    up: int
    """How many levels have an alert up: the lowest `up` ones."""
    low_ms: int
    """Since when the odds have been too low for some of them; -1 while they are not."""
    charge: int
    """Millionths of a false alert that it counts for, by its peak."""
    seen_ms: int
    raised: bool = False
    """It reached the threshold in use: people have heard of it."""
    judged: bool = False
    ended: int = -1
    """The day of the threshold on which it ended."""
    day: int = 0
    """The day of the threshold on which something of it was last seen."""


@dataclass(slots=True)
class _Day:
    """What a partition adds for a day, in whole numbers."""

    watched: int = 0
    onsets: list[int] = field(default_factory=list)
    charges: list[int] = field(default_factory=list)
    found_false: int = 0
    claimed_false: int = 0

    def numbers(self) -> list[int]:
        return [self.watched, self.found_false, self.claimed_false, *self.onsets, *self.charges]


class Threshold(Detector):
    """The threshold of one detector for one device model, from what each level of a grid would have raised.

    At each level of log odds an alert begins when a key's odds reach it and ends when they have been log 3 lower for
    KEEP_MS: the hysteresis of alerts. An alert that begins is charged 1 - p, p the highest probability that its episode
    has reached (1 for surprise). What people found teaches how far the charges are right: with `false` of the judged
    alerts wrong where their charges said `claimed`,

        correction = (JUDGED + false) / (JUDGED + claimed).

    A level's rate of false alerts a device-month is then, with a Gamma prior worth PRIOR false alerts that says SHARE
    of the budget is used at the start and e times fewer alerts come per unit of log odds,

        rate(g) = (correction x charges(g) + PRIOR exp(start - g)) / (months + PRIOR / (SHARE x budget)).

    The threshold seeks the lowest level whose rate keeps the budget, but none where an alert is worth less than it
    costs: correction x (1 - p) <= miss / (miss + false). It moves by a level a day, and down only where EASE of the
    budget would do.

    * Range: log odds, start + [lowest, lowest + STEP x (LEVELS - 1)]. Warm-up: none, the prior holds.
    * Memory: two numbers a level, an episode for each key that has one or had one in CLAIM_DAYS.
    * Source: Provost and Fawcett (2001), Robust classification for imprecise environments, Machine Learning 42 (costs);
      the correction is the standardised ratio of events found to events expected of epidemiology, with its Gamma prior.
    """

    STEP = 0.25
    """Log odds; so a threshold takes four days for a factor of e in alerts."""
    LEVELS = 33
    """From a twentieth of the start's odds, as a rule, to 150 times them."""
    NUMBERS = 3 + 2 * LEVELS
    """Of a day, see `_Day.numbers`."""
    RESOLVE = math.log(3)
    """On the scale of scores: raised at 0.5, resolved below 0.25."""
    KEEP_MS = DAY_MS
    PRIOR = 3.0
    SHARE = 0.7
    """A detector at its start is believed to keep the budget with room to spare."""
    JUDGED = 4.0
    """False alerts that people must have judged for the correction to rest half on them."""
    EASE = 0.8
    FADE = 0.5 ** (1 / 180)
    """What a day leaves of what is known: half a year counts half."""
    CLAIM_DAYS = 60
    """What nobody has judged within two months of its end is not judged any more."""

    def __init__(self, scale: Scale | None = None) -> None:
        self.scale = scale = UNKNOWN if scale is None else scale
        self.level = round(-self.scale.lowest / self.STEP)
        self.value = scale.start
        """Log odds at which to raise."""
        self.months = self.false = self.claimed = 0.0
        self.onsets = [0.0] * self.LEVELS
        self.charges = [0.0] * self.LEVELS
        self.episodes: dict[Key, _Episode] = {}
        self.over: dict[Key, _Episode] = {}
        """Episodes that people have heard of and may still judge."""
        self.days = 0
        self.day = self._new_day()

    def begin(self, allowance: Allowance) -> None:
        """Begin where an alert is worth its cost."""
        self.level = max(self.level, self.floor(allowance))
        self.value = self.odds_of(self.level)

    def _new_day(self) -> _Day:
        return _Day(onsets=[0] * self.LEVELS, charges=[0] * self.LEVELS)

    def odds_of(self, level: int) -> float:
        """Log odds of a level of the grid."""
        return self.scale.start + self.scale.lowest + self.STEP * level

    def observe(self, key: Key, at_ms: int, odds: float) -> float:
        """Log odds of a key's candidate, or of its not being one, at a time (rising for a key).

        Returns:
            The score in [0, 1], 0.5 at the threshold; 0 for NaN, which is no judgement and changes nothing.
        """
        if odds != odds:
            return 0.0
        level = self._reached(odds)
        episode = self.episodes.get(key)
        if episode is not None and self.scale.events and at_ms - episode.seen_ms >= self.KEEP_MS:
            self._end(key)
            episode = None
        if episode is not None:
            episode.seen_ms, episode.day = at_ms, self.days
            self._go_on(key, episode, at_ms, odds, level)
        elif level:
            episode = self.episodes[key] = _Episode(0, -1, _MICRO, at_ms, day=self.days)
            self._rise(episode, odds, level)
        return sigmoid(odds - self.value)

    def _reached(self, odds: float) -> int:
        level = (odds - self.scale.start - self.scale.lowest) / self.STEP
        return 0 if level < 0 else min(self.LEVELS, int(min(level, self.LEVELS)) + 1)

    def _go_on(self, key: Key, episode: _Episode, at_ms: int, odds: float, level: int) -> None:
        still = self._reached(odds + self.RESOLVE)
        if still >= episode.up:
            episode.low_ms = -1
        elif episode.low_ms < 0:
            episode.low_ms = at_ms
        elif at_ms - episode.low_ms >= self.KEEP_MS:
            episode.up, episode.low_ms = still, -1
            if not still:
                self._end(key)
            return
        self._rise(episode, odds, level)

    def _end(self, key: Key) -> None:
        episode = self.episodes.pop(key)
        episode.ended = self.days
        if episode.raised and not episode.judged:
            self.over[key] = episode

    def _rise(self, episode: _Episode, odds: float, level: int) -> None:
        before, day = episode.up, self.day
        if self.scale.probability:
            charge = round(_MICRO * sigmoid(-odds))
            if charge < episode.charge:
                for each in range(before):
                    day.charges[each] += charge - episode.charge
                episode.charge = charge
        for each in range(before, level):
            day.onsets[each] += 1
            day.charges[each] += episode.charge
        episode.up = max(before, level)
        episode.raised = episode.raised or level > self.level

    def judged(self, key: Key, true: bool) -> None:
        """People, or time, have told whether the alert of a key was true; once for each alert."""
        episode = self.over.pop(key, None) or self.episodes.get(key)
        if episode is None or not episode.raised or episode.judged:
            return
        episode.judged = True
        self.day.claimed_false += episode.charge
        self.day.found_false += 0 if true else _MICRO

    def close_day(self) -> list[int]:
        """What the day adds, in whole numbers; the next one begins."""
        numbers, self.day = self.day.numbers(), self._new_day()
        return numbers

    def learn(self, numbers: Sequence[int] | None, allowance: Allowance) -> None:
        """Take in the sum of what all partitions add for a day; the threshold moves by a level at most."""
        device_days, found_false, claimed_false, *levels = numbers or [0] * self.NUMBERS
        self.days += 1
        self.months = self.FADE * self.months + device_days / MONTH_DAYS
        self.false = self.FADE * self.false + found_false / _MICRO
        self.claimed = self.FADE * self.claimed + claimed_false / _MICRO
        for each in range(self.LEVELS):
            self.onsets[each] = self.FADE * self.onsets[each] + levels[each]
            self.charges[each] = self.FADE * self.charges[each] + levels[self.LEVELS + each] / _MICRO
        if self.scale.events:  # nobody says that nothing happens: a whole day without ends what is left
            for key in sorted(key for key, each in self.episodes.items() if each.day <= self.days - 2):
                self._end(key)
        kept_days = self.scale.horizon_days or self.CLAIM_DAYS
        for key in sorted(key for key, each in self.over.items() if each.ended + kept_days <= self.days):
            if self.scale.horizon_days:
                self.judged(key, true=False)
            self.over.pop(key, None)
        budget, floor = allowance.false_alerts_per_device_month, self.floor(allowance)
        if self.level < floor or self.rate(self.level, allowance) > budget * (1 + 1e-9):
            self.level = min(self.level + 1, self.LEVELS - 1)
        elif self.level > floor and self.rate(self.level - 1, allowance) <= self.EASE * budget:
            self.level -= 1
        self.value = self.odds_of(self.level)

    @property
    def correction(self) -> float:
        """By how much charges are multiplied, from what people found."""
        return (self.JUDGED + self.false) / (self.JUDGED + self.claimed)

    def rate(self, level: int, allowance: Allowance) -> float:
        """Expected false alerts a device-month at a level."""
        budget = allowance.false_alerts_per_device_month
        prior = self.PRIOR * math.exp(self.scale.start - self.odds_of(level))
        false = min(self.correction * max(self.charges[level], 0.0), self.onsets[level])
        return (false + prior) / (self.months + self.PRIOR / (self.SHARE * budget))

    def floor(self, allowance: Allowance) -> int:
        """The lowest level at which an alert is worth its cost; 0 for surprise, which is no probability."""
        if not self.scale.probability:
            return 0
        doubt = allowance.cost_of_miss / (allowance.cost_of_miss + allowance.cost_of_false) / self.correction
        levels = range(self.LEVELS)
        return next((each for each in levels if sigmoid(-self.odds_of(each)) <= doubt + 1e-9), self.LEVELS - 1)

    def metrics(self, allowance: Allowance) -> dict[str, float]:
        """What the threshold is now, and why."""
        return {
            "threshold": self.value,
            "probability": sigmoid(self.value) if self.scale.probability else math.nan,
            "least_worth": self.odds_of(self.floor(allowance)) if self.scale.probability else math.nan,
            "expected_false": self.rate(self.level, allowance),
            "budget": allowance.false_alerts_per_device_month,
            "device_months": self.months,
            "correction": self.correction,
        }
