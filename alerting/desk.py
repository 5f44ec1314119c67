"""The desk of a partition: findings, days, ticks and commands go in, rows come out. One picklable object."""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

import msgspec

from alerting.alerts import AlertBook
from alerting.customers import CustomerBook
from alerting.directory import Directory
from alerting.lifecycle import Acknowledged, Alert, Closed
from alerting.orders import Assigned, Done, Started
from alerting.policy import DAY_MS, OrderKind
from alerting.suppression import Suppression
from alerting.usage import DeviceDay
from alerting.workorders import OrderBook
from schema.catalogue import Catalogue
from schema.commands import (
    AcknowledgeAlert,
    AcknowledgeFlag,
    AssignWorkOrder,
    CloseAlert,
    CloseFlag,
    CloseWorkOrder,
    Command,
    Outcome,
    Silence,
    StartWorkOrder,
)
from schema.findings import Finding
from schema.ids import derived_id
from schema.registry import Calendar, Device, RegistryEntry
from schema.rows import AuditRow, Row, SilenceRow

_REMEMBERED_COMMANDS = 10_000


class Label(msgspec.Struct, frozen=True):
    """What people found out about an alert: what the models learn from."""

    device_id: str
    detector: str
    subsystem: str
    outcome: Literal["confirmed", "false"]
    at_ms: int
    """When people said so (the partition's time)."""
    raised_ms: int
    """When the alert was raised."""
    order_kind: OrderKind
    """Kind of the work order that was closed, as it ended; empty if the alert itself was judged."""
    part_ids: tuple[str, ...] = ()
    """Parts that the work has used."""


class _Refusal(Exception):
    """Why a command cannot be applied; the text is for the person who sent it."""


