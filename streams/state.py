"""The state of a partition: its devices, what joins them, and the effects that wait for the transaction."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from alerting.desk import Desk
from alerting.timers import Timers
from detectors.announcement import FleetAnnouncements
from detectors.failure_risk import FailureRisk
from schema.catalogue import Catalogue
from schema.findings import Finding
from schema.record import TelemetryRecord
from schema.registry import Calendar, Customer, Device, Part, Site, Technician
from streams.device import DeviceState
from streams.effects import Effects
from streams.fleet import Fleet
from streams.layout import Layout
from streams.places import Places

CALENDARS_KEPT_MS = 90 * 86_400_000
"""A holiday or maintenance is remembered so long after its end, for devices that deliver a backlog."""


@dataclass(order=True, slots=True)
class RiskDue:
    """A judgement of failure risk that waits for the next tick; sorted it is in canonical order."""

    end_ms: int
    device_id: str
    subsystem: str
    features: dict[str, float] = field(compare=False)
    ages_h: dict[str, float] = field(compare=False)
    codes: dict[str, int] = field(compare=False)


@dataclass(slots=True)
class Shared:
    """What a partition knows beyond its single devices; pickled as one key of a snapshot."""

    desk: Desk
    risk: FailureRisk
    fleet: Fleet = field(default_factory=Fleet)
    """Models that all partitions share."""
    customers: dict[str, Customer] = field(default_factory=dict)
    sites: dict[str, Site] = field(default_factory=dict)
    technicians: dict[str, Technician] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    calendars: dict[str, Calendar] = field(default_factory=dict)
    arrived: int = 0
    """Readings since the last tick, at least as many as devices hold for it."""
    sources: dict[str, int] = field(default_factory=dict)
    """Time of the last tick of each live source."""
    now_ms: int = 0
    days_done: int = 0
    """UTC days since the epoch that are summed up for customers."""
    day_customer: str = ""
    """The last customer whose next day is summed up already; days are done customer by customer."""
    waiting: set[str] = field(default_factory=set)
    """Devices that hold messages for the next tick."""
    heard: set[str] = field(default_factory=set)
    """Silent devices that were heard again since the last tick."""
    failures: list[tuple[int, str, str]] = field(default_factory=list)
    """Hard failures since the last tick: (time, device, subsystem)."""
    risks: list[RiskDue] = field(default_factory=list)
    overdue: Timers[tuple[str]] = field(default_factory=Timers)
    """When a device is looked at for silence."""
    quiet: Timers[tuple[str]] = field(default_factory=Timers)
    """When a device's fault rules may clear."""
    sites_offline: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)
    """Counters that tell of what was noticed: unknown devices, unknown metrics."""
    ahead: list[TelemetryRecord] = field(default_factory=list)
    """Records of bridges that are ahead of the partition's time (see `streams.ahead`)."""
    floods: dict[str, frozenset[str]] = field(default_factory=dict)
    """Devices that send more than their quota, and the bridges that say so."""
    foretold: dict[str, list[int]] = field(default_factory=dict)
    """Of limits that were reached, by model: how many, hundredths of days of error, how many within the deciles."""
    ways: dict[str, tuple[npt.NDArray[np.float64], int]] = field(default_factory=dict)
    """By customer: how the use of its devices differs from their models', summed up, and of how many (see
    `streams.habits`)."""
    told: dict[str, int] = field(default_factory=dict)
    """Where `counts` stood when they were last written down."""


class PartitionState:
    """What a partition knows, and the effects gathered so far; `streams.partition` applies records to it."""

    def __init__(self, number: int, catalogue: Catalogue) -> None:
        self.number = number
        self.catalogue = catalogue
        self.shared = Shared(Desk(number, catalogue), FailureRisk())
        self.shared.risk.announcements = self.shared.fleet.of(FleetAnnouncements, "")
        self.devices: dict[str, DeviceState] = {}
        self.changed: set[str] = set()
        """Devices whose state differs from the newest snapshot."""
        self.effects = Effects()
        self.layout = Layout(catalogue)
        self._numbers: dict[str, int] = {}
        self._places: Places | None = None

    @cached_property
    def gauges(self) -> dict[str, list[tuple[int, str, str, float]]]:
        """By model: slot, metric, subsystem and steps per unit of the gauges that tell of a subsystem."""
        return {
            name: [
                (slot, metric, model.metrics[metric].subsystem, float(model.metrics[metric].steps_per_unit))
                for slot, metric in enumerate(model.metric_names)
                if model.metrics[metric].kind == "gauge" and model.metrics[metric].subsystem
            ]
            for name, model in self.catalogue.items()
        }

    def watch_silence(self, device: DeviceState) -> None:
        """Look at a device again when it would be overdue."""
        assert device.cadence is not None
        self.shared.overdue.set((device.entry.device_id,), device.cadence.overdue_at_ms())

    @property
    def places(self) -> Places:
        """Who belongs where, as of now."""
        if self._places is None:
            self._places = Places(self.devices, self.shared.customers, self.shared.calendars.values())
        return self._places

    def registry_changed(self) -> None:
        """Devices, customers or calendars are others now."""
        self._places = None

    def excused(self, entry: Device, from_ms: int, until_ms: int) -> bool:
        """Tell whether a holiday or planned maintenance covers part of [from_ms, until_ms) for this device."""
        return self.places.excused(entry, self.shared.sites[entry.site_id].country, from_ms, until_ms)

    def forget_calendars(self, now_ms: int) -> None:
        """Drop what ended so long ago that no backlog will ask for it."""
        calendars = self.shared.calendars
        for old in [name for name, each in calendars.items() if each.until_ms + CALENDARS_KEPT_MS < now_ms]:
            del calendars[old]
            self.registry_changed()

    def device_number(self, entry: Device) -> int:
        """Return the number of a device in the layout."""
        number = self._numbers.get(entry.device_id)
        if number is None:
            number = self._numbers[entry.device_id] = self.layout.add_device(entry.device_id, entry.model)
        return number

    @staticmethod
    def names(entry: Device) -> dict[str, str]:
        """Return what findings say of where a device is."""
        return {"device_id": entry.device_id, "site_id": entry.site_id, "customer_id": entry.customer_id}

    def observe(self, finding: Finding) -> None:
        """Hand a finding to the desk, and gather what follows."""
        self.effects.found[finding.detector] += 1
        self.effects.put(self.shared.desk.observe(finding, self.shared.now_ms))

    def count(self, what: str, times: int = 1) -> None:
        """Count what was noticed."""
        self.shared.counts[what] = self.shared.counts.get(what, 0) + times
