"""How alerts of each detector behave: thresholds, durations, damping, what suppresses them and what work they open."""

from typing import Literal

import msgspec

from schema.findings import SEVERITIES, Severity

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

MAINTENANCE_GRACE_MS = HOUR_MS
"""Devices come back some time after the planned end of work on them."""
SITE_GRACE_MS = HOUR_MS
"""After a site has come back, each of its devices has this long to send its first message: twice the usual interval."""
_MOST_STRETCH = 3

OrderKind = Literal["", "corrective", "inspection", "preventive"]


class Policy(msgspec.Struct, frozen=True):
    """What alerting does with findings of one detector; scores are certainties in [0, 1]."""

    raise_at: float = 0.5
    """A score at or above it raises."""
    resolve_below: float = 0.25
    """Only a score below it counts towards resolving: between the two nothing changes."""
    for_ms: int = 0
    """How long the condition must hold before the alert fires."""
    keep_ms: int = 0
    """How long the score must stay below `resolve_below` before the alert resolves."""
    flap_ms: int = 6 * HOUR_MS
    """An alert raised this soon after the last one of its key ended is a flap of it."""
    quiet_ms: int | None = 0
    """After people closed it, the same key raises nothing this long; None for as long as the condition lasts."""
    by_ticks: bool = False
    """Durations pass with time alone; otherwise only judged event time counts, so vanished data changes nothing."""
    maintenance: Literal["hold", "mute"] = "hold"
    """During planned maintenance an alert waits in `pending` (hold), or fires and is told afterwards (mute)."""
    hidden_by: Literal["", "site_offline", "failure"] = ""
    """What explains this alert away while it lasts: its site is offline, or the device has failed already."""
    order: OrderKind = ""
    """Kind of work order that a firing alert opens."""
    order_from: Severity = "info"
    """Lowest severity that opens an order."""

    def stretched(self, duration_ms: int, flaps: int) -> int:
        """`duration_ms`, doubled with each flap, at most eightfold: what comes and goes becomes one long alert."""
        return duration_ms << min(flaps, _MOST_STRETCH)


POLICIES: dict[str, Policy] = {
    # A fault code is a fact, not an estimate: people hear of it at once. Codes seen during planned work are provoked
    # by it more often than not: recorded, told only if still there afterwards.
    "fault_rule": Policy(maintenance="mute", order="corrective", order_from="error"),
    # The detector has waited for missed messages already. The quarter of an hour more is for the site's other devices
    # to be missed too: one site alert tells more than twenty device alerts.
    "silence": Policy(
        for_ms=15 * MINUTE_MS, flap_ms=2 * HOUR_MS, quiet_ms=None, by_ticks=True, hidden_by="site_offline"
    ),
    # The bridge says at once when it is over. A sender runs wild during work on it as on any other day.
    "flood": Policy(flap_ms=2 * HOUR_MS, quiet_ms=None, maintenance="mute"),
    "broker_drops": Policy(quiet_ms=None, maintenance="mute"),
    "site_offline": Policy(flap_ms=2 * HOUR_MS, quiet_ms=None, by_ticks=True),
    # Usage is judged over days by the detector, which weighs its own evidence: no further wait. A good weekend does
    # not end a bad month.
    "usage_drop": Policy(keep_ms=2 * DAY_MS, flap_ms=3 * DAY_MS, quiet_ms=7 * DAY_MS),
    # The detector's threshold keeps its promise by the first crossing, so no wait here. Precursors come in clusters: a
    # quiet day between two of them is no recovery. What a technician has just looked at is looked at again only when
    # the signs have lasted longer than precursors of the same trouble do. A failed device no longer is at risk.
    "failure_risk": Policy(
        keep_ms=DAY_MS, flap_ms=DAY_MS, quiet_ms=4 * DAY_MS, hidden_by="failure", order="inspection"
    ),
    # A new or bursting code is a hint for people who look at the device anyway: it opens no work by itself.
    "fault_pattern": Policy(maintenance="mute", flap_ms=3 * DAY_MS, quiet_ms=7 * DAY_MS, hidden_by="failure"),
    # A sensor that shows something new, or another level, is a hint too. It is over when it looks as usual for a day,
    # or when the detector takes the level for the usual one.
    "sensor_anomaly": Policy(
        keep_ms=DAY_MS, maintenance="mute", flap_ms=3 * DAY_MS, quiet_ms=7 * DAY_MS, hidden_by="failure"
    ),
    "level_shift": Policy(maintenance="mute", flap_ms=3 * DAY_MS, quiet_ms=7 * DAY_MS, hidden_by="failure"),
    # Planned work: it is known weeks ahead and changes slowly. After the work was done the counter begins anew.
    "due": Policy(keep_ms=2 * DAY_MS, flap_ms=7 * DAY_MS, quiet_ms=7 * DAY_MS, maintenance="mute", order="preventive"),
    # A warranty or a contract that ends is told to people once.
    "expiring": Policy(quiet_ms=None, maintenance="mute"),
}

CAUTIOUS = Policy(for_ms=HOUR_MS, keep_ms=DAY_MS, flap_ms=DAY_MS, quiet_ms=7 * DAY_MS)
"""For a detector without an entry: waits, damps, opens no work."""


def policy_of(detector: str) -> Policy:
    """The policy of a detector, by its name."""
    return POLICIES.get(detector, CAUTIOUS)


def rank(severity: Severity) -> int:
    """0 for info to 3 for critical."""
    return SEVERITIES.index(severity)
