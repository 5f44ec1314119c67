"""A partition as it is after weeks of life with devices of ten metrics, and the same with as many devices as one likes.

A template of `DEVICES` devices is fed hour by hour through the partition itself, faults, failures and repairs included.
A larger population is the template again and again under other ids: nothing in it is empty or shared.
"""

import pickle
import re
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from alerting.timers import Timers
from detectors.risk_learned import LearnedRisk
from schema.catalogue import Catalogue, parse_model
from schema.commands import CloseWorkOrder
from schema.messages import Fault, Message, Reading
from schema.record import Tick, decode, encode_telemetry
from schema.registry import Customer, Device, RegistryEntry, Site
from schema.rows import WorkOrderRow
from streams import snapshot
from streams.pane_rows import DAY_MS, HOUR_MS
from streams.partition import Partition
from streams.state import Shared

START_MS = 1_767_571_200_000
DEVICES, DEVICES_A_CUSTOMER, WEEKS = 60, 10, 5
SUBSYSTEMS = ("cooling", "drive", "optics")
EVERY_MS = 900_000
"""Between two readings of a metric; what is kept does not depend on it."""
FAULTS_AN_HOUR = 0.0075
"""Of a device: that of the simulated fleet, `info` left out."""
REPAIR_MS = DAY_MS

MODEL = """
model = "analyser"
name = "Analyser"
name_zh = "分析仪"
skill = "lab"
service_interval_days = 180
message_interval_s = 3600

[metrics.tests]
kind = "counter"
unit = "{test}"
min = 0
max = 1000000000
usage = true
""" + "".join(
    f"""
[metrics.gauge_{i}]
kind = "gauge"
unit = "Cel"
min = -1000
max = 1000
resolution = 0.01
subsystem = "{SUBSYSTEMS[i % len(SUBSYSTEMS)]}"
"""
    for i in range(9)
) + "".join(
    f"""
[faults.{subsystem[:1].upper()}-{severity}]
severity = "{severity}"
subsystem = "{subsystem}"
text = "reported"
parts = ["{subsystem}"]
stops_device = {"true" if severity == "critical" else "false"}
"""
    for subsystem in SUBSYSTEMS
    for severity in ("warning", "error", "critical")
) + "".join(f'''
[parts.{subsystem}]
name = "{subsystem}"
subsystem = "{subsystem}"
''' for subsystem in SUBSYSTEMS)
"""A catalogue file."""
CATALOGUE: Catalogue = {"analyser": parse_model("analyser.toml", MODEL)}
_IDS = re.compile(rb"(?<=(?:de|si|cu)-)0000(?=-)")
_UUIDS = re.compile(rb"([0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{8})[0-9a-f]{4}")
METRICS = CATALOGUE["analyser"].metric_names


def template(weeks: int = WEEKS) -> Partition:
    """The partition of `DEVICES` devices after `weeks`.

    Their faults come by chance: whoever goes where a failure was foretold, and no fault is, finds nothing.
    """
    partition = Partition(0, CATALOGUE)
    partition.apply(registry())
    partition.apply(Tick("bench", START_MS, "joined"))
    open_orders: list[WorkOrderRow] = []
    for sent, tick in hours(weeks * 7 * 24):
        partition.apply(decode(sent))
        partition.apply(tick)
        open_orders += _opened(partition, tick.at_ms)
        while open_orders and open_orders[0].opened_at + REPAIR_MS <= tick.at_ms:
            order = open_orders.pop(0)
            partition.apply((
                CloseWorkOrder(
                    command_id=f"close {order.work_order_id}",
                    actor="bench",
                    work_order_id=order.work_order_id,
                    outcome="part_replaced" if order.kind == "corrective" else "no_fault_found",
                ),
            ))
        partition.effects.clear()
    return partition


def _opened(partition: Partition, at_ms: int) -> Iterator[WorkOrderRow]:
    for row in partition.effects.rows.values():
        if isinstance(row, WorkOrderRow) and row.opened_at == at_ms:
            yield row


