"""What six weeks have taught: the same in one partition and in four, however long a day takes to sum up."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fleet_help import BEGUN_MS, CATALOGUE, Table

from detectors.announcement import FleetAnnouncements
from detectors.budget import AlertBudget
from detectors.fault_patterns import CodeRates
from detectors.risk_learned import LearnedRisk
from detectors.risk_signs import Signs
from detectors.risk_trees import RefittedTrees
from detectors.usage_fleet import UsageFleet
from schema.messages import Fault, Message, Reading
from schema.record import Tick, decode, encode_telemetry
from schema.registry import Customer, Device, Site
from schema.topics import partition_of
from streams import ticks
from streams.canonical import canonical
from streams.pane_rows import HOUR_MS
from streams.partition import Partition

DAYS = 44
SPAN_H = 6
"""Devices speak, and time passes, every so many hours."""
DEVICES = 4


def sent(number: int) -> Iterator[Message]:
    """What a CT sends: it works from 8 to 18 h, warns now and then, and every two weeks or so its tube fails."""
    rng, scans, seq, boot = random.Random(number), 0, 0, BEGUN_MS
    fails = rng.randrange(9, 15)
    for span in range(DAYS * 24 // SPAN_H):
        first_h = span * SPAN_H
        day = first_h // 24
        ill = fails - 3 <= day < fails
        readings, faults = [], []
        for hour in range(first_h, first_h + SPAN_H):
            scans += rng.randrange(3, 8) if 8 <= hour % 24 < 18 and day % 7 < 6 else 0
            at_ms = BEGUN_MS + (hour + 1) * HOUR_MS - 60_000
            warm = 4_000 + rng.randrange(200) + (1_500 if ill else 0)
            readings += [Reading(at_ms, "scans", scans), Reading(at_ms, "tube_cel", warm)]
        if rng.random() < (0.5 if ill else 0.04):
            faults.append(Fault(at_ms, "XR-101", "warning", "tube", ""))
        if day >= fails:
            faults.append(Fault(at_ms, "XR-900", "critical", "tube", ""))
            fails += rng.randrange(9, 15)
        seq += 1
        yield Message(f"ct-{number}", "telemetry", boot, seq, at_ms, at_ms, tuple(readings), tuple(faults))
        if faults and faults[-1].code == "XR-900":
            boot, seq = at_ms + HOUR_MS // 2, 0


def lived(partitions: int) -> list[Partition]:
    """Six weeks of the fleet in so many partitions, which exchange their days."""
    parts, table = [Partition(number, CATALOGUE) for number in range(partitions)], Table()
    owner = [partition_of(f"cu-{number}", partitions) for number in range(DEVICES)]
    for number in range(DEVICES):
        customer, site = f"cu-{number}", f"si-{number}"
        parts[owner[number]].apply(
            (
                Customer(customer_id=customer, name=""),
                Site(site_id=site, customer_id=customer, name="", country="DE"),
                Device(device_id=f"ct-{number}", model="ct", site_id=site, customer_id=customer, installed_ms=0),
            )
        )
    for part in parts:
        part.apply(Tick("bridge", BEGUN_MS, "joined"))
    for span, messages in enumerate(zip(*(sent(number) for number in range(DEVICES)), strict=True)):
        tick = Tick("bridge", BEGUN_MS + (span + 1) * SPAN_H * HOUR_MS)
        for number, part in enumerate(parts):
            here = [each for each, of in zip(messages, owner, strict=True) if of == number]
            if here:
                part.apply(decode(encode_telemetry(here, source="bridge", receive_ms=tick.at_ms)))
            fleet = part.shared.fleet
            asks = fleet.asks(ticks.closed_day(ticks.time_after(part, tick)))
            part.apply(tick, table.given(number, fleet, range(partitions)) if asks else None)
            table.put(part.effects.rows.values())
            part.effects.clear()
    return parts


def known(part: Partition) -> dict[str, Any]:
    """What a partition has learnt of all."""
    fleet = part.shared.fleet
    usage, learned = fleet.of(UsageFleet, "ct"), fleet.of(LearnedRisk, "")
    experts = learned.experts["ct"]
    signs = Signs.of({"codes_1d": 1.1, "codes_3d": 1.4}, {"since code XR-101": 5.0}, {})
    return {
        "usage": usage.sums.tolist(),
        "examples": learned.learned,
        "failures": experts.failures,
        "columns": experts.columns,
        "linear": experts.linear.mean.tolist(),
        "crosses": np.flatnonzero(experts.crosses.z).tolist(),
        "opinion": learned.judge("ct", signs),
        "budgets": dict(fleet.of(AlertBudget, "ct").metrics()),
        "codes": fleet.of(CodeRates, "ct").events,
        "announcements": canonical(fleet.of(FleetAnnouncements, "").records),
    }


def test_six_weeks_teach_one_partition_and_four_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticks, "DEVICES_A_TICK", 1)
    monkeypatch.setattr(RefittedTrees, "GROWTH", 3.0)  # a few refits will do
    alone, *others = (known(part) for partitions in (1, 4) for part in lived(partitions))
    assert all(each == alone for each in others)
    assert alone["usage"][0] >= UsageFleet.LEAST_DEVICES
    assert alone["failures"] >= 5
