"""A Bayesian filter over what may have happened to a device's use: nothing, or a fall or rise of a size on a day.

A day's log rate is level + weekday + residual (+ log of what the hypothesis leaves). The level walks at random, slowly;
the residual is autoregressive (weather, leave and epidemics last for days) beside a noise of single days. A count is
then negative binomial. Days may belong to a bad spell, in which any use below the usual is as likely, or look like a
rest day. Under each hypothesis level, residual and spell are filtered on their own, by moments; their covariance is
that of "nothing happened", for it hardly depends on counts. Weights are log odds against "nothing happened", and what
one day may add to them is bounded: a fall must be told by several days, however certain the model believes itself to
be.

Sources: Smith and Miller (1986), A non-Gaussian state space model, J. R. Stat. Soc. B 48(1), for gamma rates of counts;
Adams and MacKay (2007), Bayesian online changepoint detection, arXiv:0710.3742, for hypotheses by onset;
Huber (1965), A robust version of the probability ratio test, Ann. Math. Statist. 36(6), for bounded evidence.
"""

from math import exp, log, sqrt
from typing import NamedTuple

import numpy as np

from detectors.usage_counts import LEAST, Floats, any_share, log_count, log_ways
from schema.compiled import compiled, inlined

AGES = 30
"""Onsets looked at: so many judged days back. A fall that is older has become usual."""
LEFT = np.array([0.02, 0.25, 0.45, 0.6, 0.73, 0.5, 0.2, 1.35])
"""What each hypothesis leaves of usual, in the end: a stop, steps, ramps, and a rise."""
RAMP_DAYS = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 28.0, 28.0, 0.0])
"""Over how many days it comes; 0 is at once."""
PRIOR = np.array([1.0, 0.8, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5]) / 6.8
STOPS, STEPS, RAMPS, RISES = slice(0, 1), slice(1, 5), slice(5, 7), slice(7, 8)
"""Which hypotheses are of which shape."""
HYPOTHESES = len(LEFT)

ODDS, LEVEL, RESIDUAL, SPELL = 0, 1, 2, 3
"""Columns of a hypothesis: log odds; means of level and residual, as logs; probability of being in a bad spell."""
VAR_LEVEL, COVARIANCE, VAR_RESIDUAL = 4, 5, 6
"""Further columns of "nothing happened"."""
DEAD = -13.0
"""Log odds below which a hypothesis is not followed any more."""

HAZARD = 0.01
"""Probability that something begins on a day."""
MOST_FOR, MOST_AGAINST, MOST_FOR_STOP = 0.7, 1.05, 3.0
"""Nats that one day may add to a hypothesis, and take; to a stop it may add more, for hardly anything looks like it."""
MOST_ODDS, MOST_ODDS_STOP = 50.0, 15.0
"""Log odds that a hypothesis has at most. A step of AGES days hardly has 15; a stop had it within eight days and would
go on, so once use is back, it would take as many days as it was long to see that."""
WALK = 0.003
"""Standard deviation of the level's step from day to day: 6 % a year by itself, seasons by what the days say."""
MEMORY = 0.5
"""Correlation of the residual with that of the day before."""
LASTING = 0.4
"""Share of the days' variance that is in the residual; the rest is noise of single days."""
SPELL_BEGINS, SPELL_STAYS = 0.1, 0.55
"""Bad spells begin every ten days and last two days on average."""
REST = 0.01
"""Probability that a working day's use is that of a rest day, whatever its hours say."""
BUSY = 0.01
"""Probability of a day of any use up to four times the usual."""
INDEPENDENT = 0.5
"""Share of what a day says that the days before have not said."""
RISE_DAYS = 14
"""Judged days after which a rise is believed to stay."""
LAST_DAYS = 3
"""Judged days that must still be nearer to what a fall has left than to usual for it to be believed: else use is back,
and the fall is only not forgotten yet."""

OWN, IN_SPELL, SHIFT, VARIANCE = 0, 1, 2, 3
"""Places of what `weigh` tells of the day: probability that it was ordinary, that it belonged to a bad spell; how far
off it was as a log, and the variance of that before it was seen."""


class Day(NamedTuple):
    """What is the same of a day for all hypotheses."""

    used: float
    factor: float
    """The day's share of the level."""
    rest_factor: float
    """That of a rest day; 0 if it is one or there is none."""
    rest_hours: float
    """Log likelihood of the day's hours on a rest day, less `most`."""
    own_hours: float
    """Likelihoods of the day's hours on an ordinary day and in a bad spell, the greater of them 1."""
    spell_hours: float
    most: float
    """Log of what these two were divided by."""
    variance: float
    """Of the day's log rate, before it was seen; `doubt`: what the weekday's worth has of it."""
    doubt: float
    ways: float
    """`log_ways` of what was used."""


