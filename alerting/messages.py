"""Rows of the outbox: who is told what, under which idempotency key."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from alerting.directory import Directory
from alerting.escalation import Audience
from alerting.lifecycle import Alert
from alerting.orders import Order
from alerting.texts import Text, text
from schema.ids import derived_id
from schema.rows import OutboxRow

AlertMessage = Literal["alert_fired", "alert_worse", "alert_escalated", "alert_reminder", "alert_resolved"]


def alert_message(
    alert: Alert, kind: AlertMessage, at_ms: int, directory: Directory, audience: Audience = "service"
) -> OutboxRow:
    """Tell `audience` about an alert."""
    what = text(f"detector.{alert.detector}")
    if alert.subsystem:
        what = Text(f"{what.en} ({alert.subsystem})", f"{what.zh}（{alert.subsystem}）")
    subject = text(
        kind,
        severity=text(f"severity.{alert.severity}"),
        what=what,
        device=alert.device_id or alert.site_id or text("platform"),
        customer=directory.name_of(alert.customer_id) or text("all_customers"),
        reason=alert.reason,
    )
    payload = {
        "alert_id": alert.alert_id,
        "device_id": alert.device_id,
        "site_id": alert.site_id,
        "customer_id": alert.customer_id,
        "detector": alert.detector,
        "subsystem": alert.subsystem,
        "severity": alert.severity,
        "state": alert.state,
        "reason": alert.reason,
        "onset_ms": alert.onset_ms,
        "evidence": alert.evidence,
    }
    key = derived_id("outbox", alert.alert_id, kind, alert.events, alert.steps)
    more = [] if kind == "alert_resolved" else _in_words(alert.evidence)
    return _row(key, at_ms, audience, kind, subject, payload, more)


def order_message(order: Order, directory: Directory) -> OutboxRow:
    """Tell dispatch about a new work order."""
    subject = text(
        "order_opened",
        number=order.number,
        priority=order.priority,
        kind=text(f"kind.{order.kind}"),
        device=order.device_id,
        customer=directory.name_of(order.customer_id),
    )
    payload = {
        "work_order_id": order.work_order_id,
        "number": order.number,
        "device_id": order.device_id,
        "site_id": order.site_id,
        "customer_id": order.customer_id,
        "subsystem": order.subsystem,
        "kind": order.kind,
        "priority": order.priority,
        "due_ms": order.due_ms,
        "part_ids": list(order.part_ids),
        "skill": order.skill,
        "suggested_technician_id": order.suggested_technician_id,
    }
    key = derived_id("outbox", order.work_order_id, "order_opened")
    return _row(key, order.opened_ms, "service", "order_opened", subject, payload)


def flag_message(
    flag_id: str,
    level: str,
    at_ms: int,
    audience: Audience,
    customer: str,
    decline_pct: float,
    intervention: str,
    evidence: dict[str, Any],
) -> OutboxRow:
    """Tell the level's owner that a churn flag was raised or has risen to `level`."""
    subject = text("flag_raised", level=text(f"level.{level}"), customer=customer, decline=f"{decline_pct:.0f}")
    advice = [text(f"intervention.{intervention}"), text(f"action.{level}")]
    payload = {"flag_id": flag_id, "level": level, "decline_pct": decline_pct, "evidence": evidence}
    key = derived_id("outbox", flag_id, "flag_raised", level)
    return _row(key, at_ms, audience, "flag_raised", subject, payload, advice)


def _in_words(evidence: Mapping[str, Any]) -> list[Text]:
    """What of the evidence people need at first sight: how usage fell, since when (UTC day), by how much."""
    if "shape" not in evidence:
        return []
    return [
        text(
            f"usage_shape.{evidence['shape']}",
            since=datetime.fromtimestamp(evidence["window"][0] / 1000, UTC).date().isoformat(),
            fall=f"{evidence['fall_pct']:.0f}",
            certainty=f"{100 * evidence['shape_certainty']:.0f}",
        )
    ]


def _row(
    key: str,
    at_ms: int,
    audience: Audience,
    kind: str,
    subject: Text,
    payload: dict[str, Any],
    more: list[Text] | None = None,
) -> OutboxRow:
    lines = [subject, *(more or ())]
    return OutboxRow(
        outbox_id=key,
        created_at=at_ms,
        audience=audience,
        kind=kind,
        subject=subject.en,
        body="\n".join([*(line.en for line in lines), *(line.zh for line in lines)]),
        payload=payload,
    )
