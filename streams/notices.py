"""What bridges notice becomes findings: a device that floods, a broker that drops messages."""

from schema.findings import Finding, Severity
from schema.notices import Notice
from streams.state import PartitionState

VERSION = "notices/1"
_SEVERITY: dict[str, Severity] = {"flood": "warning", "broker_drops": "error"}
_ADVICE = {"flood": "check_sender", "broker_drops": "raise_broker_limits_or_add_workers"}


def handle_notice(state: PartitionState, notice: Notice) -> None:
    """Judge what a notice says; of the broker's drops the device, the site and the customer are empty."""
    if not notice.device_id:
        state.observe(_finding(notice, notice.active, {"device_id": "", "site_id": "", "customer_id": ""}))
        return
    device = state.devices.get(notice.device_id)
    if device is None:
        state.count("unknown_device")
        return
    active = _somebody_speaks_of(state, notice)
    state.observe(_finding(notice, active, state.names(device.entry)))


def _somebody_speaks_of(state: PartitionState, notice: Notice) -> bool:
    """Tell whether any bridge still has something of the device waiting; for one that has left its heir speaks."""
    floods = state.shared.floods
    sources = floods.get(notice.device_id, frozenset())
    if notice.active:
        sources |= {notice.source}
    else:
        sources = (sources - {notice.source}) & state.shared.sources.keys()
    if sources:
        floods[notice.device_id] = frozenset(sources)
    else:
        floods.pop(notice.device_id, None)
    return bool(sources)


def _finding(notice: Notice, active: bool, names: dict[str, str]) -> Finding:
    return Finding(
        detector=notice.what,
        subsystem="",
        at_ms=notice.at_ms,
        onset_ms=notice.since_ms,
        score=1.0 if active else 0.0,
        severity=_SEVERITY[notice.what],
        evidence=dict(notice.facts) | {"bridge": notice.source, "version": VERSION, "advice": _ADVICE[notice.what]},
        **names,
    )