@inlined
def weigh(state: Floats, left: float, day: Day, told: Floats) -> float:
    """Take a day's count into level, residual and spell of one hypothesis; return the log likelihood of the day.

    `state` (7,) has the columns of "nothing happened". Fills `told` (4,).
    """
    to_level = state[VAR_LEVEL] + state[COVARIANCE]
    to_residual = state[COVARIANCE] + state[VAR_RESIDUAL]
    size = 1 / day.variance
    rate = exp(state[LEVEL] + state[RESIDUAL]) * left
    mean = rate * day.factor + LEAST
    in_spell = state[SPELL] * SPELL_STAYS + (1 - state[SPELL]) * SPELL_BEGINS
    ordinary = (1 - in_spell) * (1 - BUSY)
    own = ordinary * day.own_hours * exp(log_count(day.used, mean, size, day.ways))
    spell = in_spell * (1 - BUSY) * any_share(day.used, mean) * day.spell_hours
    busy = BUSY * any_share(day.used, 4 * mean) * day.own_hours
    rest, most, moved_by_rest = 0.0, day.most, 0.0
    if day.rest_factor > 0:
        rest_mean = rate * day.rest_factor + LEAST
        log_rest = log_count(day.used, rest_mean, size, day.ways) + day.rest_hours
        own, rest = (1 - REST) * own, REST * ordinary * exp(min(0.0, log_rest))
        if log_rest > 0:
            less = exp(-log_rest)
            own, spell, busy, most = own * less, spell * less, busy * less, most + log_rest
        moved_by_rest = rest * log((size + day.used) / (size + rest_mean))
    everything = own + spell + busy + rest
    shift = log((size + day.used) / (size + mean))
    moved = (own * shift + moved_by_rest) / everything / day.variance
    state[LEVEL] += to_level * moved
    state[RESIDUAL] += to_residual * moved
    certain = day.variance - day.doubt
    known = (own + rest) / everything * day.used / (1 + day.used * certain)
    state[VAR_LEVEL] -= to_level * to_level * known
    state[COVARIANCE] -= to_level * to_residual * known
    state[VAR_RESIDUAL] -= to_residual * to_residual * known
    state[SPELL] = spell / everything
    told[OWN], told[IN_SPELL], told[SHIFT], told[VARIANCE] = own / everything, state[SPELL], shift, day.variance
    return most + log(everything)


@inlined
def left_at(hypothesis: int, age: int) -> float:
    """Share of usual that a hypothesis leaves on its day `age`, counted from 0."""
    if RAMP_DAYS[hypothesis] == 0:
        return LEFT[hypothesis]  # type: ignore[no-any-return]
    return 1 - (1 - LEFT[hypothesis]) * min(1.0, (age + 0.5) / RAMP_DAYS[hypothesis])  # type: ignore[no-any-return]


