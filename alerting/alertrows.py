"""The rows of an alert and of the steps of its history."""

from alerting.lifecycle import Alert, Transition
from schema.ids import derived_id
from schema.rows import AlertEventRow, AlertRow


def alert_row(alert: Alert, partition: int) -> AlertRow:
    """The alert as it stands."""
    return AlertRow(
        alert_id=alert.alert_id,
        device_id=alert.device_id,
        site_id=alert.site_id,
        customer_id=alert.customer_id,
        detector=alert.detector,
        subsystem=alert.subsystem,
        severity=alert.severity,
        state=alert.state,
        onset_at=alert.onset_ms,
        pending_at=alert.pending_ms,
        fired_at=alert.fired_ms,
        acknowledged_at=alert.acknowledged_ms,
        acknowledged_by=alert.acknowledged_by,
        resolved_at=alert.resolved_ms,
        reason=alert.reason,
        outcome=alert.outcome,
        score=alert.score,
        flaps=alert.flaps,
        suppressed_by=alert.suppressed_by,
        work_order_id=alert.work_order_id,
        evidence=alert.evidence,
        partition=partition,
    )


def alert_event_row(alert: Alert, transition: Transition) -> AlertEventRow:
    """The transition that led to the alert as it stands; `alert.events` numbers it."""
    return AlertEventRow(
        event_id=derived_id("alert_event", alert.alert_id, transition.at_ms, transition.to_state, alert.events),
        alert_id=alert.alert_id,
        at=transition.at_ms,
        from_state=transition.from_state,
        to_state=transition.to_state,
        reason=transition.reason,
        actor=transition.actor,
        comment=transition.comment,
    )
