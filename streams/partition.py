"""A partition: what its records do to its devices, in which order, and what follows from it.

What concerns one device happens as its messages are applied; what joins several happens at ticks, in canonical order
(window end, then device). So neither the cut of records nor the interleaving of gateways between two ticks can show.
Nothing here asks a clock or a table: the state and the record decide.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from alerting.desk import Desk
from alerting.timers import Timers
from alerting.usage import DeviceDay
from detectors import failure_risk, fault_rules, silence, usage_drop
from detectors.failure_risk import FailureRisk
from schema.catalogue import Catalogue, DeviceModel
from schema.commands import Command
from schema.findings import Finding
from schema.messages import MESSAGE_KINDS, Fault
from schema.record import Record, TelemetryRecord, Tick
from schema.registry import Calendar, Customer, Device, Part, RegistryEntry, Site, Technician
from schema.rows import ModelMetricRow
from streams import registry_rows
from streams.canonical import canonical
from streams.device import DeviceMessage, DeviceState
from streams.effects import Effects, Integers, RawReadings
from streams.layout import Layout, ModelSlots
from streams.panes import DAY_MS, HOUR_MS, LATE, NEVER, fold

AHEAD_MS = 10 * 60_000
"""How far a device's watermark may be ahead of the partition's time."""
DARK_MS = 7 * DAY_MS
"""A device that is silent for longer is evidence of its own: it was unplugged."""
DAY_CLOSES_AFTER_MS = 2 * HOUR_MS
"""A day is summed up for customers when the messages of its last hour have had time to come."""
WEEK_MS = 7 * DAY_MS
RISK_EVERY_MS = 3 * HOUR_MS
EXPOSURE = (0.5, 1.5)
"""An hour's counter increase is judged when it spans about an hour; after a gap it spans more."""
_HOUR = 1
"""Index of the hourly panes among the resolutions."""


@dataclass(order=True, slots=True)
class _RiskDue:
    end_ms: int
    device_id: str
    subsystem: str
    features: dict[str, float] = field(compare=False)
    codes: dict[str, int] = field(compare=False)


@dataclass(slots=True)
class Shared:
    """What a partition knows beyond its single devices; pickled as one key of a snapshot."""

    desk: Desk
    risk: FailureRisk
    customers: dict[str, Customer] = field(default_factory=dict)
    sites: dict[str, Site] = field(default_factory=dict)
    technicians: dict[str, Technician] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    calendars: dict[str, Calendar] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    """Time of the last tick of each live source."""
    now_ms: int = 0
    days_done: int = 0
    """UTC days since the epoch that are summed up for customers."""
    waiting: set[str] = field(default_factory=set)
    """Devices that hold messages for the next tick."""
    heard: set[str] = field(default_factory=set)
    """Silent devices that were heard again since the last tick."""
    failures: list[tuple[int, str, str]] = field(default_factory=list)
    """Hard failures since the last tick: (time, device, subsystem)."""
    risks: list[_RiskDue] = field(default_factory=list)
    overdue: Timers[tuple[str]] = field(default_factory=Timers)
    """When a device is looked at for silence."""
    quiet: Timers[tuple[str]] = field(default_factory=Timers)
    """When a device's fault rules may clear."""
    sites_offline: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)
    """Counters that tell of what was noticed: duplicates, unknown devices, unknown metrics, gaps."""


