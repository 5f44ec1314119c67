"""Sensors of a device: surprising hours and shifted levels of its gauges, under its model's alert budget."""

from collections.abc import Mapping

import numpy as np

from detectors.sensor_watch import SensorWatch, SpanJudgement, anomaly_finding, shift_finding
from streams.budgets import budget_of
from streams.device import DeviceState
from streams.pane_rows import DAY_MS, HOUR_MS
from streams.state import PartitionState

ANOMALY, SHIFT = "sensor_anomaly", "level_shift"
FOLLOWED_SPANS = 40
"""How many judged spans alerting hears of after a surprise: ten days of them; an alert that has come again and again
needs eight to resolve. Time alone would pass while the device says nothing."""
SHIFT_UP_MS = 3 * DAY_MS
"""A shifted level is the usual one after so long, if nobody has closed its alert before."""
_TOLD = 0.5
"""Where alerting raises."""
_GONE = 0.25
"""Below it alerting counts towards resolving."""


def hour_closed(state: PartitionState, device: DeviceState, start_ms: int, panes: Mapping[int, np.void]) -> None:
    """Show the gauges' panes of a closed hour, by slot, to the watches of their subsystems; tell what they find.

    Hours of holidays and planned maintenance are left out: the load of a device shows in its gauges.
    """
    entry, end_ms = device.entry, start_ms + HOUR_MS
    means: dict[str, dict[str, float]] = {}
    for slot, metric, subsystem, steps in state.gauges[entry.model]:
        pane = panes.get(slot)
        if pane is not None:
            means.setdefault(subsystem, {})[metric] = int(pane["sum"]) / int(pane["count"]) / steps
    if not means or state.excused(entry, start_ms, end_ms):
        return
    told_from = budget_of(state, entry.model).threshold(SHIFT)
    for subsystem, of_subsystem in means.items():
        watch = device.sensors.setdefault(subsystem, SensorWatch())
        judged = watch.window(end_ms, of_subsystem, told_from)
        if judged is not None:
            _surprise(state, device, subsystem, watch, judged)
            _shift(state, device, subsystem, watch, judged)


def restored(device: DeviceState) -> None:
    """The device was repaired: other levels have a known reason."""
    for watch in device.sensors.values():
        watch.restored()


def _surprise(
    state: PartitionState, device: DeviceState, subsystem: str, watch: SensorWatch, judged: SpanJudgement
) -> None:
    entry = device.entry
    budget = budget_of(state, entry.model)
    score = budget.observe(ANOMALY, (entry.device_id, subsystem), judged.end_ms, judged.surprise_odds)
    if score >= _TOLD or (watch.followed and score >= _GONE):
        watch.followed = FOLLOWED_SPANS
    if watch.followed:
        watch.followed -= 1
        threshold = budget.threshold(ANOMALY)
        state.observe(anomaly_finding(judged, score, threshold, subsystem=subsystem, **state.names(entry)))


def _shift(
    state: PartitionState, device: DeviceState, subsystem: str, watch: SensorWatch, judged: SpanJudgement
) -> None:
    entry = device.entry
    budget = budget_of(state, entry.model)
    score = budget.observe(SHIFT, (entry.device_id, subsystem), judged.end_ms, judged.shift_odds)
    if judged.shifts:
        score = max(score, _TOLD)
        watch.shifted_until_ms = judged.end_ms + SHIFT_UP_MS
    elif 0 < watch.shifted_until_ms <= judged.end_ms:
        score, watch.shifted_until_ms = 0.0, 0
    else:
        return
    threshold = budget.threshold(SHIFT)
    state.observe(shift_finding(judged, score, threshold, subsystem=subsystem, **state.names(entry)))
