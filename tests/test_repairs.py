"""What a repair ends, whether the device had failed or was only about to."""

from detectors.failure_risk import FailureRisk
from schema.catalogue import load_catalogue
from schema.commands import CloseWorkOrder
from schema.messages import Fault, Message, Reading
from schema.record import Tick, decode, encode_telemetry
from schema.registry import Customer, Device, Site
from schema.rows import WorkOrderRow
from streams.pane_rows import HOUR_MS
from streams.partition import Partition

FAILED_HOUR = 60
"""When the gantry fails, if it does."""


def scanner() -> Partition:
    """A partition that knows of one scanner."""
    partition = Partition(0, load_catalogue())
    partition.apply(
        (
            Customer(customer_id="c", name="c"),
            Site(site_id="s", customer_id="c", name="s"),
            Device(device_id="d", model="ct", site_id="s", customer_id="c", installed_ms=0),
        )
    )
    partition.apply(Tick("bridge", 0, "joined"))
    return partition


def strained() -> tuple[Partition, WorkOrderRow]:
    """A scanner whose tube has warned every hour for a day and a half, and the order that came of it."""
    partition = scanner()
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


def told(partition: Partition, hour: int, *codes: tuple[str, str]) -> None:
    """The scanner is heard in an hour, with codes of the gantry and their severities, and the tick behind it."""
    at_ms = hour * HOUR_MS
    boot = 2 if hour > FAILED_HOUR + 24 else 1
    faults = tuple(Fault(at_ms, code, severity, "gantry", "") for code, severity in codes)
    message = Message("d", "telemetry", boot, hour, at_ms, at_ms, (Reading(at_ms, "scans", hour),), faults)
    partition.apply(decode(encode_telemetry([message], source="bridge", receive_ms=at_ms)))
    partition.apply(Tick("bridge", at_ms))


def outcomes(codes: dict[int, tuple[str, str]], closed_hour: int) -> tuple[str, dict[int, bool]]:
    """Codes of the gantry by hour, and an order of it that ends with a new part: how, and what is learnt by hour."""
    partition = scanner()
    for hour in range(1, closed_hour):
        told(partition, hour, *[codes[hour]] if hour in codes else [])
    rows = partition.effects.rows.values()
    order = next(row for row in rows if isinstance(row, WorkOrderRow) and row.subsystem == "gantry")
    kind = order.kind
    done = CloseWorkOrder(
        command_id="1",
        actor="technician",
        work_order_id=order.work_order_id,
        outcome="part_replaced",
        part_ids=("CT-GAN-3",),
    )
    partition.apply((done,))
    partition.apply(Tick("bridge", closed_hour * HOUR_MS))
    known = partition.shared.risk.mature(closed_hour * HOUR_MS + FailureRisk.HORIZON_MS)
    return kind, {each.at_ms // HOUR_MS: each.happened for each in known if each.subsystem == "gantry"}


def test_a_part_replaced_after_an_error_that_did_not_stop_the_device_teaches_that_it_would_have_failed() -> None:
    kind, happened = outcomes({30: ("GAN-202", "error")}, closed_hour=48)
    assert kind == "corrective"
    assert happened
    assert all(happened.values())


def test_an_inspection_that_an_error_made_urgent_teaches_the_same() -> None:
    warnings = dict.fromkeys(range(1, 40), ("GAN-201", "warning"))
    kind, happened = outcomes(warnings | {40: ("GAN-202", "error")}, closed_hour=48)
    assert kind == "corrective"
    assert all(happened.values())


def test_work_on_what_had_failed_teaches_no_more_than_the_failure() -> None:
    codes = {30: ("GAN-202", "error"), FAILED_HOUR: ("GAN-900", "critical")}
    _, happened = outcomes(codes, closed_hour=FAILED_HOUR + 72)
    before = {hour: each for hour, each in happened.items() if hour < FAILED_HOUR}
    assert before
    assert all(before.values())
    assert not any(each for hour, each in happened.items() if hour >= FAILED_HOUR)
