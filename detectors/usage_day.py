"""A day of one device: its hours are taken in, and when it is over it is judged and learnt, all in compiled code."""

from math import exp, log

import numpy as np

from detectors.usage_counts import Floats
from detectors.usage_filter import (
    AGES,
    IN_SPELL,
    LAST_DAYS,
    LASTING,
    LEVEL,
    OWN,
    RAMPS,
    RISES,
    SHIFT,
    STEPS,
    STOPS,
    VAR_LEVEL,
    VAR_RESIDUAL,
    VARIANCE,
    advance,
    describe,
    left_at,
    settle,
)
from detectors.usage_judgement import Shape
from detectors.usage_memory import (
    AGO,
    COUNTS,
    DOUBTS,
    EXPOSURE,
    FACTORS,
    LEVEL_NOW,
    POOLED_HOURS,
    RESTED,
    SPREAD,
    USED,
    USUAL,
    WATCHED_DAYS,
    WEEKDAYS,
    WHOLE,
    Bytes,
    doubles,
    hours_of,
    keep_day,
    keep_hours,
    packed,
    shorts,
    singles,
    unpacked_a_day_on,
)
from detectors.usage_rhythm import learn, look, share_hours
from schema.compiled import compiled

HOLD = 0.2
"""A belief that has reached 0.5 does not go below while at least so much would be left."""
SUSPECT = 0.1
"""Belief from which on a fall is described."""
FREEZE = 0.3
"""Belief from which on the week is not learnt at all."""
FIRST_VARIANCE = 0.5
"""Of the log level after the first day: a first day may be half or double of what follows."""
SPREAD_DAYS = 10
"""Days as which the first guess of the variance of days counts."""
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

BELIEF, EXPECTED, OBSERVED, SINCE, SHAPE, CERTAINTY, FALL, SAID = range(8)
"""Places of what `judge` says: SINCE in days before the day, SHAPE as a place in SHAPES."""
SHAPES: tuple[Shape, ...] = ("step", "ramp", "stop", "none")
_PARTS = np.array([[STEPS.start, STEPS.stop], [RAMPS.start, RAMPS.stop], [STOPS.start, STOPS.stop]])


@compiled
def begin_day(memory: Bytes) -> None:
    """Begin to add up a day."""
    singles(memory)[COUNTS] = 0.0
    shorts(memory)[EXPOSURE] = 0


@compiled
def add_hour(memory: Bytes, hour: int, count: float, watched: float) -> bool:
    """Add use in an hour that was watched for a part in [0, 1]; tell whether all hours usually watched have come."""
    counts, exposure, days = singles(memory)[COUNTS], shorts(memory)[EXPOSURE], singles(memory)[WATCHED_DAYS]
    if exposure[hour] == WHOLE:  # it comes again
        return False
    counts[hour] += count
    exposure[hour] = min(WHOLE, int(exposure[hour]) + int(np.ceil(WHOLE * watched)))
    for other in range(24):
        if exposure[other] == 0 and days[other] > 0:
            return False
    return bool(exposure[hour] > 0)


@compiled
def shares_of(memory: Bytes, weekday: int) -> Floats:
    """Return the shares (24,) of the hours in a weekday's use."""
    hours, shares, single = np.empty(24), np.empty(24), singles(memory)
    hours_of(memory, weekday, hours)
    share_hours(hours, single[POOLED_HOURS], single[WATCHED_DAYS], shares)
    return shares


@compiled
def usual_hour(memory: Bytes, weekday: int, hour: int) -> float:
    """Usual use of an hour."""
    double = doubles(memory)
    return exp(double[LEVEL_NOW] + double[WEEKDAYS][weekday]) * shares_of(memory, weekday)[hour]  # type: ignore[no-any-return]


