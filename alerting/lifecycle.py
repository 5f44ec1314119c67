"""The life of an alert, `pending → firing → acknowledged → resolved`, as a pure function that says why.

`resolved` is the end: what comes again later is another alert, which counts the flaps of its predecessor.
"""

from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from alerting.policy import Policy, rank
from schema.commands import Outcome
from schema.findings import Finding, Severity
from schema.ids import derived_id

AlertState = Literal["pending", "firing", "acknowledged", "resolved"]
AlertKey = tuple[str, str, str, str]
"""(device, detector, subsystem, site); the site is empty but for alerts of a whole site, whose device is empty."""

_UNITS_MS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"))


class Alert(msgspec.Struct, frozen=True):
    """An alert as it stands."""

    alert_id: str
    device_id: str
    site_id: str
    customer_id: str
    detector: str
    subsystem: str
    severity: Severity
    state: AlertState
    onset_ms: int
    pending_ms: int
    score: float
    evidence: dict[str, Any]
    """Of the last finding that was above the raise threshold: why it fired stays readable when it is over."""
    changed_ms: int
    """Time of the last transition; transitions never go back in time."""
    raised_ms: int
    """Event time of the last finding above the raise threshold."""
    reason: str
    flaps: int = 0
    fired_ms: int | None = None
    acknowledged_ms: int | None = None
    acknowledged_by: str = ""
    resolved_ms: int | None = None
    outcome: str = ""
    below_ms: int | None = None
    """Since when the score has been below the resolve threshold."""
    suppressed_by: str = ""
    held: bool = False
    """What suppresses it also keeps it from firing."""
    work_order_id: str | None = None
    events: int = 0
    """Transitions so far."""
    told_ms: int | None = None
    """When people were first told."""
    steps: int = 0
    """Escalations and reminders sent."""

    @property
    def key(self) -> AlertKey:
        """What it is deduplicated by."""
        return self.device_id, self.detector, self.subsystem, "" if self.device_id else self.site_id

    @property
    def is_up(self) -> bool:
        """Firing, whether or not somebody has acknowledged it."""
        return self.state in ("firing", "acknowledged")


class Judged(msgspec.Struct, frozen=True):
    """The detector has judged again."""

    at_ms: int
    score: float
    severity: Severity
    evidence: dict[str, Any]


class Elapsed(msgspec.Struct, frozen=True):
    """Time has passed."""

    at_ms: int


class Acknowledged(msgspec.Struct, frozen=True):
    """Somebody has taken it up."""

    at_ms: int
    actor: str
    reason: str = "acknowledged"
    comment: str = ""


class Closed(msgspec.Struct, frozen=True):
    """Somebody has judged it; an empty outcome says that it is over without a judgement."""

    at_ms: int
    reason: str
    actor: str = ""
    outcome: Outcome | Literal[""] = ""
    comment: str = ""


Signal = Judged | Elapsed | Acknowledged | Closed


class Transition(msgspec.Struct, frozen=True):
    """One step of an alert's history; both states are the same where only its severity or its judgement changed."""

    at_ms: int
    from_state: AlertState | Literal[""]
    to_state: AlertState
    reason: str
    actor: str = ""
    comment: str = ""


def raised(finding: Finding, *, after_ms: int | None, flaps: int) -> tuple[Alert, Transition]:
    """A new alert of a finding above the raise threshold.

    `after_ms` is when the last alert of the same key ended, if any: an alert never begins before its predecessor's
    end, which also keeps their ids apart when the detector reports the same onset again.
    """
    floor_ms = -1 if after_ms is None else after_ms + 1
    onset_ms = max(finding.onset_ms, floor_ms)
    at_ms = max(finding.at_ms, onset_ms)
    alert = Alert(
        alert_id=derived_id(
            "alert", finding.device_id or f"site/{finding.site_id}", finding.detector, finding.subsystem, onset_ms
        ),
        device_id=finding.device_id,
        site_id=finding.site_id,
        customer_id=finding.customer_id,
        detector=finding.detector,
        subsystem=finding.subsystem,
        severity=finding.severity,
        state="pending",
        onset_ms=onset_ms,
        pending_ms=at_ms,
        score=finding.score,
        evidence=finding.evidence,
        changed_ms=at_ms,
        raised_ms=at_ms,
        reason="condition seen",
        flaps=flaps,
        events=1,
    )
    return alert, Transition(at_ms, "", "pending", alert.reason)


