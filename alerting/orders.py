"""What a work order is, and its life `open → assigned → in_progress → done` as a pure function."""

from typing import Literal

import msgspec
from msgspec.structs import replace

from schema.commands import RepairOutcome
from schema.ids import derived_id
from schema.rows import WorkOrderEventRow, WorkOrderRow

OrderState = Literal["open", "assigned", "in_progress", "done"]
WorkKind = Literal["corrective", "inspection", "preventive"]
Priority = Literal["P1", "P2", "P3", "P4"]


class Order(msgspec.Struct, frozen=True):
    """A work order as it stands; the fields are those of its row."""

    work_order_id: str
    number: str
    device_id: str
    site_id: str
    customer_id: str
    kind: WorkKind
    subsystem: str
    priority: Priority
    opened_ms: int
    due_ms: int
    skill: str
    part_ids: tuple[str, ...]
    suggested_technician_id: str
    alert_ids: tuple[str, ...]
    state: OrderState = "open"
    assigned_ms: int | None = None
    started_ms: int | None = None
    done_ms: int | None = None
    technician_id: str = ""
    used_part_ids: tuple[str, ...] = ()
    outcome: str = ""
    note: str = ""
    events: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """One open order for each of these: (device, subsystem)."""
        return self.device_id, self.subsystem

    @property
    def load_on(self) -> str:
        """The technician whose day it fills: the one it is assigned to, else the suggested one."""
        return self.technician_id or self.suggested_technician_id


class Assigned(msgspec.Struct, frozen=True):
    """Given to a technician."""

    at_ms: int
    technician_id: str


class Started(msgspec.Struct, frozen=True):
    """Work has begun."""

    at_ms: int


class Done(msgspec.Struct, frozen=True):
    """Work is done, with what was found and used."""

    at_ms: int
    outcome: RepairOutcome
    part_ids: tuple[str, ...]
    note: str


def advance(order: Order, step: Assigned | Started | Done) -> Order | str:
    """The order after `step`, or why the step cannot be taken."""
    if order.state == "done":
        return f"{order.number} is done"
    match step:
        case Assigned():
            if order.state == "in_progress":
                return f"work on {order.number} has begun"
            return replace(order, state="assigned", assigned_ms=step.at_ms, technician_id=step.technician_id)
        case Started():
            if order.state != "assigned":
                return f"{order.number} is {order.state}; it starts from assigned"
            return replace(order, state="in_progress", started_ms=step.at_ms)
        case Done():
            return replace(
                order,
                state="done",
                done_ms=step.at_ms,
                outcome=step.outcome,
                used_part_ids=step.part_ids,
                note=step.note,
            )


def order_row(order: Order, partition: int) -> WorkOrderRow:
    """The order's row."""
    return WorkOrderRow(
        work_order_id=order.work_order_id,
        number=order.number,
        device_id=order.device_id,
        site_id=order.site_id,
        customer_id=order.customer_id,
        kind=order.kind,
        subsystem=order.subsystem,
        priority=order.priority,
        state=order.state,
        opened_at=order.opened_ms,
        due_at=order.due_ms,
        assigned_at=order.assigned_ms,
        started_at=order.started_ms,
        done_at=order.done_ms,
        suggested_technician_id=order.suggested_technician_id,
        technician_id=order.technician_id,
        skill=order.skill,
        part_ids=list(order.part_ids),
        used_part_ids=list(order.used_part_ids),
        outcome=order.outcome,
        note=order.note,
        alert_ids=list(order.alert_ids),
        partition=partition,
    )


def order_event_row(
    order: Order, at_ms: int, from_state: str, reason: str, actor: str = "", comment: str = ""
) -> WorkOrderEventRow:
    """The row of the step that led to the order as it stands; `order.events` numbers it."""
    return WorkOrderEventRow(
        event_id=derived_id("work_order_event", order.work_order_id, at_ms, order.state, order.events),
        work_order_id=order.work_order_id,
        at=at_ms,
        from_state=from_state,
        to_state=order.state,
        reason=reason,
        actor=actor,
        comment=comment,
    )
