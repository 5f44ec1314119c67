"""What is known of a gauge by its hours: its level, the week's rhythm, and how far an hour ever was from both."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.anomaly_tail import BLOCK, PEAKS, learn_peak, tail_evidence
from schema.compiled import compiled

HOUR_MS = 3_600_000
SPAN_MS = 6 * HOUR_MS
"""Hours are joined to spans, and the week's rhythm is that of its spans: nights, mornings, weekends."""
SPANS = 28
"""Of a week."""
LEAST_RATE = 1 / 240
"""The level follows within ten days: longer than any precursor."""
LEAST_WEEK_RATE = 0.2
CLIP = 4.0
"""An hour moves the level as far as one at so many mean deviations would, at most; a span moves the rhythm as far as
one at a single mean deviation: a shifted level is to teach it little until it is told."""

GAUGE_DTYPE = np.dtype(
    [
        ("level", "f8"),
        ("deviation", "f8"),
        ("week", "f4", (SPANS,)),
        ("visits", "u1", (SPANS,)),
        ("peaks", "f4", (PEAKS,)),
        ("block", "f4"),
        ("in_block", "u2"),
        ("blocks", "u2"),
        ("hours", "i4"),
        ("sum", "f8"),
        ("in_span", "i4"),
        ("evidence", "f4"),
        ("expected", "f8"),
        ("observed", "f8"),
        ("at_ms", "i8"),
    ]
)
"""One gauge, all zero before its first hour: usual level and mean deviation; by span of the week what is added to the
level, and how often that was seen; the largest deviations (see `anomaly_tail`); hours since the level was last learnt
anew; of the running span the sum of its hours without the week's part, how many, and its most surprising hour."""


@compiled
def take_hour(gauges: npt.NDArray[Any], end_ms: int, means: npt.NDArray[Any]) -> None:
    """Judge an hour's means (N,), NaN where there is none, of the gauges (N,) of GAUGE_DTYPE, and learn from them."""
    slot = (end_ms - 1) // SPAN_MS % SPANS
    for place in range(len(means)):
        if math.isfinite(means[place]):
            _take(gauges[place], slot, end_ms, means[place])


@compiled
def _take(gauge: Any, slot: int, end_ms: int, mean: float) -> None:
    usual = _of_week(gauge.week, gauge.visits, slot)
    if gauge.hours == 0:
        gauge.level = mean - usual
    error = mean - gauge.level - usual
    size = abs(error)
    evidence = tail_evidence(gauge.peaks, gauge.blocks, size)
    if gauge.in_span == 0 or evidence > gauge.evidence:
        gauge.evidence, gauge.at_ms = evidence, end_ms
        gauge.expected, gauge.observed = gauge.level + usual, mean
    gauge.block = max(gauge.block, size)
    gauge.in_block += 1
    if gauge.in_block >= BLOCK:
        learn_peak(gauge.peaks, gauge.block)
        gauge.block, gauge.in_block = 0.0, 0
        gauge.blocks = min(gauge.blocks + 1, 60_000)
    gauge.sum += mean - usual
    gauge.in_span += 1
    gauge.hours = min(gauge.hours + 1, 1_000_000)
    rate = max(1.0 / gauge.hours, LEAST_RATE)
    limit = CLIP * gauge.deviation if gauge.hours > SPANS else size
    gauge.level += rate * min(max(error, -limit), limit)
    gauge.deviation += (rate if gauge.blocks == 0 else LEAST_RATE) * (min(size, limit) - gauge.deviation)


@compiled
def close_span(gauges: npt.NDArray[Any], start_ms: int) -> npt.NDArray[Any]:
    """End the span that began at `start_ms`: learn the week's part; means (N,) without it, NaN where it was empty."""
    means = np.full(len(gauges), np.nan)
    for place in range(len(gauges)):
        if gauges[place].in_span > 0:
            means[place] = _close(gauges[place], start_ms // SPAN_MS % SPANS)
    return means


@compiled
def _close(gauge: Any, slot: int) -> float:
    mean = gauge.sum / gauge.in_span
    usual = _of_week(gauge.week, gauge.visits, slot)
    gauge.visits[slot] = min(gauge.visits[slot] + 1, 200)
    rate = max(1.0 / (gauge.visits[slot] + 1.0), LEAST_WEEK_RATE)
    error, limit = mean - gauge.level, gauge.deviation
    gauge.week[slot] = usual + rate * (error if gauge.visits[slot] == 1 else min(max(error, -limit), limit))
    gauge.sum, gauge.in_span = 0.0, 0
    return float(mean)


@compiled
def _of_week(week: npt.NDArray[Any], visits: npt.NDArray[Any], slot: int) -> float:
    """What a span of the week adds to the level; of one never seen, what the same hours of other days do."""
    if visits[slot] > 0:
        return float(week[slot])
    total, known = 0.0, 0
    for other in range(slot % 4, SPANS, 4):
        if visits[other] > 0:
            total += week[other]
            known += 1
    return total / known if known else 0.0
