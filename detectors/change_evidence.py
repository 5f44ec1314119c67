"""Evidence that a series has changed its regime, for every onset in a bounded window; pure compiled numbers.

A regime is an autoregression of first order: the step from one observation to the next is

    y(t) - y(t-1) = a + b * y(t-1) + noise,

with a prior of PULL pseudo-observations for b = 0, a random walk with drift; b = -1 is noise around a level. So in a
series that wanders by itself only another drift is a change, in one that keeps a level another level is, and everything
between them follows from the data. What was before an onset gives a, b and the variance; by them the steps after the
onset are forecast, and the mean of these errors is judged. The step into the onset itself counts for neither side: what
is judged is what stays, not the jump; only where nothing had ever moved it is the jump.

Under the null hypothesis the mean error is not exactly 0 either: a standing error of WANDER noises, and of PACE times
the drift that the series had, is expected of any series (growth speeds up, a level breathes). Under the alternative it
is spread by SHIFT noises. Both marginal likelihoods have the variance integrated out (Student), so heavy tails and a
variance that has risen at the onset count against a change.

Source: likelihood ratios over all onsets, Willsky and Jones (1976), IEEE Trans. Automatic Control 21; Bayes factors of
change points, Fearnhead (2006), Statistics and Computing 16; posterior over onsets in windows, Adams and MacKay (2007).
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from schema.compiled import compiled

RATE = 1 / 400
"""Changes that are expected in an observation, before any is seen."""
LEAST_BEFORE = 7
"""Observations a regime needs before another one can follow."""
LEAST_AFTER = 5
"""Observations that a new regime must have shown; fewer are a burst."""
LOOK_BACK = 30
"""Onsets are looked for among so many of the newest places."""
PULL = 15.0
"""Pseudo-observations that say: the series wanders, it does not come back to a level. A level is believed when as many
real ones have said so."""
DRIFT_PRECISION = 0.1
"""Pseudo-observations that say: there is no drift."""
WANDER = 0.25
"""Standing error of a forecast, in noises, that is nothing new."""
PACE = 0.5
"""Standing error of a forecast, in drifts, that is nothing new: a growth may speed up or slow down by half."""
SHIFT = 5.0
"""Standing error, in noises, that a change makes."""
TRUST = 5.0
"""Half the pseudo-observations by which the variance after an onset is expected to be that before it."""
STEADY = 8.0
"""Pseudo-observations of the variance that all steps of the window before the onset tell: that of a short regime alone
is not to be trusted."""
_LEAST_VARIANCE = 1e-6
_MOST = 700.0
"""Logarithm that exp() can bear."""
_NOISE_OF_STEP = math.sqrt(0.75 * math.pi / 2)
"""Noise in mean absolute steps: midway between a random walk, where it is the whole step, and noise around a level,
where a step holds it twice."""


@compiled
def newest_change(window: npt.NDArray[Any], begin: int) -> tuple[int, float]:
    """Find the most likely onset of a new regime.

    Args:
        window: (N, D) observations in order of time; NaN is missing.
        begin: Where the present regime begins in the window.

    Returns:
        The place of the onset, -1 if there can be none yet; and the log odds that there is one at all.
    """
    size, metrics = window.shape
    total = np.full(size, -np.inf)
    own = np.empty(size)
    for metric in range(metrics):
        if not onset_evidence(window[:, metric], begin, own):
            continue
        for place in range(size):
            if own[place] > -np.inf:
                shown = math.log(1.0 - 1.0 / metrics + math.exp(min(own[place], _MOST)) / metrics)
                total[place] = shown if total[place] == -np.inf else total[place] + shown
    best, odds = -1, 0.0
    for place in range(size):
        if total[place] == -np.inf or not np.any(window[place] == window[place]):
            continue
        odds += math.exp(min(total[place], _MOST))
        if best < 0 or total[place] >= total[best]:
            best = place
    return best, math.log(RATE) + (math.log(odds) if odds > 0.0 else -_MOST)


@compiled
def onset_evidence(series: npt.NDArray[Any], begin: int, evidence: npt.NDArray[Any]) -> bool:
    """Say what one metric tells of an onset at each place of the window.

    Args:
        series: (N,) observations; NaN is missing.
        begin: Where the present regime begins.
        evidence: (N,) result: log Bayes factor of an onset there against none, -inf where it cannot be judged. An
            onset at a missing observation is one at the next that is not.

    Returns:
        Whether it can be judged anywhere.
    """
    size = len(series)
    values, places = np.empty(size), np.empty(size, np.int64)
    known, first = 0, -1
    for place in range(size):
        evidence[place] = -np.inf
        if series[place] == series[place]:
            if first < 0 and place >= begin:
                first = known
            values[known], places[known] = series[place], place
            known += 1
    if first < 0 or known - first < LEAST_BEFORE + LEAST_AFTER:
        return False
    travelled = np.zeros(known)
    for i in range(1, known):
        travelled[i] = travelled[i - 1] + abs(values[i] - values[i - 1])
    unit = _NOISE_OF_STEP * travelled[known - 1] / (known - 1)
    if unit <= 0.0:
        return False
    steps = known - first - 1
    sums = np.zeros((steps + 1, 5))
    for i in range(steps):
        level = (values[first + i] - values[first]) / unit
        step = (values[first + i + 1] - values[first + i]) / unit
        sums[i + 1, 0] = sums[i, 0] + level
        sums[i + 1, 1] = sums[i, 1] + step
        sums[i + 1, 2] = sums[i, 2] + level * level
        sums[i + 1, 3] = sums[i, 3] + level * step
        sums[i + 1, 4] = sums[i, 4] + step * step
    for before in range(LEAST_BEFORE - 1, steps - LEAST_AFTER + 1):
        onset = places[first + before + 1]
        if size - 1 - onset <= LOOK_BACK:
            usual = _NOISE_OF_STEP * travelled[first + before] / ((first + before) * unit)
            after = steps - before - 1
            bayes_factor = _bayes_factor(before, sums[before], sums[steps] - sums[before + 1], after, usual)
            if travelled[first + before] == 0.0:
                bayes_factor = max(bayes_factor, _left(values[:known], first + before + 1))
            place = onset
            while place > 0 and evidence[place] == -np.inf and (place == onset or series[place] != series[place]):
                evidence[place] = bayes_factor
                place -= 1
    return True


@compiled
def _left(values: npt.NDArray[Any], onset: int) -> float:
    """Say whether the values from `onset` on have left the level that all before them had, as a logarithm.

    Where nothing has ever moved, a jump is no wandering. After n equal values another one comes by chance once in n + 1
    times (Laplace); all of them must lie on one side, else only the noise is new.
    """
    level = values[onset - 1]
    for i in range(onset, len(values)):
        if (values[i] - level) * (values[onset] - level) <= 0.0:
            return -np.inf
    return (len(values) - onset) * math.log(onset + 1.0)


@compiled
def _bayes_factor(before: int, old: npt.NDArray[Any], new: npt.NDArray[Any], after: int, usual: float) -> float:
    """Compare a change between the `before` steps of `old` and the `after` steps of `new` with none, as a logarithm.

    `old` and `new` are sums over steps of level, step, level^2, level * step and step^2; `usual` is the usual noise.
    """
    n, m = float(before), float(after)
    noise = usual * usual + _LEAST_VARIANCE
    flat, pulled = n + DRIFT_PRECISION, old[2] + PULL * noise
    determinant = flat * pulled - old[0] * old[0]
    a = (old[1] * pulled - old[0] * old[3]) / determinant
    b = (flat * old[3] - old[0] * old[1]) / determinant
    rest = old[4] - 2 * (a * old[1] + b * old[3]) + a * a * n + 2 * a * b * old[0] + b * b * old[2]
    weight = n + STEADY
    variance = (max(rest, 0.0) + STEADY * noise) / weight * (1.0 + 2.0 / weight)
    error = (new[1] - a * m - b * new[0]) / m
    squares = new[4] - 2 * (a * new[1] + b * new[3]) + a * a * m + 2 * a * b * new[0] + b * b * new[2]
    drift = old[1] / n
    steps = 1.0 / (1.0 / n + 1.0 / m + WANDER * WANDER + PACE * PACE * drift * drift / variance)
    spread = steps * SHIFT * SHIFT
    around = TRUST * variance + max(squares - m * error * error, 0.0) / 2
    off = steps * error * error / 2
    return (TRUST + m / 2) * math.log((around + off) / (around + off / (1.0 + spread))) - math.log(1.0 + spread) / 2
