"""The week of one device: what each weekday is worth, and how its hours share a day's use.

All is learnt online, a day at a time, by as much as the day was believed to be ordinary. An hour that is never fed has
no share, so daily series are the same to it. Days that look like a rest day by their hours (a holiday, bridge days, the
weeks around the year's end) are told from days of less use: each working day is taken for a blend of its own weekday
and of the two weekdays of least use, the probability of each blend follows from the day's hours and from the day
before, and what the day is expected to bring is that of the blend. Working days without hours to tell stay ordinary but
for a small chance.
"""

from math import exp, log

import numpy as np

from detectors.usage_counts import Floats, Singles, log_hours, log_mixed
from schema.compiled import compiled

POOLED = 30.0
"""Events after which a weekday's own hours weigh as much as the hours of all days."""
HOUR_MEMORY, POOL_MEMORY = 0.9, 0.98
"""What a day leaves of the weight of its weekday's hours, and of the hours of all days: ten visits, fifty days."""
WATCHED = 0.05
"""Events as which a day of watching an hour counts, so that quiet hours are no wonder."""
FAITHFUL = 40.0
"""Events that repeat a day's hours faithfully; what is beyond moves together (a queue, a clinic, a shower)."""
FAITHFUL_IN_SPELL = 10.0
"""The same for days of bad spells, whose hours are often others as well: closed at noon, open late."""
BLENDS = 4
"""Steps from an ordinary day to a rest day."""
REST_BEGINS, REST_STAYS = 0.03, 0.7
"""Probabilities that a working day rests in part after one that did not, and after one that did."""
LOWER = 0.97
"""A rest day has at most this share of a working day's use, else there is nothing to tell."""
HOURS_DIFFER = 0.1
"""Share of a day's use that must lie in other hours on a rest day, else hours tell nothing."""
RHYTHM_DAYS = 14
"""Days after which rest days are told: each weekday is known twice."""
FLOOR = -6.0
"""Log of what a weekday is worth at least: a closed Sunday."""
WEEKDAY_WALK = 0.03
"""Standard deviation of the change of a weekday's worth from week to week."""


@compiled
def share_hours(hours: Floats, pooled: Singles, watched: Singles, shares: Floats) -> None:
    """Fill `shares` (24,) of the hours in a day's use, sum 1, from the weekday's own `hours` and those of all days."""
    events, total = 1e-9, 0.0
    for hour in range(24):
        events += pooled[hour] + WATCHED * watched[hour]
    for hour in range(24):
        common = (POOLED * pooled[hour] + WATCHED * watched[hour]) / events
        shares[hour] = hours[hour] + common + 1e-12
        total += shares[hour]
    shares /= total


@compiled
def rest_days(weekdays: Floats) -> tuple[int, int]:
    """The two weekdays of least use, the least first; of equals the earlier."""
    first, second = int(np.argmin(weekdays)), -1
    for weekday in range(7):
        if weekday != first and (second < 0 or weekdays[weekday] < weekdays[second]):
            second = weekday
    return first, second


