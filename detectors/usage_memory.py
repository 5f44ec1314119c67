"""What a usage detector remembers, in little room: one array of bytes, and the hypotheses alive.

It is written with every snapshot, so it is as exact as it has to be: hours in 65,535ths of the weekday's busiest one,
hypotheses in steps that are small beside what a day says of them.
"""

import numpy as np
import numpy.typing as npt

from detectors.usage_counts import Floats, Singles
from detectors.usage_filter import AGES, DEAD, HYPOTHESES, LEVEL, ODDS, RESIDUAL, SPELL
from schema.compiled import compiled

Bytes = npt.NDArray[np.uint8]
Shorts = npt.NDArray[np.uint16]

USUAL, WEEKDAYS, DOUBTS = slice(7), slice(7, 14), slice(14, 21)
LEVEL_NOW, SPREAD, RESTED = 21, 22, 23
"""Places among the doubles: what is known if nothing has happened (see `detectors.usage_filter`); log worth of the
weekdays, Monday first, and its variances; the level that is believed in, the variance of days, whether the last working
day rested."""
COUNTS, POOLED_HOURS, WATCHED_DAYS = slice(24), slice(24, 48), slice(48, 72)
BUSIEST, USED, FACTORS = slice(72, 79), slice(79, 79 + AGES), slice(79 + AGES, 79 + 2 * AGES)
"""Places among the singles: use in the hours of the running day; what is known of the hours of all days, and for how
many days each could be watched; the busiest hour of each weekday; of the last judged days, newest first, use and share
of the level usual for what was judged."""
HOURS, EXPOSURE, AGO = slice(168), slice(168, 192), slice(192, 192 + AGES)
"""Places among the shorts: what is known of the hours of each weekday, in parts of the busiest; the part of each hour
of the running day that could be watched; how many days the last judged ones are before the newest."""
WHOLE = 65535
"""A short that stands for 1, and for the longest time ago."""
_DOUBLES = 8 * 24
_SINGLES = _DOUBLES + 4 * (79 + 2 * AGES)
SIZE = _SINGLES + 2 * (192 + AGES)

_BITS = AGES * HYPOTHESES // 8
_PER_ODDS, _PER_LOG, _PER_ONE = 512, 4096, 32767
"""Steps of log odds (at most 64), of log rates (at most 8 from usual) and of probabilities."""


@compiled
def doubles(memory: Bytes) -> Floats:
    """View (24,) of the numbers of double precision."""
    return memory[:_DOUBLES].view(np.float64)


@compiled
def singles(memory: Bytes) -> Singles:
    """View (139,) of the numbers of single precision."""
    return memory[_DOUBLES:_SINGLES].view(np.float32)


@compiled
def shorts(memory: Bytes) -> Shorts:
    """View (222,) of the whole numbers."""
    return memory[_SINGLES:].view(np.uint16)


@compiled
def hours_of(memory: Bytes, weekday: int, hours: Floats) -> None:
    """Fill `hours` (24,) with what is known of the hours of a weekday."""
    parts, busiest = shorts(memory)[HOURS], singles(memory)[BUSIEST][weekday]
    for hour in range(24):
        hours[hour] = busiest * parts[24 * weekday + hour] / WHOLE


@compiled
def keep_hours(memory: Bytes, weekday: int, hours: Floats) -> None:
    """Remember `hours` (24,) of a weekday."""
    parts, busiest = shorts(memory)[HOURS], singles(memory)[BUSIEST]
    busiest[weekday] = hours.max()
    for hour in range(24):
        part = hours[hour] / busiest[weekday] if busiest[weekday] > 0 else 0.0
        parts[24 * weekday + hour] = round(WHOLE * min(1.0, part))


@compiled
def keep_day(memory: Bytes, gap_days: int, used: float, factor: float) -> None:
    """Remember a judged day, `gap_days` after the last."""
    recent, ago = singles(memory), shorts(memory)[AGO]
    for age in range(AGES - 1, 0, -1):
        recent[USED][age], recent[FACTORS][age] = recent[USED][age - 1], recent[FACTORS][age - 1]
        ago[age] = min(WHOLE, ago[age - 1] + gap_days)
    recent[USED][0], recent[FACTORS][0], ago[0] = used, factor, 0


@compiled
def packed(hypotheses: Floats, usual: float) -> Bytes:
    """Which of the hypotheses (AGES, HYPOTHESES, 4) are alive, as bits, and what is known of those; `usual` level."""
    written = np.zeros(_BITS + 8 * AGES * HYPOTHESES, np.uint8)
    numbers, place = written[_BITS:].view(np.int16), 0
    for age in range(AGES):
        for k in range(HYPOTHESES):
            if hypotheses[age, k, ODDS] > DEAD:
                written[age] |= 1 << k
                off = min(7.9, max(-7.9, hypotheses[age, k, LEVEL] - usual))
                numbers[place], numbers[place + 1] = round(_PER_ODDS * hypotheses[age, k, ODDS]), round(_PER_LOG * off)
                numbers[place + 2] = round(_PER_LOG * min(7.9, max(-7.9, hypotheses[age, k, RESIDUAL])))
                numbers[place + 3] = round(_PER_ONE * hypotheses[age, k, SPELL])
                place += 4
    return written[: _BITS + 2 * place]


@compiled
def unpacked_a_day_on(written: Bytes, usual: float) -> Floats:
    """Return the hypotheses that `packed` has written, each a day older; the oldest are left out."""
    hypotheses = np.zeros((AGES, HYPOTHESES, 4))
    numbers, place = written[_BITS:].view(np.int16), 0
    hypotheses[:, :, ODDS] = DEAD
    for age in range(1, AGES):
        for k in range(HYPOTHESES):
            if written[age - 1] >> k & 1:
                hypotheses[age, k, ODDS] = numbers[place] / _PER_ODDS
                hypotheses[age, k, LEVEL] = usual + numbers[place + 1] / _PER_LOG
                hypotheses[age, k, RESIDUAL] = numbers[place + 2] / _PER_LOG
                hypotheses[age, k, SPELL] = numbers[place + 3] / _PER_ONE
                place += 4
    return hypotheses
