"""Simulated staff: once a virtual day they acknowledge what fires and close orders with what really was the matter.

They know the truth only up to now. An order is closed when the failure that it was about has been repaired; if nothing
has failed a week after it was opened, nothing was found, for signs that came to nothing leave nothing behind. Planned
work is done within days.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID, uuid5

import psycopg
from psycopg.rows import class_row

from schema.commands import AcknowledgeAlert, AssignWorkOrder, CloseWorkOrder, Command
from simulator.truth import Failure, Truth

ACTOR = "simulated staff"
DAY_MS = 86_400_000
WAIT_MS = 7 * DAY_MS
"""How long an order stays open while nothing fails; the horizon of predictions."""
BEFORE_MS = 2 * DAY_MS
"""An order may be opened this long after the failure that it is about: a repair takes up to two days."""
PLANNED_MS = 5 * DAY_MS
"""How long after it was opened planned work is done."""
_NAMESPACE = UUID("0c2a4e0e-3d5f-5b8a-9d5e-5f1c7c0f51af")


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert that is firing."""

    alert_id: str
    device_id: str
    site_id: str
    detector: str
    subsystem: str


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """A work order that is not done."""

    work_order_id: str
    device_id: str
    subsystem: str
    opened_ms: int
    technician_id: str
    suggested_technician_id: str
    kind: str = ""


class Workplace(Protocol):
    """What staff see and do; given by whoever composes the run."""

    def wait_committed(self, at_ms: int) -> None:
        """Wait until every partition has committed the tick at `at_ms`."""

    def open_alerts(self) -> Sequence[OpenAlert]:
        """Alerts that are firing."""

    def open_orders(self) -> Sequence[OpenOrder]:
        """Work orders that are not done."""

    def send(self, commands: Sequence[Command]) -> None:
        """Send commands in this order and wait until they are committed."""


def work(workplace: Workplace, truth: Truth, at_ms: int) -> None:
    """One virtual day's work, at the clock `at_ms`."""
    workplace.wait_committed(at_ms)
    commands = decide(workplace.open_orders(), workplace.open_alerts(), truth, at_ms)
    if commands:
        workplace.send(commands)


def decide(orders: Sequence[OpenOrder], alerts: Sequence[OpenAlert], truth: Truth, now_ms: int) -> list[Command]:
    """What staff do at `now_ms`, in canonical order: acknowledge, assign, close. They know nothing of later."""
    run = truth.run
    day = (now_ms - run.start_ms) // DAY_MS

    def name(action: str, target: str) -> str:
        return str(uuid5(_NAMESPACE, f"{run.seed}/{run.start_ms}/{day}/{action}/{target}"))

    commands: list[Command] = [
        AcknowledgeAlert(
            command_id=name("acknowledge", alert.alert_id), actor=ACTOR, comment="seen", alert_id=alert.alert_id
        )
        for alert in sorted(alerts, key=lambda alert: (alert.device_id, alert.site_id, alert.detector, alert.subsystem))
    ]
    orders = sorted(orders, key=lambda order: (order.opened_ms, order.device_id, order.subsystem))
    failures = [failure for failure in truth.of(Failure) if failure.at_ms <= now_ms]
    for order in orders:
        close = _close(order, failures, now_ms, name("close", order.work_order_id))
        if close is not None:
            commands.append(close)
        elif not order.technician_id and order.suggested_technician_id:
            commands.append(
                AssignWorkOrder(
                    command_id=name("assign", order.work_order_id),
                    actor=ACTOR,
                    work_order_id=order.work_order_id,
                    technician_id=order.suggested_technician_id,
                )
            )
    return commands


def _close(order: OpenOrder, failures: list[Failure], now_ms: int, command_id: str) -> CloseWorkOrder | None:
    """How the order is to be closed, None to keep it open."""
    if order.kind == "preventive":
        if now_ms - order.opened_ms < PLANNED_MS:
            return None
        return CloseWorkOrder(
            command_id=command_id,
            actor=ACTOR,
            comment="maintained",
            work_order_id=order.work_order_id,
            outcome="confirmed",
        )
    about = [
        failure
        for failure in failures
        if failure.device_id == order.device_id
        and order.subsystem in ("", failure.subsystem)
        and order.opened_ms - BEFORE_MS <= failure.at_ms < order.opened_ms + WAIT_MS
    ]
    if about:
        failure = about[-1]
        if failure.repaired_ms > now_ms:
            return None
        return CloseWorkOrder(
            command_id=command_id,
            actor=ACTOR,
            comment=f"{failure.code}, repaired",
            work_order_id=order.work_order_id,
            outcome="part_replaced" if failure.part_ids else "confirmed",
            part_ids=failure.part_ids,
        )
    if now_ms - order.opened_ms < WAIT_MS:
        return None
    return CloseWorkOrder(
        command_id=command_id,
        actor=ACTOR,
        comment="inspected, nothing found",
        work_order_id=order.work_order_id,
        outcome="no_fault_found",
    )


def open_alerts(connection: psycopg.Connection) -> list[OpenAlert]:
    """Firing alerts, from the database."""
    with connection.cursor(row_factory=class_row(OpenAlert)) as cursor:
        return cursor.execute(
            "SELECT alert_id::text, device_id, site_id, detector, subsystem FROM alerts WHERE state = 'firing'"
        ).fetchall()


def open_orders(connection: psycopg.Connection) -> list[OpenOrder]:
    """Work orders that are not done, from the database."""
    with connection.cursor(row_factory=class_row(OpenOrder)) as cursor:
        return cursor.execute(
            "SELECT work_order_id::text, device_id, subsystem, round(extract(epoch FROM opened_at) * 1000)::bigint"
            " AS opened_ms, technician_id, suggested_technician_id, kind FROM work_orders WHERE state <> 'done'"
        ).fetchall()