@compiled
def look(
    weekday: int,
    weekdays: Floats,
    hours: Floats,
    pooled: Singles,
    watched: Singles,
    counts: Floats,
    exposure: Floats,
    rested: float,
    knows_rest: bool,
) -> tuple[float, float, float, float, float, float, float]:
    """Look at the hours of a day: what it is expected to bring as a share of the level, and what kind of day it was.

    `weekdays` (7,) are log worths, `hours` (7, 24), `pooled` and `watched` (24,) what is known of hours; `counts` and
    `exposure` (24,) are the day's; `rested` is the probability that the working day before rested. Returns the covered
    share of an ordinary day; the factor expected of the day and the log variance of that; the factor of a rest day (0
    if there is nothing to tell) and the log likelihood of its hours against an ordinary day's; the same of a bad
    spell's hours; the probability that the day rests.
    """
    shares, resting, mixed = np.empty(24), np.empty(24), np.empty(24)
    share_hours(hours[weekday], pooled, watched, shares)
    shares *= exposure
    covered = min(1.0, shares.sum())
    worth = exp(weekdays[weekday])
    if covered < 1e-6:
        return 0.0, worth, 0.0, 0.0, 0.0, 0.0, rested
    shares /= shares.sum()
    total = counts.sum()
    ordinary = log_hours(counts, shares, FAITHFUL) if total > 0 else 0.0
    in_spell = 0.0
    if total > 0 and knows_rest:
        in_spell = log_mixed(log_hours(counts, shares, FAITHFUL_IN_SPELL) - ordinary, 0.0)
    factor = worth * covered
    first, second = rest_days(weekdays)
    rest_worth = 0.5 * (exp(weekdays[first]) + exp(weekdays[second]))
    if not knows_rest or weekday in (first, second) or rest_worth > LOWER * worth:
        return covered, factor, 0.0, 0.0, 0.0, in_spell, rested
    share_hours(hours[first] + hours[second], pooled, watched, resting)
    resting *= exposure
    rest_factor = rest_worth * resting.sum()
    resting /= resting.sum()
    known = hours[first].sum() + hours[second].sum() >= POOLED
    if not known or 0.5 * np.abs(shares - resting).sum() < HOURS_DIFFER:
        return covered, factor, 0.0, rest_factor, 0.0, in_spell, 0.0
    begins = REST_BEGINS * (1 - rested) + REST_STAYS * rested
    told = np.empty(BLENDS + 1)
    rest_hours = 0.0
    for step in range(BLENDS + 1):
        blend = step / BLENDS
        told[step] = log(begins / BLENDS) if step else log(1 - begins)
        if step and total > 0:
            mixed[:] = (1 - blend) * factor * shares + blend * rest_factor * resting
            mixed /= mixed.sum()
            rest_hours = log_hours(counts, mixed, FAITHFUL) - ordinary
            told[step] += rest_hours
    told = np.exp(told - told.max())
    told /= told.sum()
    mean = square = 0.0
    for step in range(BLENDS + 1):
        blend = step / BLENDS
        change = log((1 - blend) + blend * rest_factor / factor)
        mean += told[step] * change
        square += told[step] * change * change
    return covered, factor * exp(mean), square - mean * mean, rest_factor, rest_hours, in_spell, 1 - told[0]


@compiled
def learn(
    weekday: int,
    weekdays: Floats,
    doubts: Floats,
    hours: Floats,
    pooled: Singles,
    watched: Singles,
    counts: Floats,
    exposure: Floats,
    shift: float,
    variance: float,
    weight: float,
    hours_weight: float,
) -> float:
    """Learn a day's weekday by `weight`, its probability of having been ordinary, and its hours by `hours_weight`.

    `doubts` (7,) are the variances of `weekdays`; `shift` is how far off the day was as a log, `variance` what that was
    expected to be. Weekdays are worth 0 on average: returns what the level takes over from them.
    """
    gain = doubts[weekday] / variance
    total = counts.sum()
    told = total / (total + 1 / variance)
    doubts[weekday] += WEEKDAY_WALK * WEEKDAY_WALK - weight * told * gain * doubts[weekday]
    weekdays[weekday] = max(FLOOR, weekdays[weekday] + weight * gain * shift)
    for hour in range(24):
        if exposure[hour] > 0:
            keeps = 1 - (1 - HOUR_MEMORY) * hours_weight
            hours[weekday, hour] = hours[weekday, hour] * keeps + hours_weight * counts[hour]
            keeps = 1 - (1 - POOL_MEMORY) * hours_weight
            pooled[hour] = pooled[hour] * keeps + hours_weight * counts[hour]
            watched[hour] = watched[hour] * keeps + hours_weight * exposure[hour]
    average = weekdays.mean()
    weekdays -= average
    return float(average)
