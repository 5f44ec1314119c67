"""A scenario: everything that a fleet does and sends in a stretch of virtual time, from one seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import msgspec
import numpy as np

from schema.catalogue import Catalogue, load_catalogue
from schema.registry import Calendar, Registry
from schema.topics import state_topic, telemetry_topic
from simulator.failures import Troubles, plan_troubles
from simulator.fleet import DAY_MS, Fleet, build_fleet
from simulator.malformed import malformed_message
from simulator.plan import Course, plan_course
from simulator.randomness import stream
from simulator.schedule import Entry, Kind, schedule
from simulator.track import Track, build_track
from simulator.truth import Count, Fact, Run
from simulator.wire import FaultBody, Pair, State, Telemetry

DEFAULT_START_MS = 1_767_571_200_000
"""Monday, 5 January 2026, 0 h UTC."""
CLOCK_MS = 300_000
"""Virtual time between two clocks."""
_CHUNK = 432
"""Samples that are turned into lists at once: three days, and a multiple of those in a message."""


class Publication(NamedTuple):
    """One thing that happens on a gateway's connection.

    `join` opens it (with the last will that `boot` belongs to), `cut` breaks it without a farewell; everything else is
    a message to publish with QoS 1.
    """

    at_ms: int
    kind: Kind
    gateway_id: str
    device_id: str
    topic: str
    body: Telemetry | State | bytes
    retain: bool
    boot: int
    seq: int
    readings: int


@dataclass(frozen=True)
class Scenario:
    """All that follows from a seed and a size; the same values give the same bytes.

    Raises:
        ValueError: there is not at least one day and one device for each customer.
    """

    seed: int
    devices: int = 150
    customers: int = 30
    days: int = 56
    start_ms: int = DEFAULT_START_MS

    def __post_init__(self) -> None:
        if self.days < 1 or not 1 <= self.customers <= self.devices:
            raise ValueError(
                f"{self.devices} devices, {self.customers} customers, {self.days} days:"
                " there must be at least one day and one device for each customer"
            )

    @property
    def end_ms(self) -> int:
        """End of the run; its last clock."""
        return self.start_ms + self.days * DAY_MS

    @cached_property
    def catalogue(self) -> Catalogue:
        """The built-in device models."""
        return load_catalogue()

    @cached_property
    def fleet(self) -> Fleet:
        """Who and what there is."""
        return build_fleet(self.seed, self.devices, self.customers, self.start_ms, self.catalogue)

    @cached_property
    def course(self) -> Course:
        """What happens beyond every day, failures left aside."""
        return plan_course(self.seed, self.fleet, self.start_ms, self.days)

    @cached_property
    def troubles(self) -> Troubles:
        """Failures and their signs."""
        return plan_troubles(self.seed, self.fleet, self.course, self.catalogue, self.start_ms, self.days)

    @cached_property
    def tracks(self) -> tuple[Track, ...]:
        """The life of every device, in the order of the fleet."""
        return tuple(
            build_track(
                self.seed,
                machine,
                self.catalogue[machine.model],
                self.course,
                self.troubles,
                self.start_ms,
                self.end_ms,
            )
            for machine in self.fleet.machines
        )

    @cached_property
    def track_of(self) -> dict[str, Track]:
        """Tracks by device id."""
        return {track.machine.device_id: track for track in self.tracks}

    @cached_property
    def registry(self) -> Registry:
        """What the pipeline is told beforehand, holiday and maintenance included."""
        calendars = [
            Calendar(
                calendar_id=f"holiday-{number}",
                kind="holiday",
                name=f"Public holiday {holiday.country}",
                from_ms=holiday.from_ms,
                until_ms=holiday.until_ms,
                country=holiday.country,
            )
            for number, holiday in enumerate(self.course.holidays, 1)
        ]
        calendars += [
            Calendar(
                calendar_id=f"maintenance-{number}",
                kind="maintenance",
                name="Power supply works",
                from_ms=maintenance.from_ms,
                until_ms=maintenance.until_ms,
                site_id=maintenance.site_id,
            )
            for number, maintenance in enumerate(self.course.maintenances, 1)
        ]
        fleet = self.fleet
        return Registry(fleet.customers, fleet.sites, fleet.devices, fleet.technicians, fleet.parts, tuple(calendars))

    def registry_json(self) -> bytes:
        """The registry file."""
        return msgspec.json.format(msgspec.json.encode(self.registry), indent=1) + b"\n"

    def gateway_boot(self, gateway_id: str) -> int:
        """When a gateway started; outages are of its line, not of itself."""
        return self.start_ms - int(stream(self.seed, "gateway", gateway_id).integers(1, 60)) * DAY_MS

    def facts(self) -> Iterator[Fact]:
        """The truth as planned, with the readings that a complete run publishes."""
        course, troubles = self.course, self.troubles
        yield Run(
            seed=self.seed,
            devices=self.devices,
            customers=self.customers,
            start_ms=self.start_ms,
            end_ms=self.end_ms,
        )
        yield from course.holidays
        yield from course.maintenances
        yield from course.outages
        yield from course.churn
        yield from course.withdrawals
        yield from course.drops
        yield from troubles.failures
        yield from troubles.false_precursors
        for track in self.tracks:
            yield from _counts(track)

    def publications(self) -> Iterator[Publication]:
        """Everything in the order of publishing."""
        writers = {device_id: _Writer(track, self) for device_id, track in self.track_of.items()}
        boots = {gateway_id: self.gateway_boot(gateway_id) for gateway_id in self.fleet.gateways()}
        for entry in self.entries:
            if entry.rank < 0:
                yield _of_gateway(entry, boots[entry.gateway_id])
            else:
                yield writers[entry.device_id].publication(entry)

    @cached_property
    def entries(self) -> list[Entry]:
        """The order of publishing, without the bodies."""
        return schedule(self.seed, self.fleet, self.tracks, self.course, self.start_ms, self.end_ms)


def _of_gateway(entry: Entry, boot: int) -> Publication:
    body = State(entry.gateway_id, "offline" if entry.kind == "cut" else "online", boot, "2.4.1")
    topic = state_topic(entry.gateway_id)
    return Publication(entry.at_ms, entry.kind, entry.gateway_id, entry.gateway_id, topic, body, True, boot, 0, 0)


class _Writer:
    """Writes the messages of one device; keeps the lists of one chunk of samples."""

    def __init__(self, track: Track, scenario: Scenario) -> None:
        self._track = track
        self._model = scenario.catalogue[track.machine.model]
        self._seed = scenario.seed
        self._start_ms = scenario.start_ms
        self._topic = telemetry_topic(track.machine.device_id)
        self._chunk = -1
        self._pairs: list[tuple[str, list[Pair]]] = []

    def publication(self, entry: Entry) -> Publication:
        at_ms, device_id, gateway_id = entry.at_ms, entry.device_id, entry.gateway_id
        skew_ms = self._track.skew_ms
        if entry.kind == "birth":
            boot = self._track.boots_ms[entry.number] + skew_ms
            state = State(device_id, "online", boot, self._track.machine.firmware)
            topic = state_topic(device_id)
            return Publication(at_ms, "birth", gateway_id, device_id, topic, state, True, boot, 0, 0)
        if entry.kind == "malformed":
            rng = stream(self._seed, "malformed", self._track.machine.index, entry.number)
            boot = self._start_ms - (entry.number + 1) * DAY_MS
            found = malformed_message(rng, device_id, self._model, at_ms, boot, entry.number)
            return Publication(at_ms, "malformed", gateway_id, device_id, found.topic, found.payload, False, 0, 0, 0)
        plan = self._track.messages[entry.number]
        body = Telemetry(
            device_id,
            self._track.boots_ms[plan.boot] + skew_ms,
            plan.seq,
            plan.at_ms + skew_ms,
            self._series(plan.first, plan.stop),
            [] if plan.fault is None else [self._fault(plan.fault.code, plan.fault.at_ms + skew_ms)],
        )
        readings = (plan.stop - plan.first) * len(self._track.values)
        return Publication(
            at_ms, entry.kind, gateway_id, device_id, self._topic, body, False, body.boot, plan.seq, readings
        )

    def _fault(self, code: str, ts: int) -> FaultBody:
        fault = self._model.faults[code]
        return FaultBody(code, ts, fault.severity, fault.subsystem, fault.text)

    def _series(self, first: int, stop: int) -> dict[str, list[Pair]]:
        if first == stop:
            return {}
        chunk = first // _CHUNK
        if chunk != self._chunk or stop > (chunk + 1) * _CHUNK:
            self._fill(chunk)
        low, high = first - chunk * _CHUNK, stop - chunk * _CHUNK
        return {name: pairs[low:high] for name, pairs in self._pairs}

    def _fill(self, chunk: int) -> None:
        """Lists of the chunk, with what a message that crosses its end needs."""
        part = slice(chunk * _CHUNK, (chunk + 1) * _CHUNK + 3)
        stamps = (self._track.at_ms[part] + self._track.skew_ms).tolist()
        self._pairs = []
        for name, steps in self._track.values.items():
            per_unit = self._model.metrics[name].steps_per_unit
            values: list[float] = steps[part].tolist() if per_unit == 1 else (steps[part] / per_unit).tolist()
            self._pairs.append((name, list(zip(stamps, values, strict=True))))
        self._chunk = chunk


def _counts(track: Track) -> Iterator[Count]:
    sent = max((plan.stop for plan in track.messages), default=0)
    days, counts = np.unique((track.at_ms[:sent] + track.skew_ms) // DAY_MS, return_counts=True)
    by_day = dict(zip(days.tolist(), counts.tolist(), strict=True))
    for metric in track.values:
        yield Count(device_id=track.machine.device_id, metric=metric, days=by_day)
