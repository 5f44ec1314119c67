"""What comes due: limits of counters as their days close, dates at the end of each day, and work that was done."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from alerting.desk import Label
from detectors import due
from schema.catalogue import SERVICE
from schema.rows import ModelMetricRow
from streams.device import DeviceState
from streams.layout import ModelSlots
from streams.pane_rows import DAY_MS, NEVER
from streams.state import PartitionState

LEAD_DAYS = 21
"""How long before a periodic service or a calibration it is planned."""
OFFER_DAYS = 60
"""How long before its end a warranty or contract is spoken about."""
LEAST_DAYS = 0.5
"""A counter's day that spans less was cut short by a gap: the next one spans more."""


def day_closed(
    state: PartitionState, device: DeviceState, slots: ModelSlots, panes: "np.ndarray[Any, np.dtype[np.void]]"
) -> None:
    """Judge the limits of a device whose daily panes have closed, in order of time."""
    model = state.catalogue[device.entry.model]
    by_slot = {slots.slot(limit.metric): limit.metric for limit in model.limits.values()}
    counters = [each for each in panes if int(each["slot"]) in by_slot]
    for pane in sorted(counters, key=lambda each: int(each["start_ms"])):
        name = by_slot[int(pane["slot"])]
        metric, day = model.metrics[name], int(pane["start_ms"]) // DAY_MS
        since_ms, growth = int(pane["since_ms"]), metric.value(int(pane["increase"]))
        span_days = (int(pane["until_ms"]) - since_ms) / DAY_MS if since_ms != NEVER else 0.0
        if span_days >= LEAST_DAYS:
            device.dues.counter(name, day, span_days, growth)
        for limit_name, limit in model.limits.items():
            if limit.metric != name:
                continue
            judged, told = device.dues.judge(limit_name, limit, day, growth, metric.value(int(pane["max"])))
            if told is not None:
                _note(state, model.model, told)
            if judged is not None:
                names = state.names(device.entry)
                state.observe(due.limit_finding(judged, limit_name, limit, metric.unit, **names))


def dates(state: PartitionState, device: DeviceState, now_ms: int) -> None:
    """Look at the dates of a device at the end of a day: periodic service, calibration, warranty, contract."""
    entry, names = device.entry, state.names(device.entry)
    interval_ms, service_ms = state.catalogue[entry.model].service_interval_days * DAY_MS, 0
    if interval_ms:
        service_ms = device.dues.next_service_ms(entry.installed_ms, interval_ms, now_ms)
        state.changed.add(entry.device_id)
    calibration_ms = entry.calibration_due_ms
    if device.dues.served_ms.get("calibration", 0) >= calibration_ms - LEAD_DAYS * DAY_MS:
        calibration_ms = 0  # it was done; the registry will name the next date
    for name, text, due_ms in (
        (SERVICE, "periodic service", service_ms),
        ("calibration", "calibration", calibration_ms),
    ):
        state.observe(due.date_finding("due", name, due_ms, LEAD_DAYS, now_ms, text, **names))
    for name, due_ms in (("warranty", entry.warranty_until_ms), ("contract", entry.contract_until_ms)):
        state.observe(due.date_finding("expiring", name, due_ms, OFFER_DAYS, now_ms, name, **names))


def served(state: PartitionState, label: Label) -> None:
    """Work was done: planned work is that of its own limit or date; a part that was replaced begins its limits anew."""
    device = state.devices.get(label.device_id)
    if device is None or not label.order_kind:
        return
    limits = state.catalogue[device.entry.model].limits
    done = [name for name, limit in limits.items() if not set(limit.parts).isdisjoint(label.part_ids)]
    if label.detector == "due":
        done.append(label.subsystem)
    for name in done:
        state.changed.add(label.device_id)
        device.dues.served(name, label.at_ms)


def _note(state: PartitionState, model: str, told: due.Told) -> None:
    known = state.shared.foretold.setdefault(model, [0, 0, 0])
    for place, more in enumerate((1, round(100 * abs(told.error_days)), int(told.within))):
        known[place] += more


def metric_rows(state: PartitionState, at_ms: int) -> Iterator[ModelMetricRow]:
    """How right the forecasts were of limits that have been reached: how many, mean error, share within the deciles."""
    for model, (reached, error, within) in sorted(state.shared.foretold.items()):
        for metric, value in (
            ("reached", float(reached)),
            ("mean_error_days", error / 100 / reached),
            ("within_deciles", within / reached),
        ):
            yield ModelMetricRow(state.number, at_ms, f"due/{model}", metric, value)
