"""Tail evidence: how surprising a size is, against the largest peaks seen so far.

Sizes are not negative (absolute deviations). Of each block of BLOCK sizes the largest is a peak; the PEAKS largest
peaks x(1) >= ... >= x(k) are kept. Beyond x(k) the tail is taken as a power law whose index has a gamma prior
(PRIOR_SHAPE, PRIOR_SPREAD), so a size x has been exceeded, as far as the history can tell,

    n(x) = k * (1 + log(x / x(k)) / (PRIOR_SPREAD + sum_i log(x(i) / x(k)))) ^ -(PRIOR_SHAPE + k - 1)

times. The evidence is log(PEAKS / n(x)): 0 for what the known peaks cover, 1 for what was expected four times in the
whole history, 2.5 for once, and growing without bound. It does not depend on the unit of the sizes. Heavy tails (counts
of tweets) and bounded ones (a thermostat) tell themselves apart by the spread of their peaks.

Source: Hill (1975), A simple general approach to inference about the tail of a distribution, Annals of Statistics 3;
peaks over a threshold with declustering as in Coles (2001), An Introduction to Statistical Modeling of Extreme Values.
"""

import math
from typing import Any

import numpy.typing as npt

from schema.compiled import compiled

PEAKS = 12
"""Enough peaks for a tail index, few enough to be the tail."""
BLOCK = 32
WARM_BLOCKS = 7
"""Blocks before anything is judged."""
FORGET = 50_000
"""Sizes after which a peak has shrunk to 1/e: half a year of readings each five minutes."""
PRIOR_SHAPE = 4.0
PRIOR_SPREAD = 1.0
"""The tail before any peak is known: a size must be well above peaks that are all alike to mean much."""

_SHRINK = math.exp(-BLOCK / FORGET)


@compiled
def tail_evidence(peaks: npt.NDArray[Any], blocks: int, size: float) -> float:
    """Evidence that `size` is something new, in [0, inf).

    Args:
        peaks: (PEAKS,) falling, 0 where there is none yet.
        blocks: Blocks that were closed.
        size: Not negative.
    """
    known = min(PEAKS, blocks)
    if blocks < WARM_BLOCKS or size <= 0.0:
        return 0.0
    while known > 0 and peaks[known - 1] <= 0.0:
        known -= 1
    if known == 0:
        return math.log(2.0 * PEAKS)
    least = peaks[known - 1]
    if size <= least:
        return 0.0
    spread = PRIOR_SPREAD
    for i in range(known):
        spread += math.log(peaks[i] / least)
    tail = (PRIOR_SHAPE + known - 1) * math.log(1.0 + math.log(size / least) / spread)
    return math.log(PEAKS / known) + tail


@compiled
def learn_peak(peaks: npt.NDArray[Any], size: float) -> None:
    """Close a block: the older peaks (PEAKS,) shrink a little, and the block's largest size joins them."""
    for i in range(PEAKS):
        peaks[i] *= _SHRINK
    if size > peaks[PEAKS - 1]:
        place = PEAKS - 1
        while place > 0 and peaks[place - 1] < size:
            peaks[place] = peaks[place - 1]
            place -= 1
        peaks[place] = size
