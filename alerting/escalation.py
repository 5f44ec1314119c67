"""Who hears again of an alert that nobody has acknowledged: one escalation, then reminders that grow rarer, and end."""

from typing import Literal, NamedTuple

from alerting.lifecycle import Alert
from alerting.policy import HOUR_MS
from schema.findings import Severity

Audience = Literal["service", "service_manager", "account_manager", "regional_manager", "sales_director", "executive"]


class Step(NamedTuple):
    """One message about an alert that is still firing, `after_ms` after people were first told."""

    after_ms: int
    kind: Literal["alert_escalated", "alert_reminder"]
    audience: Audience


STEPS: dict[Severity, tuple[Step, ...]] = {
    # A device stands still: an hour is long for the hospital. The gaps between reminders double or triple, and after
    # three days the next words must come from a person.
    "critical": (
        Step(HOUR_MS, "alert_escalated", "service_manager"),
        Step(4 * HOUR_MS, "alert_reminder", "service"),
        Step(12 * HOUR_MS, "alert_reminder", "service"),
        Step(28 * HOUR_MS, "alert_reminder", "service_manager"),
        Step(72 * HOUR_MS, "alert_reminder", "service_manager"),
    ),
    # A working day passes before the manager hears of it.
    "error": (Step(24 * HOUR_MS, "alert_escalated", "service_manager"),),
    "warning": (),
    "info": (),
}


def next_step(alert: Alert) -> tuple[int, Step] | None:
    """When the next message about an unacknowledged alert is due, and what it is."""
    steps = STEPS[alert.severity]
    if alert.state != "firing" or alert.told_ms is None or alert.steps >= len(steps):
        return None
    step = steps[alert.steps]
    return alert.told_ms + step.after_ms, step
