"""What a message does: panes, usage, faults and health of its own device, as the message is applied."""

import numpy as np

from detectors import fault_rules, usage_judgement
from schema.catalogue import DeviceModel
from schema.messages import MESSAGE_KINDS, Fault
from schema.record import TelemetryRecord
from streams import dues, habits, patterns, repairs, sensors
from streams.budgets import budget_of, within_budget
from streams.device import DeviceMessage, DeviceState
from streams.effects import Integers, RawReadings
from streams.layout import ModelSlots
from streams.pane_rows import DAY_MS, HOUR_MS, LATE, NEVER
from streams.panes import fold
from streams.quarantine import forgotten_boot
from streams.state import PartitionState, RiskDue

AHEAD_MS = 10 * 60_000
"""How far a device's watermark may be ahead of the partition's time."""
WEEK_MS = 7 * DAY_MS
RISK_EVERY_MS = 3 * HOUR_MS
EXPOSURE = (0.5, 1.5)
"""An hour's counter increase is judged when it spans about an hour; after a gap it spans more."""
_HOUR, _DAY = 1, 2
"""Indices of hourly and daily panes among the resolutions."""


def handle_telemetry(state: PartitionState, record: TelemetryRecord) -> None:
    """Take the messages of a record in, in order."""
    readings, faults = 0, 0
    strings = record.strings
    metric = record.readings["metric"].astype(np.int64)
    ts_ms = record.readings["ts_ms"].astype(np.int64)
    n = record.readings["n"].astype(np.int64)
    slots_of: dict[str, Integers] = {}
    for number, kind, boot, seq, _sent_ms, receive_ms, of_readings, of_faults in record.messages.tolist():
        first_reading, readings = readings, readings + of_readings
        first_fault, faults = faults, faults + of_faults
        device = state.devices.get(strings[number])
        if device is None:
            state.count("unknown_device")
            continue
        model = device.entry.model
        if model not in slots_of:
            layout = state.layout.models[model]
            slots_of[model] = np.array([layout.slot(text) for text in strings], np.int64)
        slots = slots_of[model][metric[first_reading:readings]]
        message = DeviceMessage(
            kind=MESSAGE_KINDS[kind],
            boot=boot,
            seq=seq,
            receive_ms=receive_ms,
            slots=slots,
            ts_ms=ts_ms[first_reading:readings],
            n=n[first_reading:readings],
            faults=tuple(
                Fault(at, strings[code], strings[severity], strings[subsystem], strings[text])
                for at, code, severity, subsystem, text in record.faults[first_fault:faults].tolist()
            ),
        )
        _arrived(state, device, message)


def _arrived(state: PartitionState, device: DeviceState, message: DeviceMessage) -> None:
    device_id = device.entry.device_id
    admission = device.admit(message, state.count)
    if admission == "duplicate":
        state.effects.repeated += 1  # no part of the state: a broker may repeat itself as often as it likes
        return
    state.changed.add(device_id)
    if device.cadence is not None and message.kind == "telemetry":
        first = device.cadence.last_ms < 0
        device.cadence.heard(message.receive_ms, device.entry.site_id in state.shared.sites_offline)
        if first:
            state.watch_silence(device)
        if device.silent:
            state.shared.heard.add(device_id)
    if admission == "forgotten":
        state.effects.put([forgotten_boot(state.number, device, message)])
        return
    seen = len(device.held)
    for ready in device.arrived(message, admission):
        apply_message(state, device, ready)
    if device.held:
        state.shared.waiting.add(device_id)
    elif seen:
        state.shared.waiting.discard(device_id)


def apply_message(state: PartitionState, device: DeviceState, message: DeviceMessage) -> None:
    """Apply a message whose turn it is."""
    if message.kind == "will":
        device.online = False
        return
    device.online = True
    if message.boot > device.sequencer.boot:
        repairs.booted(state, device, message.boot)
    if len(message.ts_ms):
        _fold(state, device, message)
    for fault in message.faults:
        _fault(state, device, fault, message)


def _fold(state: PartitionState, device: DeviceState, message: DeviceMessage) -> None:
    entry, effects = device.entry, state.effects
    slots, ts_ms, n = message.slots, message.ts_ms, message.n
    if slots.min() < 0:
        known = slots >= 0
        state.count("unknown_metric", int((~known).sum()))
        slots, ts_ms, n = slots[known], ts_ms[known], n[known]
    model = state.layout.models[entry.model]
    number = state.device_number(entry)
    effects.readings.append(RawReadings(number, message.boot, slots, ts_ms, n))
    limit_ms = state.shared.now_ms + AHEAD_MS
    ahead_ms = max(limit_ms, message.receive_ms)
    if len(ts_ms) and ts_ms[-1] > ahead_ms and state.shared.now_ms:
        state.count("clamped_ahead", int((ts_ms > ahead_ms).sum()))
    effects.room(len(slots), len(device.last))
    first = effects.filled
    effects.filled, device.watermark_ms = fold(
        device.panes,
        device.last,
        model.wrap,
        slots,
        ts_ms,
        n,
        message.boot,
        device.watermark_ms,
        limit_ms,
        number,
        effects.closed,
        first,
    )
    if effects.filled > first:
        _closed(state, device, model, first)


