"""How much the detectors keep of a device: it is written at each cut, for each device."""

import pickle
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from schema.catalogue import DeviceModel, load_catalogue
from schema.messages import Fault, Message, Reading
from schema.record import Tick, decode, encode_telemetry
from schema.registry import Customer, Device, Site
from streams.device import CODES_KEPT_MS, DeviceState
from streams.pane_rows import DAY_MS, HOUR_MS
from streams.partition import Partition

CATALOGUE = load_catalogue()
DETECTORS = ("cadence", "usage", "rules", "health", "codes", "patterns", "dues", "sensors")
MOST_BYTES = 8000
WEEKS = 6


def grown() -> Partition:
    """A device of each model that is switched off at night, with faults every other day and levels that shift."""
    partition, rng = Partition(0, CATALOGUE), random.Random(1)
    partition.apply(
        (
            Customer(customer_id="c", name="c"),
            Site(site_id="s", customer_id="c", name="s"),
            *(Device(device_id=name, model=name, site_id="s", customer_id="c", installed_ms=0) for name in CATALOGUE),
        )
    )
    partition.apply(Tick("bridge", 0, "joined"))
    used: Counter[tuple[str, str]] = Counter()
    for hour in range(1, 24 * 7 * WEEKS):
        at_ms = hour * HOUR_MS
        if 7 <= hour % 24 < 19:
            sent = []
            for name, model in CATALOGUE.items():
                values, faults = tuple(readings(model, hour, used, rng)), told(model, at_ms, rng)
                sent.append(Message(name, "telemetry", 1, hour, at_ms, at_ms, values, faults))
            partition.apply(decode(encode_telemetry(sent, source="bridge", receive_ms=at_ms)))
        partition.apply(Tick("bridge", at_ms))
        partition.effects.clear()
    return partition


def readings(model: DeviceModel, hour: int, used: Counter[tuple[str, str]], rng: random.Random) -> Iterator[Reading]:
    for name, metric in model.metrics.items():
        if metric.kind == "gauge":
            value = round((50 + 9 * (hour // 500 % 2) + rng.gauss(0, 1)) * metric.steps_per_unit)
        else:
            used[model.model, name] += rng.randrange(9)
            value = used[model.model, name]
        yield Reading(hour * HOUR_MS - 1, name, value)


def told(model: DeviceModel, at_ms: int, rng: random.Random) -> tuple[Fault, ...]:
    codes = [code for code, fault in model.faults.items() if not fault.stops_device]
    if not codes or rng.random() > 0.04:
        return ()
    fault = model.faults[code := rng.choice(codes)]
    return (Fault(at_ms - 1, code, fault.severity, fault.subsystem, ""),)


@pytest.fixture(scope="module")
def partition() -> Partition:
    return grown()


@pytest.mark.parametrize("model", CATALOGUE)
def test_detectors_keep_less_than_8_kb_of_a_device(partition: Partition, model: str) -> None:
    device = partition.devices[model]
    assert sum(len(pickle.dumps(getattr(device, name), protocol=5)) for name in DETECTORS) < MOST_BYTES


def test_codes_older_than_any_judgement_looks_back_are_forgotten(partition: Partition) -> None:
    device: DeviceState = pickle.loads(pickle.dumps(partition.devices["ct"]))
    hours = range(24 * 7 * WEEKS, 24 * 7 * (WEEKS + 3), 6)
    for hour in hours:
        device.told(Fault(hour * HOUR_MS, "XR-101", "warning", "tube", ""))
    newest_ms = hours[-1] * HOUR_MS
    assert min(at_ms for at_ms, _, _ in device.codes) > newest_ms - CODES_KEPT_MS
    assert device.codes_since("tube", newest_ms - 7 * DAY_MS) == {"XR-101": 29}
