"""One value of a sensor against all that was seen of it: views of the deseasonalised series, and their evidence.

Two series are looked at: the value without the season of the day, and without that of the week as well. Six views of
each: the distance from a slow mean, the step from the last value and from the one four before, and the distance of a
fast mean from a 16 times slower one, for fast means with half-lives of 2, 8 and 32 values. A spike shows in the steps,
a level shift in the means of its length, a missing or displaced pattern in what the season leaves.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.anomaly_season import (
    DAY_MS,
    DAY_RATE,
    DAY_SLOTS,
    SEASON_DTYPE,
    WEEK_MS,
    WEEK_RATE,
    WEEK_SLOTS,
    seasonal_part,
)
from detectors.anomaly_tail import BLOCK, PEAKS, learn_peak, tail_evidence
from schema.compiled import compiled

SERIES = 2
VIEWS = 6
LAGS = 4
_HALF_LIVES = (2.0, 8.0, 32.0, 128.0, 300.0, 512.0)
_RATES = np.array([1.0 - 0.5 ** (1.0 / each) for each in _HALF_LIVES])
_MEANS = len(_HALF_LIVES)
_SLOW = 4
"""Which of the means is the usual level: with a half-life of 300 values."""
GAP = 3.0
"""Usual intervals without a value after which a step says nothing."""
_INTERVAL_RATE = 0.1

STATE_DTYPE = np.dtype(
    [
        ("seen", "i8"),
        ("last_ms", "i8"),
        ("interval_ms", "f8"),
        ("seasons", SEASON_DTYPE, (SERIES,)),
        ("day", "f4", (DAY_SLOTS,)),
        ("day_visits", "u1", (DAY_SLOTS,)),
        ("week", "f4", (WEEK_SLOTS,)),
        ("week_visits", "u1", (WEEK_SLOTS,)),
        ("means", "f8", (SERIES, _MEANS)),
        ("recent", "f8", (SERIES, LAGS)),
        ("block", "f4", (SERIES, VIEWS)),
        ("peaks", "f4", (SERIES, VIEWS, PEAKS)),
        ("in_block", "i8"),
        ("blocks", "i8"),
        ("usual", "f8"),
        ("evidence", "f8"),
    ]
)
"""What is known of one sensor; all zero before its first value. `usual` is what the last value was expected to be,
`evidence` what it gave."""


@compiled
def observe(states: npt.NDArray[np.void], place: int, at_ms: int, value: float) -> float:
    """Judge a value and learn from it; its evidence, the larger of the two series'.

    The evidence of a series is the root mean square of its views': one view alone must be very sure, several need not.

    Args:
        states: (sensors,) of STATE_DTYPE.
        place: Which sensor.
        at_ms: Time of the value. Values out of order are judged as they come.
        value: Finite.
    """
    state = states[place]
    passed_ms = max(0.0, float(at_ms - state.last_ms)) if state.seen > 0 else 0.0
    gap = state.interval_ms > 0.0 and passed_ms > GAP * state.interval_ms
    if passed_ms > 0.0 and not gap:
        state.interval_ms += (_INTERVAL_RATE if state.interval_ms > 0.0 else 1.0) * (passed_ms - state.interval_ms)
    elif gap:
        state.interval_ms *= 1.0 + _INTERVAL_RATE * (GAP - 1.0)
    state.last_ms = at_ms
    day_slot = at_ms % DAY_MS * DAY_SLOTS // DAY_MS
    of_day = seasonal_part(
        state.seasons[0], state.day, state.day_visits, day_slot, value, state.seen, DAY_RATE, passed_ms
    )
    rest = value - of_day
    week_slot = at_ms % WEEK_MS * WEEK_SLOTS // WEEK_MS
    of_week = seasonal_part(
        state.seasons[1], state.week, state.week_visits, week_slot, rest, state.seen, WEEK_RATE, passed_ms
    )
    state.usual = of_day + of_week + (state.means[1, _SLOW] if state.seen > 0 else rest - of_week)
    evidence = max(_look(state, 0, rest, gap), _look(state, 1, rest - of_week, gap))
    state.seen += 1
    state.in_block += 1
    if state.in_block == BLOCK:
        for series in range(SERIES):
            for view in range(VIEWS):
                learn_peak(state.peaks[series, view], state.block[series, view])
                state.block[series, view] = 0.0
        state.in_block = 0
        state.blocks += 1
    state.evidence = evidence
    return evidence


@compiled
def _look(state: Any, series: int, value: float, gap: bool) -> float:
    """Evidence of one series' value."""
    means, recent = state.means[series], state.recent[series]
    if state.seen == 0:
        means[:] = value
        recent[:] = value
    sizes = np.empty(VIEWS)
    sizes[0] = abs(value - means[_SLOW])
    sizes[1] = 0.0 if gap else abs(value - recent[0])
    sizes[2] = 0.0 if gap else abs(value - recent[LAGS - 1])
    sizes[3], sizes[4], sizes[5] = means[2], means[3], means[5]
    for i in range(_MEANS):
        means[i] += max(_RATES[i], 1.0 / (state.seen + 1)) * (value - means[i])
    for i in range(3):
        sizes[3 + i] = abs(means[i] - sizes[3 + i])
    for i in range(LAGS - 1, 0, -1):
        recent[i] = recent[i - 1]
    recent[0] = value
    squares = 0.0
    for view in range(VIEWS):
        squares += tail_evidence(state.peaks[series, view], state.blocks, sizes[view]) ** 2
        state.block[series, view] = max(state.block[series, view], sizes[view])
    return math.sqrt(squares / VIEWS)