def _closed(state: PartitionState, device: DeviceState, model: ModelSlots, first: int) -> None:
    """Hand the hourly panes that a message closed to the detectors, hour by hour."""
    rows = state.effects.closed[first : state.effects.filled]
    late = (rows["flags"] & LATE) != 0
    if late.any():
        state.count("late_reading", int((late & (rows["resolution"] == 0)).sum()))
        state.count("revision", int(late.sum()))
    daily = rows[(rows["resolution"] == _DAY) & ~late]
    if len(daily):
        device.patterns.watched(len(set(daily["start_ms"].tolist())))
        dues.day_closed(state, device, model, daily)
    hourly = rows[(rows["resolution"] == _HOUR) & ~late]
    if not len(hourly):
        return
    by_hour: dict[int, dict[int, np.void]] = {}
    for row in hourly:
        by_hour.setdefault(int(row["start_ms"]), {})[int(row["slot"])] = row
    catalogue = state.catalogue[device.entry.model]
    usage_slot = model.slot(catalogue.usage_metric)
    for start_ms in sorted(by_hour):
        panes, end_ms = by_hour[start_ms], start_ms + HOUR_MS
        if not device.was_down(start_ms, end_ms):
            for slot, metric, subsystem, steps in state.gauges[device.entry.model]:
                pane = panes.get(slot)
                if pane is not None and subsystem in device.health:
                    count = int(pane["count"])
                    device.health[subsystem].window(end_ms, metric, int(pane["sum"]) / count / steps, count)
            sensors.hour_closed(state, device, start_ms, panes)
            if end_ms % RISK_EVERY_MS == 0:
                _queue_risk(state, device, end_ms)
        if usage_slot in panes:
            _judge_usage(state, device, catalogue, panes[usage_slot])


def _judge_usage(state: PartitionState, device: DeviceState, catalogue: DeviceModel, pane: np.void) -> None:
    since_ms, until_ms, start_ms = int(pane["since_ms"]), int(pane["until_ms"]), int(pane["start_ms"])
    exposure = (until_ms - since_ms) / HOUR_MS if since_ms != NEVER else 0.0
    if not EXPOSURE[0] <= exposure <= EXPOSURE[1]:
        return
    if device.was_down(since_ms, until_ms) or state.excused(device.entry, since_ms, until_ms):
        return
    assert device.usage is not None
    end_ms = start_ms + HOUR_MS
    metric = catalogue.metrics[catalogue.usage_metric]
    observed = metric.value(int(pane["increase"]))
    habits.begin(state, device)
    expected = device.usage.expected(end_ms) * min(exposure, 1.0)
    before, judgement = device.usage.judgement, device.usage.update(end_ms, observed, min(exposure, 1.0))
    device.judged_hour(end_ms, observed, expected)
    if judgement is not before:
        at_ms = start_ms if device.usage.open else end_ms  # else the day before is judged, for hours of it are missing
        found = usage_judgement.finding(judgement, at_ms, **state.names(device.entry), unit=metric.unit)
        state.observe(within_budget(state, device, found))


def _queue_risk(state: PartitionState, device: DeviceState, end_ms: int) -> None:
    entry = device.entry
    for subsystem, health in device.health.items():
        features = health.features(end_ms, end_ms - entry.installed_ms, end_ms - device.serviced_ms)
        features |= health.trends(end_ms)
        codes = device.codes_since(subsystem, end_ms - WEEK_MS)
        state.shared.risks.append(
            RiskDue(end_ms, entry.device_id, subsystem, features, health.ages_h(end_ms), codes)
        )


def _fault(state: PartitionState, device: DeviceState, fault: Fault, message: DeviceMessage) -> None:
    entry = device.entry
    state.effects.faults.append((entry.device_id, fault, message.boot, message.seq))
    known = state.catalogue[entry.model].faults.get(fault.code)
    stops = known is not None and known.stops_device
    device.told(fault)
    if fault.subsystem in device.health:
        device.health[fault.subsystem].fault(fault.ts_ms, fault.severity, fault.code)
    works = device.down_since_ms is None
    if stops and works:
        device.failed(fault.ts_ms)
        state.shared.failures.append((fault.ts_ms, entry.device_id, fault.subsystem))
    budget, rules = budget_of(state, entry.model), device.rules
    threshold = budget.threshold("fault_rule")
    judgement = rules.fault(fault.ts_ms, fault.code, fault.severity, fault.subsystem, stops, threshold)  # type: ignore[arg-type]
    if fault.severity != "info":  # which says nothing, so the last candidate is no news
        budget.observe("fault_rule", (entry.device_id, fault.subsystem), fault.ts_ms, rules.candidate(fault.subsystem))
    if judgement is not None:
        state.observe(fault_rules.finding(judgement, **state.names(entry)))
    patterns.told(state, device, fault, judgement is not None)
    state.shared.quiet.set((entry.device_id,), patterns.deadline_ms(device))
    if stops and works and message.boot < device.sequencer.boot:  # late news: it has booted since
        repairs.booted(state, device, device.sequencer.boot_after(message.boot))
