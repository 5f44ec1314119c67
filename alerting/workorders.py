"""The work orders of a partition: at most one open for each device and subsystem, numbered and dispatched at ticks."""

from msgspec.structs import replace

from alerting.directory import Directory
from alerting.dispatch import Needs, needs, suggest, urgency
from alerting.lifecycle import Alert
from alerting.messages import order_message
from alerting.orders import Assigned, Done, Order, Started, WorkKind, advance, order_event_row, order_row
from alerting.policy import policy_of
from schema.catalogue import Catalogue
from schema.ids import derived_id
from schema.rows import Row

_MOST_ALERTS = 100
"""An order lists its first alerts; more than that say nothing new."""


class OrderBook:
    """Open orders by device and subsystem. Memory: open orders only, and a counter."""

    def __init__(self, partition: int, directory: Directory) -> None:
        self._partition = partition
        self._directory = directory
        self._open: dict[tuple[str, str], Order] = {}
        self._keys: dict[str, tuple[str, str]] = {}
        self._numbers = 0

    def find(self, work_order_id: str) -> Order | None:
        """The open order with this id."""
        key = self._keys.get(work_order_id)
        return self._open[key] if key is not None else None

    def ids(self) -> set[str]:
        """Ids of all open orders."""
        return set(self._keys)

    def take(self, alert: Alert, now_ms: int, catalogue: Catalogue) -> tuple[Order, list[Row]]:
        """Attach the alert to the open order of its device and subsystem, or open one."""
        order = self._open.get((alert.device_id, alert.subsystem))
        wanted = needs(alert, self._model(alert.device_id), catalogue)
        if order is None:
            return self._new(alert, wanted, now_ms)
        return self._attach(order, alert, wanted, now_ms)

    def advance(
        self, order: Order, step: Assigned | Started | Done, actor: str, comment: str
    ) -> tuple[Order, list[Row]] | str:
        """Take a step that somebody asked for; or why it cannot be taken."""
        after = advance(order, step)
        if isinstance(after, str):
            return after
        reason = {"assigned": "assigned", "in_progress": "work began", "done": f"done: {after.outcome}"}[after.state]
        return self._keep(order, after, step.at_ms, reason, actor, comment)

    def load(self) -> dict[str, int]:
        """Open orders by technician."""
        load: dict[str, int] = {}
        for order in self._open.values():
            load[order.load_on] = load.get(order.load_on, 0) + 1
        return load

    def _new(self, alert: Alert, wanted: Needs, now_ms: int) -> tuple[Order, list[Row]]:
        kind = _kind(alert)
        priority, within_ms = urgency(kind, alert)
        self._numbers += 1
        region = self._directory.region_of(alert.site_id, alert.customer_id)
        order = Order(
            work_order_id=derived_id("work_order", alert.device_id, alert.subsystem, alert.alert_id),
            number=f"WO-{self._partition}-{self._numbers:06d}",
            device_id=alert.device_id,
            site_id=alert.site_id,
            customer_id=alert.customer_id,
            kind=kind,
            subsystem=alert.subsystem,
            priority=priority,
            opened_ms=now_ms,
            due_ms=now_ms + within_ms,
            skill=wanted.skill,
            part_ids=wanted.part_ids,
            suggested_technician_id=suggest(wanted.skill, region, self._directory.technicians, self.load()),
            alert_ids=(alert.alert_id,),
        )
        order, rows = self._keep(None, order, now_ms, f"opened for {alert.detector}, {alert.severity}", "", "")
        return order, [*rows, order_message(order, self._directory)]

    def _attach(self, order: Order, alert: Alert, wanted: Needs, now_ms: int) -> tuple[Order, list[Row]]:
        kind = _kind(alert)
        priority, within_ms = urgency(kind, alert)
        more_urgent = priority < order.priority
        failed = order.kind != "corrective" and kind == "corrective"
        foreseen = order.kind == "preventive" and kind == "inspection"
        after = replace(
            order,
            alert_ids=(*order.alert_ids, alert.alert_id) if len(order.alert_ids) < _MOST_ALERTS else order.alert_ids,
            kind=kind if failed or foreseen else order.kind,
            priority=min(priority, order.priority),
            due_ms=min(order.due_ms, now_ms + within_ms),
            part_ids=(*order.part_ids, *(part for part in wanted.part_ids if part not in order.part_ids)),
            skill=wanted.skill if failed else order.skill,
        )
        if not (failed or more_urgent):
            self._open[after.key] = after
            return after, [order_row(after, self._partition)]
        return self._keep(
            order, after, now_ms, "it failed before the visit" if failed else f"more urgent: {alert.severity}", "", ""
        )

    def _keep(
        self, before: Order | None, order: Order, at_ms: int, reason: str, actor: str, comment: str
    ) -> tuple[Order, list[Row]]:
        order = replace(order, events=order.events + 1)
        if order.state == "done":
            self._open.pop(order.key)
            self._keys.pop(order.work_order_id)
        else:
            self._open[order.key] = order
            self._keys[order.work_order_id] = order.key
        event = order_event_row(order, at_ms, before.state if before else "", reason, actor, comment)
        return order, [order_row(order, self._partition), event]

    def _model(self, device_id: str) -> str:
        device = self._directory.devices.get(device_id)
        return device.model if device is not None else ""


def _kind(alert: Alert) -> WorkKind:
    return policy_of(alert.detector).order or "corrective"