@compiled
def close_day(
    memory: Bytes,
    written: Bytes,
    weekday: int,
    days: int,
    gap_days: int,
    leans: bool,
    opens: bool,
    knows_rest: bool,
    was: float,
    said: Floats,
) -> Bytes:
    """Judge and learn the day that was added up; return the hypotheses as they are then, nothing if it tells nothing.

    `written` are the hypotheses before, `days` how many days were judged, the last of them `gap_days` ago; `leans`: it
    began with a prior; `opens`: falls may begin; `was` is the belief before. Fills `said` (SAID,).
    """
    double, single = doubles(memory), singles(memory)
    usual, weekdays, doubts = double[USUAL], double[WEEKDAYS], double[DOUBTS]
    pooled, watched = single[POOLED_HOURS], single[WATCHED_DAYS]
    counts, exposure = single[COUNTS].astype(np.float64), shorts(memory)[EXPOSURE] / WHOLE
    total = counts.sum()
    if days == 0 and not leans:
        watched[:] = exposure
    hours = np.empty((7, 24))
    for each in range(7):
        hours_of(memory, each, hours[each])
    covered, factor, doubt, rest_factor, rest_hours, spell_hours, rests = look(
        weekday, weekdays, hours, pooled, watched, counts, exposure, double[RESTED], knows_rest
    )
    if covered < LEAST_COVERED:
        return written[:0]
    if days == 0:
        usual[VAR_RESIDUAL] = LASTING * double[SPREAD]
        if not leans:
            usual[LEVEL], usual[VAR_LEVEL] = log(max(total, LEAST_LEVEL)), FIRST_VARIANCE
    double[RESTED] = rests
    rate, unsure = exp(usual[LEVEL]) * factor, doubts[weekday] + doubt + usual[VAR_LEVEL]
    hypotheses, weights, told = unpacked_a_day_on(written, usual[LEVEL]), np.empty((AGES, RISES.stop)), np.empty(4)
    belief = advance(
        usual, hypotheses, weights, opens, gap_days, double[SPREAD],
        total, factor, rest_factor, rest_hours, spell_hours, doubt, doubts[weekday], told,
    )  # fmt: skip
    keep_day(memory, gap_days, total, factor)
    used, factors = single[USED].astype(np.float64), single[FACTORS].astype(np.float64)
    if settle(usual, hypotheses, weights, used[:LAST_DAYS].sum(), factors[:LAST_DAYS].sum()):
        belief = 0.0
    if was >= 0.5 and HOLD <= belief < 0.5:
        belief = 0.5
    off = max(-MOST_OFF, min(MOST_OFF, total / rate - 1)) if rate > 0 else 0.0
    gain = max(SPREAD_RATE, 1 / (days + 1 + SPREAD_DAYS)) * (1 - belief) * (told[OWN] + told[IN_SPELL])
    double[SPREAD] += gain * (off * off - 1 / (rate + LEAST_LEVEL) - unsure - double[SPREAD])
    double[SPREAD] = max(LEAST_SPREAD, double[SPREAD])
    trust = max(0.0, 1 - belief / FREEZE) * (1 - rests)  # a spell's hours are learnt: else new ones never were
    moved = learn(
        weekday, weekdays, doubts, hours, pooled, watched, counts, exposure,
        told[SHIFT], told[VARIANCE], trust * told[OWN], trust,
    )  # fmt: skip
    keep_hours(memory, weekday, hours[weekday])
    usual[LEVEL] += moved
    hypotheses[:, :, LEVEL] += moved
    double[LEVEL_NOW] = (usual[LEVEL] + (weights * hypotheses[:, :, LEVEL]).sum()) / (1 + weights.sum())
    said[:], said[BELIEF], said[SHAPE] = 0.0, belief, len(SHAPES) - 1
    known = min(7, days + 1)
    level = double[LEVEL_NOW]
    if belief >= SUSPECT:
        falls = weights[:, : RISES.start]
        level = (falls * hypotheses[:, : RISES.start, LEVEL]).sum() / falls.sum()
        known = min(days + 1, AGES)
        known = describe_fall(used[:known], exp(level) * factors[:known], double[SPREAD], said)
    said[EXPECTED], said[OBSERVED] = exp(level) * factors[:known].sum(), used[:known].sum()
    said[SINCE] = shorts(memory)[AGO][known - 1]
    return packed(hypotheses, usual[LEVEL])


@compiled
def describe_fall(used: Floats, usual: Floats, spread: float, said: Floats) -> int:
    """Say of a fall its likeliest shape, how sure that is and the share it took away; return how many days it lasts.

    `used` and `usual` (D,) are what was used and is usual on the last days, the newest first.
    """
    odds = np.empty((AGES, RISES.stop))
    describe(used, usual, spread, odds)
    weights = np.exp(odds - odds.max())
    weights /= weights.sum()
    for shape in range(3):
        certainty = weights[:, _PARTS[shape, 0] : _PARTS[shape, 1]].sum()
        if certainty > said[CERTAINTY]:
            said[SHAPE], said[CERTAINTY] = shape, certainty
    part = weights[:, _PARTS[int(said[SHAPE]), 0] : _PARTS[int(said[SHAPE]), 1]]
    lasted, so_far = 0, 0.0
    for age in range(AGES):
        so_far += part[age].sum()
        if so_far < 0.5 * said[CERTAINTY]:
            lasted += 1
        for k in range(RISES.start):
            said[FALL] += weights[age, k] * (1 - left_at(k, age))
    return min(lasted + 1, len(used))
