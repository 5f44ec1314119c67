"""Compiled code is made ready before a worker joins its group, by a small life of a made-up hospital.

A compiled function is compiled, or read from numba's cache on disk, when it is first called with arguments of some
types. Several are first called weeks into a partition's life, at a day's end (to describe a fall of usage, to learn
from a failure), and the partition would stand still meanwhile: for a fraction of a second with a cache, for many
seconds without. What types they are called with is known best by what calls them, so that is what is called here.
"""

import numpy as np

from detectors.usage_drop import UsageDrop
from detectors.usage_fleet import UsagePrior
from schema.catalogue import DeviceModel, FaultCode, Metric
from schema.messages import Fault, Message, Reading
from schema.record import Tick, decode, encode_telemetry
from schema.registry import Customer, Device, Site
from streams.copyrows import encode_rows
from streams.pane_rows import DAY_MS, HOUR_MS
from streams.partition import Partition

DAYS = 36
"""Usage is known after three weeks, and a stop is believed within days of it."""
SHIFT_DAY = 10
"""When levels shift: they are known by then, and it is told within two days."""
FAILURE_DAY = 16
"""When a subsystem fails; it is learned from a week later."""
STOP_DAY = 28
"""From when on the device is used no more."""
_MODEL = DeviceModel(
    model="warm",
    name="warm",
    name_zh="warm",
    skill="",
    service_interval_days=365,
    message_interval_s=3600,
    metrics={
        "uses": Metric("counter", "1", 0, 1e6, usage=True),
        "one": Metric("gauge", "1", 0, 1e3, subsystem="single"),
        "two": Metric("gauge", "1", 0, 1e3, subsystem="double"),
        "three": Metric("gauge", "1", 0, 1e3, subsystem="double"),
    },
    faults={
        "warns": FaultCode("warning", "single", "warns"),
        "stops": FaultCode("critical", "single", "stops", stops_device=True),
        "other": FaultCode("critical", "double", "other", stops_device=True),
    },
    parts={},
)
"""One subsystem with a single gauge and one with two: a column of one is laid out as a row, and compiled apart."""


def warm_up() -> None:
    """Call all compiled functions as a worker will; 0.7 s of CPU with a cache on disk, half a minute without."""
    partition = Partition(0, {_MODEL.model: _MODEL})
    device = Device(device_id="d", model=_MODEL.model, site_id="s", customer_id="c", installed_ms=0)
    partition.apply((Customer(customer_id="c", name="c"), Site(site_id="s", customer_id="c", name="s"), device))
    partition.apply(Tick("warm", DAY_MS, "joined"))
    uses = 0
    for day in range(1, DAYS):
        readings = []
        for hour in range(24):
            at_ms = day * DAY_MS + hour * HOUR_MS
            uses += 4 if day < STOP_DAY else 0
            level = (50 if day < SHIFT_DAY else 90) + hour % 5
            readings += [Reading(at_ms, "uses", uses)]
            readings += [Reading(at_ms, metric, level) for metric in ("one", "two", "three")]
        faults = [Fault(day * DAY_MS + hour * HOUR_MS, "warns", "warning", "single", "") for hour in range(24)]
        if day == FAILURE_DAY:
            faults.append(Fault((day + 1) * DAY_MS - 1, "stops", "critical", "single", ""))
        elif day < FAILURE_DAY - 2:
            faults.clear()
        boot = 1 if day <= FAILURE_DAY else 2
        end_ms = (day + 1) * DAY_MS
        message = Message("d", "telemetry", boot, day, end_ms, end_ms, tuple(readings), tuple(faults))
        partition.apply(decode(encode_telemetry([message], source="warm", receive_ms=end_ms)))
        partition.apply(Tick("warm", end_ms + 2 * HOUR_MS))
        partition.effects.clear()
    usage = UsageDrop()  # a device leans on others once some of its model are known, six weeks on
    usage.lean(UsagePrior(0.0, 1.0, np.zeros(7), np.ones(7), np.full((7, 24), 1 / 24), 0.1))
    usage.shares()
    ones = np.zeros(1, np.int64)
    encode_rows(partition.layout.texts, np.stack([ones], axis=1), np.stack([ones], axis=1))
