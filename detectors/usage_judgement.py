"""What is said of a device's usage after a day, and the same in alerting's words."""

from typing import Any, Literal

import msgspec

from schema.findings import Finding, Severity

VERSION = "usage_drop/2"
Shape = Literal["none", "step", "ramp", "stop"]


class UsageJudgement(msgspec.Struct, frozen=True, gc=False):
    """What is known after a day; `expected` and `observed` are in the counter's unit since `since_ms`."""

    expected: float
    observed: float
    belief: float
    """Certainty that usage is down, in [0, 1]; an alert is raised at 0.5."""
    drop_pct: float
    """100 x (1 - observed / expected), at least 0."""
    since_ms: int
    """Begin of the day with which the fall began, half of the belief lying on either side; without a suspicion, of
    the last seven judged days."""
    shape: Shape = "none"
    """How it fell; none while nothing is suspected."""
    shape_certainty: float = 0.0
    """Share of the belief that is with `shape`."""
    fall_pct: float = 0.0
    """How far usage is down today: the mean over what is believed, in % of usual; a ramp goes on falling."""


def finding(
    judgement: UsageJudgement, at_ms: int, *, device_id: str, site_id: str, customer_id: str, unit: str = ""
) -> Finding:
    """Put a judgement into alerting's words; policy raises at a score of 0.5 and resolves below 0.25."""
    severity: Severity = "error" if judgement.drop_pct >= 60 else "warning"
    evidence: dict[str, Any] = {
        "expected": round(judgement.expected, 2),
        "observed": round(judgement.observed, 2),
        "unit": unit,
        "drop_pct": round(judgement.drop_pct, 1),
        "window": [judgement.since_ms, at_ms],
        "version": VERSION,
        "advice": "offer_training_or_device_check",
    }
    if judgement.shape != "none":
        evidence["shape"] = judgement.shape
        evidence["shape_certainty"] = round(judgement.shape_certainty, 2)
        evidence["fall_pct"] = round(judgement.fall_pct, 1)
    return Finding(
        detector="usage_drop",
        device_id=device_id,
        site_id=site_id,
        customer_id=customer_id,
        subsystem="",
        at_ms=at_ms,
        onset_ms=judgement.since_ms,
        score=judgement.belief,
        severity=severity,
        evidence=evidence,
    )
