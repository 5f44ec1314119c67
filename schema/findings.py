"""What a detector says about a device, in the words that alerting understands."""

from typing import Any, Literal

import msgspec

Severity = Literal["info", "warning", "error", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error", "critical")


class Finding(msgspec.Struct, frozen=True):
    """One judgement of one detector about one subsystem of one device (or of a whole site).

    A detector reports every judgement that matters to an open or possible alert, not only the bad ones: thresholds,
    durations and hysteresis belong to alerting's policy for `detector`. A device that could not be judged yields no
    finding, so vanished data never resolves an alert.
    """

    detector: str
    """`usage_drop`, `failure_risk`, `silence`, `fault_rule`, `fault_pattern`, `sensor_anomaly`, `level_shift`, `due` or
    `expiring`; `flood` or `broker_drops` of what bridges notice."""
    device_id: str
    """The device; for `site_offline` the empty string, for `broker_drops` so are site and customer."""
    site_id: str
    customer_id: str
    subsystem: str
    """Subsystem of the catalogue, or the empty string for the whole device."""
    at_ms: int
    """Event time of the judgement (end of the judged window, time of the fault, time of the tick)."""
    onset_ms: int
    """Event time since when the condition holds, as far as the detector can tell."""
    score: float
    """Certainty that the condition holds, in [0, 1]; policy compares it with its raise and resolve thresholds."""
    severity: Severity
    evidence: dict[str, Any]
    """Plain values: expected and observed, windows, fault codes, detector version, `advice` (the next step)."""