@compiled
def advance(
    usual: Floats,
    hypotheses: Floats,
    weights: Floats,
    opens: bool,
    gap_days: int,
    spread: float,
    count: float,
    factor: float,
    rest_factor: float,
    rest_hours: float,
    spell_hours: float,
    variance: float,
    doubt: float,
    told: Floats,
) -> float:
    """Take a day into all hypotheses; return the probability that usage is down.

    `usual` (7,) is "nothing happened", `hypotheses` (AGES, HYPOTHESES, 4) what may have begun, this day first, of
    which nothing is known yet; `weights` (AGES, HYPOTHESES) are filled with their odds; `opens`: something may begin;
    `gap_days` since the last judged day; `spread` is the variance of days. Of the day: its count and share of the
    level; share of a rest day (0 if it is one or there is none); log likelihoods of its hours on a rest day and in a
    bad spell against an ordinary day's; the variance of its share as a log, and the weekday's. Fills `told` (4,): how
    the day was, if nothing has happened.
    """
    for k in range(HYPOTHESES):
        hypotheses[0, k, ODDS] = log(HAZARD * PRIOR[k] * min(1.0, factor)) if opens else DEAD
        hypotheses[0, k, LEVEL], hypotheses[0, k, RESIDUAL] = usual[LEVEL], usual[RESIDUAL]
        hypotheses[0, k, SPELL] = usual[SPELL]
    kept = MEMORY**gap_days
    usual[VAR_LEVEL] += WALK * WALK * gap_days
    usual[RESIDUAL] *= kept
    usual[COVARIANCE] *= kept
    usual[VAR_RESIDUAL] = kept * kept * usual[VAR_RESIDUAL] + (1 - kept * kept) * LASTING * spread
    before = usual.copy()
    total = usual[VAR_LEVEL] + 2 * usual[COVARIANCE] + usual[VAR_RESIDUAL] + (1 - LASTING) * spread + variance + doubt
    most = max(0.0, spell_hours)
    day = Day(
        count, factor, rest_factor, rest_hours - most, exp(-most), exp(spell_hours - most), most,
        total, doubt, log_ways(count, 1 / total),
    )  # fmt: skip
    nothing = weigh(usual, 1.0, day, told)
    state, ignored = np.empty(7), np.empty(4)
    down, up = 0.0, 0.0
    for age in range(AGES):
        for k in range(HYPOTHESES):
            weights[age, k] = 0.0
            if hypotheses[age, k, ODDS] <= DEAD:
                continue
            state[:] = before
            state[LEVEL], state[SPELL] = hypotheses[age, k, LEVEL], hypotheses[age, k, SPELL]
            state[RESIDUAL] = hypotheses[age, k, RESIDUAL] * kept
            gain = weigh(state, left_at(k, age), day, ignored) - nothing
            bound = MOST_FOR_STOP if k == 0 else MOST_FOR
            gain = max(-MOST_AGAINST * bound / MOST_FOR, min(bound, gain))
            odds = min(hypotheses[age, k, ODDS] + gain, MOST_ODDS_STOP if k == 0 else MOST_ODDS)
            hypotheses[age, k, ODDS], hypotheses[age, k, LEVEL] = odds, state[LEVEL]
            hypotheses[age, k, RESIDUAL], hypotheses[age, k, SPELL] = state[RESIDUAL], state[SPELL]
            if odds > DEAD:
                weights[age, k] = exp(odds)
            if LEFT[k] < 1:
                down += weights[age, k]
            else:
                up += weights[age, k]
    return down / (1 + down + up)


@compiled
def settle(usual: Floats, hypotheses: Floats, weights: Floats, used: float, share: float) -> bool:
    """Believe for good what has lasted long enough: its level becomes usual and all hypotheses end; tell whether.

    `used` and `share` are use and share of the level of the last LAST_DAYS judged days.
    """
    everything = 1 + weights.sum()
    for age in range(RISE_DAYS, AGES):
        weight, best = 0.0, -1
        for k in range(HYPOTHESES):
            if (LEFT[k] > 1 or age == AGES - 1) and weights[age, k] > 0:
                weight += weights[age, k]
                if best < 0 or weights[age, k] > weights[age, best]:
                    best = k
        if weight > (0.3 if age < AGES - 1 else 0.5) * everything:
            left, level = left_at(best, age), hypotheses[age, best, LEVEL]
            if left < 1 and used > sqrt(left) * exp(level) * share:
                continue
            usual[LEVEL] = level + log(left)
            usual[RESIDUAL], usual[SPELL] = hypotheses[age, best, RESIDUAL], hypotheses[age, best, SPELL]
            usual[VAR_LEVEL] += 0.02
            hypotheses[:, :, ODDS] = DEAD
            weights[:] = 0.0
            return True
    return False


@compiled
def describe(counts: Floats, means: Floats, spread: float, odds: Floats) -> None:
    """Fill `odds` (AGES, HYPOTHESES) with log likelihoods of each fall's whole course against usual; rises are left
    out.

    `counts` and `means` (D,), D <= AGES, are use and usual use of the last days, the newest first. Days of a bad spell
    are allowed for; as days that follow each other are alike, they count for INDEPENDENT of what they say. It tells
    falls from each other by all that their days say, where the filter bounds it: for that something fell is then known.
    """
    size, days = 1 / spread, len(counts)
    odds[:] = -np.inf
    spells, ways, usual = np.empty(days), np.empty(days), np.empty(days)
    for day in range(days):
        mean, ways[day] = means[day] + LEAST, log_ways(counts[day], size)
        spells[day] = SPELL_BEGINS * any_share(counts[day], mean)
        usual[day] = log(spells[day] + (1 - SPELL_BEGINS) * exp(log_count(counts[day], mean, size, ways[day])))
    for k in range(RISES.start):
        total = log(PRIOR[k])
        for age in range(days):
            if RAMP_DAYS[k] > 0:  # each onset has a course of its own
                total = log(PRIOR[k])
            for day in range(0 if RAMP_DAYS[k] > 0 else age, age + 1):
                left = max(LEAST, left_at(k, age - day) * (means[day] + LEAST))
                fallen = spells[day] + (1 - SPELL_BEGINS) * exp(log_count(counts[day], left, size, ways[day]))
                total += INDEPENDENT * (log(fallen) - usual[day])
            odds[age, k] = total