def registry() -> tuple[RegistryEntry, ...]:
    """Customers with a site each, and their devices; ids have room for the number of a copy."""
    customers = range(DEVICES // DEVICES_A_CUSTOMER)
    return (
        *(Customer(customer_id=f"cu-0000-{c}", name=f"Hospital {c}") for c in customers),
        *(Site(site_id=f"si-0000-{c}", customer_id=f"cu-0000-{c}", name="Main", country="DE") for c in customers),
        *(
            Device(
                device_id=f"de-0000-{d}",
                model="analyser",
                site_id=f"si-0000-{d // DEVICES_A_CUSTOMER}",
                customer_id=f"cu-0000-{d // DEVICES_A_CUSTOMER}",
                installed_ms=START_MS - 400 * DAY_MS,
            )
            for d in range(DEVICES)
        ),
    )


def hours(many: int, seed: int = 1) -> Iterator[tuple[bytes, Tick]]:
    """Each hour's record of one message a device, and the tick behind it."""
    random = np.random.default_rng(seed)
    scale = random.uniform(2, 12, DEVICES)
    tests = np.zeros(DEVICES)
    boots, seqs, down = [START_MS] * DEVICES, [0] * DEVICES, [-1] * DEVICES
    each = HOUR_MS // EVERY_MS
    for hour in range(many):
        first_ms = START_MS + hour * HOUR_MS
        busy = scale * (1.5 + np.sin((hour % 24 - 6) / 24 * 2 * np.pi)) * (0.4 if hour // 24 % 7 > 4 else 1.0)
        steps = random.poisson(busy[:, None] / each, (DEVICES, each))
        levels = 2000 + 200 * np.sin(hour / 24 * 2 * np.pi) + random.normal(0, 60, (DEVICES, each, len(METRICS)))
        sent = []
        for d in range(DEVICES):
            if down[d] >= 0 and hour >= down[d]:
                boots[d], seqs[d], down[d] = first_ms, 0, -1
            faults: tuple[Fault, ...] = ()
            if random.random() < FAULTS_AN_HOUR and down[d] < 0:
                subsystem = SUBSYSTEMS[int(random.integers(3))]
                severity = str(random.choice(["warning", "error", "critical"], p=[0.86, 0.08, 0.06]))
                faults = (Fault(first_ms + 1000, f"{subsystem[:1].upper()}-{severity}", severity, subsystem, ""),)
                down[d] = hour + 20 if severity == "critical" else -1
            readings = []
            for i in range(each):
                at_ms = first_ms + (i + 1) * EVERY_MS
                tests[d] += steps[d, i]
                readings += [Reading(at_ms, name, int(levels[d, i, k])) for k, name in enumerate(METRICS[1:])]
                readings.append(Reading(at_ms, METRICS[0], int(tests[d])))
            at_ms = first_ms + HOUR_MS
            seqs[d] += 1
            sent.append(
                Message(f"de-0000-{d}", "telemetry", boots[d], seqs[d], at_ms, at_ms, tuple(readings), faults)
            )
        yield encode_telemetry(sent, source="bench", receive_ms=at_ms), Tick("bench", at_ms)


def population(grown: Partition, devices: int) -> Partition:
    """As many devices as asked for, in whole copies of a template that has grown."""
    return snapshot.load(grown.number, grown.catalogue, {key: row for page in cut(grown, devices) for key, row in page})


def cut(grown: Partition, devices: int) -> Iterator[list[tuple[str, bytes]]]:
    """The rows of a cut of as many devices, page by page; what is shared comes last."""
    grown.changed = set(grown.devices)
    rows = snapshot.dump(grown)
    del rows[snapshot.SHARED_KEY]
    packed = pickle.dumps(grown.shared, protocol=5)
    whole: Shared = pickle.loads(packed)
    yield list(rows.items())
    for copy in range(1, devices // len(grown.devices)):
        _join(whole, pickle.loads(_renamed(packed, copy)))
        yield [(_renamed(key.encode(), copy).decode(), _renamed(row, copy)) for key, row in rows.items()]
    risk = whole.risk
    risk.pending = deque(sorted(risk.pending, key=lambda each: each.at_ms))
    while len(risk.pending) > risk.PENDING:
        risk._thin()
    learned = whole.fleet.of(LearnedRisk, "")  # so many devices gather no more than that sample of what matures
    learned.gathered, whole.fleet.own = learned.gathered[:: risk.every], whole.fleet.own[:: risk.every]
    grown.changed.clear()
    partition = Partition(grown.number, grown.catalogue)
    partition.shared = whole
    yield list(snapshot.dump(partition).items())


def _renamed(packed: bytes, copy: int) -> bytes:
    """The same for other devices, sites and customers, alerts and orders: texts of the same length."""
    number = b"%04d" % copy
    packed = _IDS.sub(number, packed)
    return _UUIDS.sub(rb"\g<1>" + number, packed)


def _join(into: Any, other: Any) -> None:
    """Add what `other` knows by id to `into`; single values stay."""
    match into:
        case Timers():
            for due_ms, key in other._due:
                into.set(key, due_ms)
        case dict():
            for key, value in other.items():
                if key in into:
                    _join(into[key], value)
                else:
                    into[key] = value
        case set():
            into |= other
        case list() | deque():
            if other and not isinstance(other[0], int | float):
                into.extend(other)
        case _ if hasattr(into, "__dict__") or hasattr(type(into), "__slots__"):
            names = {*getattr(into, "__dict__", {}), *getattr(type(into), "__slots__", ())}
            for name in names:
                if hasattr(other, name):
                    _join(getattr(into, name), getattr(other, name))