def decide(alert: Alert, signal: Signal, policy: Policy) -> tuple[Alert, Transition | None]:
    """The alert after `signal`, and the transition that it made, if any."""
    match signal:
        case Judged():
            return _judged(alert, signal, policy)
        case Elapsed():
            return _elapsed(alert, signal.at_ms, policy) if policy.by_ticks else (alert, None)
        case Acknowledged():
            if alert.state != "firing":
                return alert, None
            alert = replace(alert, acknowledged_ms=max(signal.at_ms, alert.changed_ms), acknowledged_by=signal.actor)
            return _step(alert, signal.at_ms, "acknowledged", signal.reason, signal.actor, signal.comment)
        case Closed():
            return _closed(alert, signal)


def _judged(alert: Alert, signal: Judged, policy: Policy) -> tuple[Alert, Transition | None]:
    if alert.state == "resolved":
        return alert, None
    if signal.score >= policy.raise_at:
        return _still_there(alert, signal, policy)
    if signal.score >= policy.resolve_below:
        return (alert if alert.below_ms is None else replace(alert, below_ms=None)), None
    if alert.state == "pending":
        return _end(alert, signal.at_ms, "gone before it fired")
    if alert.below_ms is None:
        alert = replace(alert, below_ms=max(signal.at_ms, alert.changed_ms))
    return _end_if_kept_below(alert, signal.at_ms, policy)


def _still_there(alert: Alert, signal: Judged, policy: Policy) -> tuple[Alert, Transition | None]:
    rises = rank(signal.severity) - rank(alert.severity)
    alert = replace(
        alert,
        severity=signal.severity,
        score=signal.score,
        evidence=signal.evidence,
        raised_ms=max(signal.at_ms, alert.raised_ms),
        below_ms=None,
        flaps=alert.flaps + (alert.below_ms is not None),
    )
    if alert.state == "pending":
        return _fire_if_due(alert, signal.at_ms, policy)
    if rises:
        word = "rose" if rises > 0 else "fell"
        return _step(alert, signal.at_ms, alert.state, f"severity {word} to {alert.severity}")
    return alert, None


def _elapsed(alert: Alert, at_ms: int, policy: Policy) -> tuple[Alert, Transition | None]:
    if alert.state == "pending":
        return _fire_if_due(alert, at_ms, policy)
    if alert.is_up and alert.below_ms is not None:
        return _end_if_kept_below(alert, at_ms, policy)
    return alert, None


def _fire_if_due(alert: Alert, at_ms: int, policy: Policy) -> tuple[Alert, Transition | None]:
    for_ms = policy.stretched(policy.for_ms, alert.flaps)
    if alert.held or at_ms - alert.pending_ms < for_ms:
        return alert, None
    alert = replace(alert, fired_ms=max(at_ms, alert.changed_ms))
    return _step(alert, at_ms, "firing", f"held for {duration(for_ms)}" if for_ms else "immediate")


def _end_if_kept_below(alert: Alert, at_ms: int, policy: Policy) -> tuple[Alert, Transition | None]:
    keep_ms = policy.stretched(policy.keep_ms, alert.flaps)
    if alert.below_ms is None or at_ms - alert.below_ms < keep_ms:
        return alert, None
    return _end(alert, at_ms, f"gone for {duration(keep_ms)}" if keep_ms else "gone")


def _closed(alert: Alert, signal: Closed) -> tuple[Alert, Transition | None]:
    if alert.state != "resolved":
        alert = replace(alert, outcome=signal.outcome)
        return _end(alert, signal.at_ms, signal.reason, signal.actor, signal.comment)
    if not signal.outcome or alert.outcome:
        return alert, None
    alert = replace(alert, outcome=signal.outcome)
    return _step(alert, signal.at_ms, "resolved", signal.reason, signal.actor, signal.comment)


def _end(alert: Alert, at_ms: int, reason: str, actor: str = "", comment: str = "") -> tuple[Alert, Transition]:
    alert = replace(alert, resolved_ms=max(at_ms, alert.changed_ms))
    return _step(alert, at_ms, "resolved", reason, actor, comment)


def _step(
    alert: Alert, at_ms: int, to_state: AlertState, reason: str, actor: str = "", comment: str = ""
) -> tuple[Alert, Transition]:
    at_ms = max(at_ms, alert.changed_ms)
    transition = Transition(at_ms, alert.state, to_state, reason, actor, comment)
    return replace(alert, state=to_state, reason=reason, changed_ms=at_ms, events=alert.events + 1), transition


def duration(length_ms: int) -> str:
    """For people: `15 min`, `2 h`, `3 d`."""
    unit_ms, unit = next((each for each in _UNITS_MS if length_ms % each[0] == 0), _UNITS_MS[-1])
    return f"{length_ms // unit_ms} {unit}"
