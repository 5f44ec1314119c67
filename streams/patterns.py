"""Unusual fault codes of a device, under its model's alert budget."""

from detectors import fault_patterns
from detectors.fault_patterns import CodeRates
from schema.messages import Fault
from streams.budgets import budget_of
from streams.device import DeviceState
from streams.state import PartitionState

DETECTOR = "fault_pattern"


def told(state: PartitionState, device: DeviceState, fault: Fault, ruled: bool) -> None:
    """Judge a fault event; where a rule of its subsystem holds (`ruled`), people have been told already."""
    if fault.severity == "info":
        return
    entry = device.entry
    rates = state.shared.fleet.of(CodeRates, entry.model)
    judged = device.patterns.fault(fault.ts_ms, fault.code, fault.subsystem, rates.rate(fault.code))
    rates.seen(fault.code)
    if ruled or device.down_since_ms is not None:
        device.patterns.told(fault.subsystem)
        return
    budget = budget_of(state, entry.model)
    score = budget.observe(DETECTOR, (entry.device_id, fault.subsystem), fault.ts_ms, judged.odds)
    if score >= 0.5:
        device.patterns.raised(judged)
        found = fault_patterns.finding(judged, score, budget.threshold(DETECTOR), **state.names(entry))
        state.observe(found)


def restored(device: DeviceState) -> None:
    """The device was repaired: what its codes said belongs to the part that had failed."""
    for subsystem in device.rules.stopped():
        device.patterns.told(subsystem, repaired=True)


def quiet(state: PartitionState, device: DeviceState, now_ms: int) -> None:
    """Clear what has been quiet long enough."""
    for judged in device.patterns.tick(now_ms):
        state.observe(fault_patterns.finding(judged, 0.0, 0.0, **state.names(device.entry)))


def deadline_ms(device: DeviceState) -> int | None:
    """When rules or patterns of a device may next clear; None if nothing waits."""
    waiting = (device.rules.deadline_ms(), device.patterns.deadline_ms())
    return min((at_ms for at_ms in waiting if at_ms is not None), default=None)