class Partition:
    """State of one partition; `apply` takes the records in order and gathers what follows in `effects`."""

    def __init__(self, number: int, catalogue: Catalogue) -> None:
        self.number = number
        self.catalogue = catalogue
        self.shared = Shared(Desk(number, catalogue), FailureRisk())
        self.devices: dict[str, DeviceState] = {}
        self.changed: set[str] = set()
        """Devices whose state differs from the newest snapshot."""
        self.effects = Effects()
        self.layout = Layout(catalogue)
        self._numbers: dict[str, int] = {}

    @cached_property
    def _gauges(self) -> dict[str, list[tuple[int, str, str, float]]]:
        """By model: slot, metric, subsystem and steps per unit of the gauges that tell of a subsystem."""
        return {
            name: [
                (slot, metric, model.metrics[metric].subsystem, float(model.metrics[metric].steps_per_unit))
                for slot, metric in enumerate(model.metric_names)
                if model.metrics[metric].kind == "gauge" and model.metrics[metric].subsystem
            ]
            for name, model in self.catalogue.items()
        }

    def apply(self, record: Record) -> None:
        """Apply one record."""
        if isinstance(record, TelemetryRecord):
            self._telemetry(record)
        elif isinstance(record, Tick):
            self._tick(record)
        else:
            for entry in record:
                if isinstance(entry, Command):
                    self.effects.put(self.shared.desk.command(entry, self.shared.now_ms))
                elif isinstance(entry, RegistryEntry):
                    self._register(entry)

    def dump(self) -> Any:
        """Return the state as plain values, for comparisons (see `streams.canonical`)."""
        return canonical([self.devices, self.shared])

    # --- telemetry

    def _telemetry(self, record: TelemetryRecord) -> None:
        readings, faults = 0, 0
        strings = record.strings
        metric = record.readings["metric"].astype(np.int64)
        ts_ms = record.readings["ts_ms"].astype(np.int64)
        n = record.readings["n"].astype(np.int64)
        slots_of: dict[str, Integers] = {}
        for number, kind, boot, seq, _sent_ms, receive_ms, of_readings, of_faults in record.messages.tolist():
            first_reading, readings = readings, readings + of_readings
            first_fault, faults = faults, faults + of_faults
            device = self.devices.get(strings[number])
            if device is None:
                self._count("unknown_device")
                continue
            model = device.entry.model
            if model not in slots_of:
                layout = self.layout.models[model]
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
            self._arrived(device, message)

    def _arrived(self, device: DeviceState, message: DeviceMessage) -> None:
        device_id = device.entry.device_id
        self.changed.add(device_id)
        if device.cadence is not None and message.kind == "telemetry":
            first = device.cadence.overdue_at_ms() is None
            device.cadence.heard(message.receive_ms)
            if first:
                self._watch_silence(device)
            if device.silent:
                self.shared.heard.add(device_id)
        seen = len(device.held)
        for ready in device.arrived(message):
            self._apply(device, ready)
        if device.held:
            self.shared.waiting.add(device_id)
        elif seen:
            self.shared.waiting.discard(device_id)

    def _apply(self, device: DeviceState, message: DeviceMessage) -> None:
        if message.kind == "will":
            device.online = False
            return
        device.online = True
        if message.boot > device.sequencer.boot:
            self._booted(device, message.boot)
        if len(message.ts_ms):
            self._fold(device, message)
        for fault in message.faults:
            self._fault(device, fault, message)

    def _booted(self, device: DeviceState, at_ms: int) -> None:
        if not device.booted(at_ms):
            return
        for judgement in device.rules.restored(at_ms):
            self._observe(fault_rules.finding(judgement, **self._names(device.entry)))
        for health in device.health.values():
            health.restored(at_ms)
        self.effects.put(self.shared.desk.repaired(device.entry.device_id, at_ms))

    def _fold(self, device: DeviceState, message: DeviceMessage) -> None:
        entry, effects = device.entry, self.effects
        slots, ts_ms, n = message.slots, message.ts_ms, message.n
        if slots.min() < 0:
            known = slots >= 0
            self._count("unknown_metric", int((~known).sum()))
            slots, ts_ms, n = slots[known], ts_ms[known], n[known]
        model = self.layout.models[entry.model]
        number = self._number(entry)
        effects.readings.append(RawReadings(number, message.boot, slots, ts_ms, n))
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
            self.shared.now_ms + AHEAD_MS,
            number,
            effects.closed,
            first,
        )
        if effects.filled > first:
            self._closed(device, model, first)

    def _closed(self, device: DeviceState, model: ModelSlots, first: int) -> None:
        """Hand the hourly panes that a message closed to the detectors, hour by hour."""
        rows = self.effects.closed[first : self.effects.filled]
        hourly = rows[(rows["resolution"] == _HOUR) & ((rows["flags"] & LATE) == 0)]
        if not len(hourly):
            return
        by_hour: dict[int, dict[int, np.void]] = {}
        for row in hourly:
            by_hour.setdefault(int(row["start_ms"]), {})[int(row["slot"])] = row
        catalogue = self.catalogue[device.entry.model]
        usage_slot = model.slot(catalogue.usage_metric)
        for start_ms in sorted(by_hour):
            panes, end_ms = by_hour[start_ms], start_ms + HOUR_MS
            if device.down_since_ms is None:
                for slot, metric, subsystem, steps in self._gauges[device.entry.model]:
                    pane = panes.get(slot)
                    if pane is not None and subsystem in device.health:
                        count = int(pane["count"])
                        device.health[subsystem].window(end_ms, metric, int(pane["sum"]) / count / steps, count)
                if end_ms % RISK_EVERY_MS == 0:
                    self._queue_risk(device, end_ms)
            if usage_slot in panes:
                self._judge_usage(device, catalogue, panes[usage_slot])

    def _judge_usage(self, device: DeviceState, catalogue: DeviceModel, pane: np.void) -> None:
        since_ms, until_ms, start_ms = int(pane["since_ms"]), int(pane["until_ms"]), int(pane["start_ms"])
        exposure = (until_ms - since_ms) / HOUR_MS if since_ms != NEVER else 0.0
        if not EXPOSURE[0] <= exposure <= EXPOSURE[1]:
            return
        if device.was_down(since_ms, until_ms) or self._excused(device.entry, since_ms, until_ms):
            return
        assert device.usage is not None
        end_ms = start_ms + HOUR_MS
        metric = catalogue.metrics[catalogue.usage_metric]
        observed = metric.value(int(pane["increase"]))
        expected = device.usage.expected(end_ms) * min(exposure, 1.0)
        new_day = device.usage.day != (end_ms - 1) // DAY_MS
        judgement = device.usage.update(end_ms, observed, min(exposure, 1.0))
        device.judged_hour(end_ms, observed, expected)
        if new_day:
            self._observe(
                usage_drop.finding(judgement, end_ms - HOUR_MS, **self._names(device.entry), unit=metric.unit)
            )

    def _queue_risk(self, device: DeviceState, end_ms: int) -> None:
        entry = device.entry
        for subsystem, health in device.health.items():
            features = health.features(end_ms, end_ms - entry.installed_ms, end_ms - device.serviced_ms)
            self.shared.risks.append(
                _RiskDue(end_ms, entry.device_id, subsystem, features, device.codes_since(subsystem, end_ms - WEEK_MS))
            )

    def _fault(self, device: DeviceState, fault: Fault, message: DeviceMessage) -> None:
        entry = device.entry
        self.effects.faults.append((entry.device_id, fault, message.boot, message.seq))
        known = self.catalogue[entry.model].faults.get(fault.code)
        stops = known is not None and known.stops_device
        device.codes.append((fault.ts_ms, fault.subsystem, fault.code))
        if fault.subsystem in device.health:
            device.health[fault.subsystem].fault(fault.ts_ms, fault.severity)
        if stops and device.down_since_ms is None:
            device.failed(fault.ts_ms)
            self.shared.failures.append((fault.ts_ms, entry.device_id, fault.subsystem))
        judgement = device.rules.fault(fault.ts_ms, fault.code, fault.severity, fault.subsystem, stops)  # type: ignore[arg-type]
        if judgement is not None:
            self._observe(fault_rules.finding(judgement, **self._names(entry)))
            self.shared.quiet.set((entry.device_id,), device.rules.deadline_ms())

    # --- ticks

    def _tick(self, tick: Tick) -> None:
        shared = self.shared
        if tick.state == "left":
            shared.sources.pop(tick.source, None)
        else:
            shared.sources[tick.source] = max(tick.at_ms, shared.sources.get(tick.source, 0))
        if tick.state == "joined" or not shared.sources:
            return
        now_ms = min(shared.sources.values())
        if now_ms <= shared.now_ms:
            return
        if shared.now_ms == 0:
            shared.days_done = now_ms // DAY_MS
        shared.now_ms = now_ms
        self._release()
        self._silence(now_ms)
        self._clear_rules(now_ms)
        self._judge_risks(now_ms)
        self._sum_up_days(now_ms)
        self.effects.put(shared.desk.tick(now_ms))
        for label in shared.desk.labels():
            if label.detector != "failure_risk":
                continue
            if label.outcome == "false":
                shared.risk.dismissed(label.device_id, label.subsystem, label.at_ms)
            elif label.order_kind != "corrective":  # there the hard failure itself has said it
                shared.risk.failed(label.device_id, label.subsystem, label.at_ms)

    def _release(self) -> None:
        for device_id in sorted(self.shared.waiting):
            device = self.devices[device_id]
            self.changed.add(device_id)
            for message in device.release():
                self._apply(device, message)
        self.shared.waiting.clear()

    def _watch_silence(self, device: DeviceState) -> None:
        assert device.cadence is not None
        self.shared.overdue.set((device.entry.device_id,), device.cadence.overdue_at_ms())

    def _silence(self, now_ms: int) -> None:
        shared = self.shared
        sites = set()
        for device_id in sorted(shared.heard):
            device = self.devices[device_id]
            assert device.cadence is not None
            device.silent = False
            self._observe(silence.finding(device.cadence, False, now_ms, **self._names(device.entry)))
            self._watch_silence(device)
            sites.add(device.entry.site_id)
        shared.heard.clear()
        fell_silent = []
        for (device_id,) in shared.overdue.due(now_ms):
            device = self.devices[device_id]
            assert device.cadence is not None
            at_ms = device.cadence.overdue_at_ms()
            assert at_ms is not None
            if at_ms > now_ms:
                self._watch_silence(device)
            else:
                fell_silent.append(device.entry.device_id)
        for device_id in sorted(fell_silent):
            device = self.devices[device_id]
            assert device.cadence is not None
            self.changed.add(device_id)
            device.silent = True
            self._observe(silence.finding(device.cadence, True, now_ms, **self._names(device.entry)))
            sites.add(device.entry.site_id)
        for site_id in sorted(sites):
            self._judge_site(site_id, now_ms)

    def _judge_site(self, site_id: str, now_ms: int) -> None:
        devices = [
            silence.DeviceCadence(device_id, device.cadence.last_ms, at_ms, device.cadence.interval_ms)
            for device_id, device in sorted(self.devices.items())
            if device.entry.site_id == site_id
            and device.cadence is not None
            and (at_ms := device.cadence.overdue_at_ms()) is not None
        ]
        judgement = silence.judge_site(devices, now_ms)
        if judgement.offline or site_id in self.shared.sites_offline:
            self._observe(
                silence.site_finding(
                    judgement, now_ms, site_id=site_id, customer_id=self.shared.sites[site_id].customer_id
                )
            )
        (self.shared.sites_offline.add if judgement.offline else self.shared.sites_offline.discard)(site_id)

    def _clear_rules(self, now_ms: int) -> None:
        for device_id in sorted(device_id for (device_id,) in self.shared.quiet.due(now_ms)):
            device = self.devices[device_id]
            self.changed.add(device_id)
            for judgement in device.rules.tick(now_ms):
                self._observe(fault_rules.finding(judgement, **self._names(device.entry)))
            self.shared.quiet.set((device_id,), device.rules.deadline_ms())

    def _judge_risks(self, now_ms: int) -> None:
        shared = self.shared
        for at_ms, device_id, subsystem in sorted(shared.failures):
            shared.risk.failed(device_id, subsystem, at_ms)
        shared.failures.clear()
        shared.risk.mature(now_ms)
        for due in sorted(shared.risks):
            entry = self.devices[due.device_id].entry
            risk = shared.risk.judge(due.end_ms, due.device_id, due.subsystem, due.features)
            self._observe(
                failure_risk.finding(
                    risk,
                    shared.risk.threshold,
                    due.features,
                    due.codes,
                    due.end_ms,
                    due.end_ms,
                    subsystem=due.subsystem,
                    **self._names(entry),
                )
            )
        shared.risks.clear()

    def _sum_up_days(self, now_ms: int) -> None:
        while (self.shared.days_done + 1) * DAY_MS + DAY_CLOSES_AFTER_MS <= now_ms:
            day = self.shared.days_done
            self.shared.days_done += 1
            end_ms = (day + 1) * DAY_MS
            for customer_id in sorted(self.shared.customers):
                days = [
                    self._device_day(device, day)
                    for device_id, device in sorted(self.devices.items())
                    if device.entry.customer_id == customer_id and device.usage is not None
                ]
                self.effects.put(self.shared.desk.day(customer_id, end_ms, days))
            self.effects.put(
                ModelMetricRow(self.number, end_ms, "failure_risk", metric, value)
                for metric, value in self.shared.risk.metrics().items()
                if value == value
            )

    def _device_day(self, device: DeviceState, day: int) -> DeviceDay:
        assert device.usage is not None
        assert device.cadence is not None
        device_id, end_ms = device.entry.device_id, (day + 1) * DAY_MS
        usage = device.usage_days.get(day)
        if usage is not None:
            return DeviceDay(device_id, usage.observed, usage.expected, "reporting")
        if device.silent and device.cadence.last_ms <= end_ms - DARK_MS:
            hours = range(day * DAY_MS + HOUR_MS, end_ms + HOUR_MS, HOUR_MS)
            return DeviceDay(device_id, 0.0, sum(device.usage.expected(hour) for hour in hours), "dark")
        return DeviceDay(device_id, 0.0, 0.0, "excused")

    # --- registry

    def _register(self, entry: RegistryEntry) -> None:
        shared = self.shared
        match entry:
            case Customer():
                shared.customers[entry.customer_id] = entry
            case Site():
                shared.sites[entry.site_id] = entry
            case Technician():
                shared.technicians[entry.technician_id] = entry
            case Part():
                shared.parts[entry.part_id] = entry
            case Calendar():
                shared.calendars[entry.calendar_id] = entry
            case Device():
                self.changed.add(entry.device_id)
                known = self.devices.get(entry.device_id)
                if known is not None and known.entry.model == entry.model:
                    known.entry = entry
                else:
                    self.devices[entry.device_id] = DeviceState.new(entry, self.catalogue[entry.model])
        shared.desk.register(entry)
        self.effects.put(registry_rows.rows(entry, self.number))
        self.effects.registry_changed = True

    def _excused(self, entry: Device, from_ms: int, until_ms: int) -> bool:
        """Tell whether a holiday or planned maintenance covers part of [from_ms, until_ms) for this device."""
        country = self.shared.sites[entry.site_id].country
        return any(
            calendar.from_ms < until_ms and calendar.until_ms > from_ms and _concerns(calendar, entry, country)
            for calendar in self.shared.calendars.values()
        )

    # --- helpers

    def _number(self, entry: Device) -> int:
        number = self._numbers.get(entry.device_id)
        if number is None:
            number = self._numbers[entry.device_id] = self.layout.add_device(entry.device_id, entry.model)
        return number

    def _names(self, entry: Device) -> dict[str, str]:
        return {"device_id": entry.device_id, "site_id": entry.site_id, "customer_id": entry.customer_id}

    def _observe(self, finding: Finding) -> None:
        self.effects.put(self.shared.desk.observe(finding, self.shared.now_ms))

    def _count(self, what: str, times: int = 1) -> None:
        self.shared.counts[what] = self.shared.counts.get(what, 0) + times


def _concerns(calendar: Calendar, entry: Device, country: str) -> bool:
    scopes: Iterable[tuple[str, str]] = (
        (calendar.country, country),
        (calendar.customer_id, entry.customer_id),
        (calendar.site_id, entry.site_id),
        (calendar.device_id, entry.device_id),
    )
    return all(not scope or scope == own for scope, own in scopes)
