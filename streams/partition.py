"""A partition: applies records in order and gathers what follows from them.

What concerns one device happens as its messages are applied (`streams.telemetry`); what joins several happens at ticks,
in canonical order: window end, then device (`streams.ticks`). So neither the cut of records nor the interleaving of
gateways between two ticks can show. Nothing asks a clock or a table: the state and the record decide.
"""

from typing import Any

from schema.commands import Command
from schema.record import Record, TelemetryRecord, Tick
from schema.registry import Calendar, Customer, Device, Part, RegistryEntry, Site, Technician
from streams import registry_rows
from streams.canonical import canonical
from streams.device import DeviceState
from streams.state import PartitionState
from streams.telemetry import handle_telemetry
from streams.ticks import handle_tick


class Partition(PartitionState):
    """State of one partition; `apply` takes the records in order and gathers what follows in `effects`."""

    def apply(self, record: Record) -> None:
        """Apply one record."""
        if isinstance(record, TelemetryRecord):
            handle_telemetry(self, record)
        elif isinstance(record, Tick):
            handle_tick(self, record)
        else:
            for entry in record:
                if isinstance(entry, Command):
                    self.effects.put(self.shared.desk.command(entry, self.shared.now_ms))
                elif isinstance(entry, RegistryEntry):
                    self._register(entry)

    def dump(self) -> Any:
        """Return the state as plain values, for comparisons (see `streams.canonical`)."""
        return canonical([self.devices, self.shared])

    def _begin(self, entry: Device, before: DeviceState | None) -> None:
        """A device begins its life here. What its buckets may have in the tables already is merged, as late data is."""
        device = self.devices[entry.device_id] = DeviceState.new(entry, self.catalogue[entry.model])
        if self.shared.now_ms:
            device.watermark_ms = max(self.shared.now_ms, before.watermark_ms if before else 0)
        if before is not None:
            self._numbers.pop(entry.device_id, None)
            self.shared.overdue.set((entry.device_id,), None)
            self.shared.quiet.set((entry.device_id,), None)
            self.shared.waiting.discard(entry.device_id)
            self.shared.heard.discard(entry.device_id)

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
                    self._begin(entry, known)
        shared.desk.register(entry)
        self.effects.put(registry_rows.rows(entry, self.number))
        self.effects.registry_changed = True