class Desk:
    """Alerts, work orders, customers and silences of one partition.

    `observe` and `repaired` are called as messages are applied and depend on that device alone; whatever joins devices
    happens in `tick` and `day`, in canonical order. All times are ms since the epoch; `now_ms` is the partition's time.
    The same calls in the same order per device give the same rows, however devices interleave between two ticks.

    `catalogue` may be replaced after unpickling, when a newer one is in use.
    """

    def __init__(self, partition: int, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._directory = Directory()
        self._suppression = Suppression()
        self._alerts = AlertBook(partition, self._directory, self._suppression)
        self._orders = OrderBook(partition, self._directory)
        self._customers = CustomerBook(partition, self._directory)
        self._labels: list[Label] = []
        self._commands: deque[str] = deque(maxlen=_REMEMBERED_COMMANDS)
        self._commands_seen: set[str] = set()
        self._down_ms: dict[str, int] = {}
        """When each device was last known to be down after a hard failure."""
        self._day = -1

    def register(self, entry: RegistryEntry) -> None:
        """Take over a customer, site, device, technician or calendar; it replaces one with the same id."""
        self._directory.register(entry)
        if isinstance(entry, Calendar):
            self._suppression.plan(entry)

    def same(self, device: Device) -> Device:
        """The desk's own entry of a device if it is equal: one in memory, not two."""
        known = self._directory.devices.get(device.device_id)
        return known if known == device else device

    def observe(self, finding: Finding, now_ms: int) -> list[Row]:
        """Apply a finding. Its rows carry event time; people are told as of `now_ms`."""
        if finding.detector == "fault_rule" and finding.score > 0 and self._stops(finding):
            self._alerts.failed(finding.device_id, finding.subsystem, finding.at_ms)
        return self._alerts.observe(finding, now_ms)

    def repaired(self, device_id: str, at_ms: int) -> list[Row]:
        """The device has booted again after a hard failure: what the failure and its prediction raised is over."""
        if self._alerts.is_failed(device_id):
            self._down_ms[device_id] = at_ms
        return self._alerts.repaired(device_id, at_ms)

    def left(self, device_id: str, now_ms: int, reason: str = "device has left") -> list[Row]:
        """The device is another partition's or another model: its alerts end; its orders are for people to close."""
        self._down_ms.pop(device_id, None)
        rows = self._alerts.left(device_id, now_ms, reason)
        self._directory.left(device_id)
        return rows

    def tick(self, now_ms: int) -> list[Row]:
        """Let time pass to `now_ms`: durations, what was held back, reminders; then open and give out work orders."""
        rows = self._alerts.tick(now_ms)
        if self._alerts.wanting:
            for alert in self._alerts.wanted():
                order, order_rows = self._orders.take(alert, now_ms, self.catalogue)
                rows += [*order_rows, self._alerts.attach(alert, order.work_order_id)]
                self._customers.note(order)
        if now_ms // DAY_MS != self._day:
            self._day = now_ms // DAY_MS
            self._suppression.forget(now_ms)
            self._alerts.forget(now_ms, self._orders.ids())
            self._down_ms = {each: at for each, at in self._down_ms.items() if at + 2 * DAY_MS > now_ms}
        return rows

    def day(self, customer_id: str, day_end_ms: int, devices: Sequence[DeviceDay]) -> list[Row]:
        """Judge a customer's UTC day that ended at `day_end_ms`; once a day, at a tick, in the order of customers.

        Devices that were down after a hard failure are excused: the failure counts as service, not as usage.
        """
        from_ms = day_end_ms - DAY_MS
        judged = [
            DeviceDay(each.device_id, each.observed, each.expected, "excused")
            if self._alerts.is_failed(each.device_id) or self._down_ms.get(each.device_id, -1) >= from_ms
            else each
            for each in devices
        ]
        return self._customers.day(customer_id, day_end_ms, judged)

    def command(self, command: Command, now_ms: int) -> list[Row]:
        """Apply a person's command, or refuse it; the last row says which, and why. A repeated id has no effect."""
        if command.command_id in self._commands_seen:
            return []
        if len(self._commands) == _REMEMBERED_COMMANDS:
            self._commands_seen.discard(self._commands[0])
        self._commands.append(command.command_id)
        self._commands_seen.add(command.command_id)
        try:
            target, detail, rows = self._apply(command, now_ms)
            result = "applied"
        except _Refusal as refusal:
            target, detail, rows = _target(command), str(refusal), []
            result = "refused"
        action = str(command.__struct_config__.tag)
        return [*rows, AuditRow(_audit_id(command), now_ms, command.actor, action, target, result, detail)]

    def open_alerts(self) -> Counter[str]:
        """Alerts that are up, by severity; for people to look at, from any thread."""
        return self._alerts.up()

    def labels(self) -> list[Label]:
        """What people have found out since the last call."""
        labels, self._labels = self._labels, []
        return labels

    def _apply(self, command: Command, now_ms: int) -> tuple[str, str, list[Row]]:
        target = _target(command)
        match command:
            case AcknowledgeAlert():
                alert = self._alert(command.alert_id)
                if alert.state != "firing":
                    raise _Refusal(f"the alert is {alert.state}; only a firing alert can be acknowledged")
                signal = Acknowledged(now_ms, command.actor, comment=command.comment)
                return target, "acknowledged", self._alerts.acknowledge(alert, signal, now_ms)
            case CloseAlert():
                alert = self._alert(command.alert_id)
                if alert.outcome:
                    raise _Refusal(f"the alert has been judged already: {alert.outcome}")
                rows = self._judge(alert, command.outcome, f"closed as {command.outcome}", command, now_ms, "")
                return target, f"closed as {command.outcome}", rows
            case AssignWorkOrder():
                if command.technician_id not in self._directory.technicians:
                    raise _Refusal(f"unknown technician {command.technician_id}")
                step = Assigned(now_ms, command.technician_id)
                return target, f"assigned to {command.technician_id}", self._advance(command, step, now_ms)
            case StartWorkOrder():
                return target, "work began", self._advance(command, Started(now_ms), now_ms)
            case CloseWorkOrder():
                done = Done(now_ms, command.outcome, command.part_ids, command.comment)
                return target, f"done: {command.outcome}", self._advance(command, done, now_ms)
            case AcknowledgeFlag() | CloseFlag():
                flag = self._customers.find(command.flag_id)
                if flag is None:
                    raise _Refusal(f"no open churn flag {command.flag_id}")
                if isinstance(command, CloseFlag):
                    detail = f"closed: {command.outcome}"
                    return target, detail, self._customers.close(flag, now_ms, command.outcome)
                if flag.state != "raised":
                    raise _Refusal(f"the flag is {flag.state}")
                return target, "acknowledged", self._customers.acknowledge(flag, now_ms)
            case Silence():
                return target, "silenced", self._silence(command, now_ms)

    def _advance(
        self, command: AssignWorkOrder | StartWorkOrder | CloseWorkOrder, step: Assigned | Started | Done, now_ms: int
    ) -> list[Row]:
        order = self._orders.find(command.work_order_id)
        if order is None:
            raise _Refusal(f"no open work order {command.work_order_id}")
        advanced = self._orders.advance(order, step, command.actor, command.comment)
        if isinstance(advanced, str):
            raise _Refusal(advanced)
        order, rows = advanced
        self._customers.note(order)
        for alert_id in order.alert_ids:
            alert = self._alerts.find(alert_id)
            if alert is not None and order.state == "done":
                outcome: Outcome = "false" if order.outcome == "no_fault_found" else "confirmed"
                reason = f"{order.number} done: {order.outcome}"
                rows += self._judge(alert, outcome, reason, command, now_ms, order.kind, order.used_part_ids)
            elif alert is not None:
                signal = Acknowledged(now_ms, command.actor, f"{order.number} {order.state}", command.comment)
                rows += self._alerts.acknowledge(alert, signal, now_ms)
        return rows

    def _judge(
        self,
        alert: Alert,
        outcome: Outcome,
        reason: str,
        command: CloseAlert | AssignWorkOrder | StartWorkOrder | CloseWorkOrder,
        now_ms: int,
        order_kind: OrderKind,
        part_ids: tuple[str, ...] = (),
    ) -> list[Row]:
        if outcome != "unclear" and not alert.outcome:
            self._labels.append(
                Label(
                    alert.device_id,
                    alert.detector,
                    alert.subsystem,
                    outcome,
                    now_ms,
                    alert.pending_ms,
                    order_kind,
                    part_ids,
                )
            )
        signal = Closed(now_ms, reason, command.actor, outcome, command.comment)
        return self._alerts.close(alert, signal, now_ms)

    def _silence(self, command: Silence, now_ms: int) -> list[Row]:
        if command.customer_id not in self._directory.customers:
            raise _Refusal(f"unknown customer {command.customer_id}")
        if not command.from_ms < command.until_ms:
            raise _Refusal("a silence must end after it begins")
        if command.until_ms <= now_ms:
            raise _Refusal("the silence would be over already")
        site = self._directory.sites.get(command.site_id)
        if command.site_id and (site is None or site.customer_id != command.customer_id):
            raise _Refusal(f"{command.site_id} is no site of {command.customer_id}")
        device = self._directory.devices.get(command.device_id)
        if command.device_id and (device is None or device.customer_id != command.customer_id):
            raise _Refusal(f"{command.device_id} is no device of {command.customer_id}")
        self._suppression.silence(command)
        return [
            SilenceRow(
                silence_id=_target(command),
                customer_id=command.customer_id,
                site_id=command.site_id,
                device_id=command.device_id,
                detector=command.detector,
                from_at=command.from_ms,
                until_at=command.until_ms,
                created_by=command.actor,
                comment=command.comment,
            )
        ]

    def _alert(self, alert_id: str) -> Alert:
        alert = self._alerts.find(alert_id)
        if alert is None:
            raise _Refusal(f"no alert {alert_id}, or it was over long ago")
        return alert

    def _stops(self, finding: Finding) -> bool:
        device = self._directory.devices.get(finding.device_id)
        model = self.catalogue.get(device.model) if device is not None else None
        codes: Any = finding.evidence.get("codes", ())
        return model is not None and any(code in model.faults and model.faults[code].stops_device for code in codes)


def _target(command: Command) -> str:
    match command:
        case AcknowledgeAlert() | CloseAlert():
            return command.alert_id
        case AssignWorkOrder() | StartWorkOrder() | CloseWorkOrder():
            return command.work_order_id
        case AcknowledgeFlag() | CloseFlag():
            return command.flag_id
        case Silence():
            return derived_id("silence", command.command_id)


def _audit_id(command: Command) -> str:
    """The command's id, or one derived from it if it is no UUID: a bad sender must not stop the partition."""
    try:
        return str(UUID(command.command_id))
    except ValueError:
        return derived_id("command", command.command_id)
