"""What a repair ends, whether the device had failed or was only about to."""

from schema.catalogue import load_catalogue
from schema.commands import CloseWorkOrder
from schema.messages import Fault, Message, Reading
from schema.record import Tick, decode, encode_telemetry
from schema.registry import Customer, Device, Site
from schema.rows import WorkOrderRow
from streams.pane_rows import HOUR_MS
from streams.partition import Partition


def strained() -> tuple[Partition, WorkOrderRow]:
    """A scanner whose tube has warned every hour for a day and a half, and the order that came of it."""
    partition = Partition(0, load_catalogue())
    partition.apply(
        (
            Customer(customer_id="c", name="c"),
            Site(site_id="s", customer_id="c", name="s"),
            Device(device_id="d", model="ct", site_id="s", customer_id="c", installed_ms=0),
        )
    )
    partition.apply(Tick("bridge", 0, "joined"))
    for hour in range(1, 37):
        at_ms = hour * HOUR_MS
        fault = Fault(at_ms, "XR-101", "warning", "tube", "")
        message = Message("d", "telemetry", 1, hour, at_ms, at_ms, (Reading(at_ms, "scans", hour),), (fault,))
        partition.apply(decode(encode_telemetry([message], source="bridge", receive_ms=at_ms)))
        partition.apply(Tick("bridge", at_ms))
    rows = partition.effects.rows.values()
    orders = [row for row in rows if isinstance(row, WorkOrderRow) and row.subsystem == "tube" and row.state != "done"]
    return partition, orders[0]


def closed(part_ids: tuple[str, ...]) -> dict[str, float]:
    """What the tube's health tells an hour after the order was closed."""
    partition, order = strained()
    partition.apply(
        (
            CloseWorkOrder(
                command_id="1",
                actor="technician",
                work_order_id=order.work_order_id,
                outcome="part_replaced" if part_ids else "confirmed",
                part_ids=part_ids,
            ),
        )
    )
    at_ms = 37 * HOUR_MS
    partition.apply(Tick("bridge", at_ms))
    health = partition.devices["d"].health["tube"]
    return health.features(at_ms, 0, 0) | health.ages_h(at_ms)


def test_a_part_that_is_replaced_before_it_fails_ends_its_signs_and_is_remembered() -> None:
    told = closed(("CT-TUBE-7",))
    assert told["codes_3d"] == 0
    assert told["fresh_repair"] > 0.9
    assert "since part CT-TUBE-7" in told


def test_an_inspection_without_a_part_leaves_the_signs() -> None:
    told = closed(())
    assert told["codes_3d"] > 1
    assert told["fresh_repair"] == 0
