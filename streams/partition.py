"""A partition: applies records in order and gathers what follows from them.

What concerns one device happens as its messages are applied (`streams.telemetry`); what joins several happens at ticks,
in canonical order: window end, then device (`streams.ticks`). So neither the cut of records nor the interleaving of
gateways between two ticks can show. Nothing asks a clock or a table: the state and the record decide.
"""

from typing import Any

from schema.commands import Command
from schema.notices import Notice
from schema.record import Record, TelemetryRecord, Tick
from schema.registry import Calendar, Customer, Device, Part, RegistryEntry, Site, Technician
from streams import ahead, budgets, registry_rows
from streams.canonical import canonical
from streams.device import DeviceState
from streams.fleet import Given
from streams.notices import handle_notice
from streams.state import PartitionState
from streams.telemetry import handle_telemetry
from streams.ticks import handle_tick, release

HELD_READINGS = 2_000_000
"""Readings that devices may hold for the next tick, all together: 50 MB."""


class Partition(PartitionState):
    """State of one partition; `apply` takes the records in order and gathers what follows in `effects`."""

    def apply(self, record: Record, given: Given | None = None) -> None:
        """Apply one record; `given` is what other partitions have contributed, with a tick that takes it in."""
        if isinstance(record, TelemetryRecord):
            for each in ahead.due(self) if ahead.waits(self, record) else [record]:
                self._take(each)
        elif isinstance(record, Tick):
            handle_tick(self, record, given)
            for each in ahead.due(self):
                self._take(each)
        else:
            for entry in record:
                if isinstance(entry, Command):
                    self.effects.put(self.shared.desk.command(entry, self.shared.now_ms))
                elif isinstance(entry, RegistryEntry):
                    self._register(entry)
                elif isinstance(entry, Notice):
                    handle_notice(self, entry)

    def _take(self, record: TelemetryRecord) -> None:
        handle_telemetry(self, record)
        self.shared.arrived += len(record.readings)
        if self.shared.arrived > HELD_READINGS:
            self._relieve()

    def dump(self) -> Any:
        """Return the state as plain values, for comparisons (see `streams.canonical`)."""
        return canonical([self.devices, self.shared])

    def _relieve(self) -> None:
        """Time stands still: if too much waits for the next tick, take it in order now, as that would."""
        held = [message for device_id in self.shared.waiting for message in self.devices[device_id].held]
        self.shared.arrived = sum(len(message.ts_ms) for message in held)
        if self.shared.arrived > HELD_READINGS:
            self.count("relieved")
            release(self)

    def _begin(self, entry: Device, before: DeviceState | None) -> None:
        """A device begins its life here. What its buckets may have in the tables already is merged, as late data is."""
        device = self.devices[entry.device_id] = DeviceState.new(entry, self.catalogue[entry.model])
        if self.shared.now_ms:
            device.watermark_ms = max(self.shared.now_ms, before.watermark_ms if before else 0)
        if before is not None:
            self._end(entry.device_id)
            self.effects.put(self.shared.desk.left(entry.device_id, self.shared.now_ms, "device is another model"))

    def _end(self, device_id: str) -> None:
        """What waited for something of a device waits no longer."""
        self._numbers.pop(device_id, None)
        self.shared.overdue.set((device_id,), None)
        self.shared.quiet.set((device_id,), None)
        self.shared.waiting.discard(device_id)
        self.shared.heard.discard(device_id)
        budgets.left(self, device_id)

    def _left(self, entry: Device) -> None:
        """A device belongs to a customer of another partition now; what had been raised about it here is over."""
        if self.devices.pop(entry.device_id, None) is not None:
            self.changed.add(entry.device_id)
            self.registry_changed()
            self._end(entry.device_id)
            self.shared.floods.pop(entry.device_id, None)
            self.effects.put(self.shared.desk.left(entry.device_id, self.shared.now_ms))

    def _register(self, entry: RegistryEntry) -> None:
        shared = self.shared
        if isinstance(entry, Device) and entry.customer_id not in shared.customers:
            self._left(entry)
            return
        self.registry_changed()
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
                    self._begin(entry, known)
        shared.desk.register(entry)
        self.effects.put(registry_rows.rows(entry, self.number))
        self.effects.registry_changed = True
