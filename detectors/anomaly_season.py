"""Season of a sensor: what of its value the time of the day, or of the week, tells."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from schema.compiled import compiled

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
DAY_SLOTS = 48
WEEK_SLOTS = 42
"""Half hours of the day, four hours of the week. Twice as many, or half, find the same."""

SEASON_DTYPE = np.dtype(
    [
        ("level", "f8"),
        ("spread", "f8"),
        ("cross", "f8"),
        ("square", "f8"),
        ("slot", "i8"),
        ("slot_sum", "f8"),
        ("slot_count", "f8"),
    ]
)
"""Slow level and mean absolute deviation from it; mean products of deviation and profile, and of profile and profile;
the slot that is being filled (-1: none), its sum and count."""

DAY_RATE = 0.1
"""Least weight of a new day in its slot: a changed routine is the usual one within two weeks."""
WEEK_RATE = 0.35
"""Least weight of a new week in its slot."""
GAIN_RATE = 0.0005
"""Weight of one reading in the judgement whether the season tells anything: about a week of readings each 5 minutes."""
CLIP = 8.0
"""Mean absolute deviations beyond which a value teaches no more than at that distance."""
CLIP_AFTER = 50
LEAST_SPREAD_RATE = 0.002
LEVEL_MS = 2.0 * DAY_MS
"""Time in which the slow level makes up 1 - 1/e of a change; 1 to 4 days find the same."""


@compiled
def seasonal_part(
    season: Any,
    profile: npt.NDArray[Any],
    visits: npt.NDArray[Any],
    slot: int,
    value: float,
    seen: int,
    least_rate: float,
    passed_ms: float,
) -> float:
    """The part of `value` that its season tells, before learning from it; then learn.

    The profile is the mean deviation from a slow level by slot. It counts as much as it has explained so far: its gain
    is the regression of deviations on it, within [0, 1]; so where there is no season nothing is taken away.

    Args:
        season: Record of SEASON_DTYPE.
        profile, visits: (slots,) mean deviation, and how often the slot was filled (at most 255).
        slot: Slot of the value's time.
        value: Finite.
        seen: Values before this one.
        least_rate: Least weight of a new visit in its slot.
        passed_ms: Time since the value before.
    """
    if seen == 0:
        season.level = value
        season.slot = -1
    if slot != season.slot:
        before = season.slot
        if before >= 0 and season.slot_count > 0:
            visits[before] = min(visits[before] + 1, 255)
            rate = max(least_rate, 1.0 / visits[before])
            profile[before] += rate * (season.slot_sum / season.slot_count - profile[before])
        season.slot = slot
        season.slot_sum = 0.0
        season.slot_count = 0.0
    usual = profile[slot]
    gain = max(0.0, min(1.0, season.cross / season.square)) if season.square > 0.0 else 0.0
    deviation = value - season.level
    if seen >= CLIP_AFTER and season.spread > 0.0:
        limit = CLIP * season.spread
        deviation = max(-limit, min(limit, deviation))
    season.spread += max(LEAST_SPREAD_RATE, 1.0 / (seen + 1)) * (abs(deviation) - season.spread)
    season.slot_sum += deviation
    season.slot_count += 1.0
    if visits[slot] > 0:
        season.cross += GAIN_RATE * (deviation * usual - season.cross)
        season.square += GAIN_RATE * (usual * usual - season.square)
    season.level += max(1.0 - math.exp(-passed_ms / LEVEL_MS), 1.0 / (seen + 1)) * deviation
    return float(gain * usual)
