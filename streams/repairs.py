"""What a repair ends and what work teaches, before or after a failure: signs belong to the part that was replaced."""

from collections.abc import Iterable

from alerting.desk import Label
from detectors import fault_rules
from streams import patterns, sensors
from streams.device import DeviceState
from streams.state import PartitionState


def booted(state: PartitionState, device: DeviceState, at_ms: int) -> None:
    """A device has booted: after a hard failure it was repaired, whatever had been the matter."""
    if not device.booted(at_ms):
        return
    state.effects.put(state.shared.desk.repaired(device.entry.device_id, at_ms))
    patterns.restored(device)
    for judgement in device.rules.restored(at_ms):
        state.observe(fault_rules.finding(judgement, **state.names(device.entry)))
    for health in device.health.values():
        health.restored(at_ms)
    sensors.restored(device)


def parts_replaced(state: PartitionState, label: Label) -> None:
    """Work on a subsystem is done that has used parts, before it failed; afterwards the boot has told it already."""
    device = state.devices.get(label.device_id)
    if device is None or not label.part_ids or label.subsystem not in device.health:
        return
    health = device.health[label.subsystem]
    if health.restored_ms >= label.raised_ms:
        return
    state.changed.add(label.device_id)
    health.restored(label.at_ms)
    for part_id in label.part_ids:
        health.happened(label.at_ms, "part", part_id)
    device.patterns.told(label.subsystem, repaired=True)
    if label.subsystem in device.sensors:
        device.sensors[label.subsystem].restored()


def learnt(state: PartitionState, labels: Iterable[Label]) -> None:
    """Teach failure risk what work on subsystems has found, whatever alert it came of.

    Work that was confirmed has kept a subsystem from failing, unless it failed first: then the failure has taught that.
    """
    raised: dict[tuple[str, str, int], int] = {}
    for label in labels:
        place = label.device_id, label.subsystem, label.at_ms
        if label.outcome == "false":
            if label.detector == "failure_risk":
                state.shared.risk.dismissed(*place)
        elif label.detector == "failure_risk" or label.order_kind in ("corrective", "inspection"):
            raised[place] = min(label.raised_ms, raised.get(place, label.raised_ms))
    for (device_id, subsystem, at_ms), raised_ms in raised.items():
        device = state.devices.get(device_id)
        if device is None or subsystem not in device.health:
            continue
        faults, happened_ms = state.catalogue[device.entry.model].faults, device.health[subsystem].happened_ms
        stops = (f"code {code}" for code, fault in faults.items() if fault.stops_device)
        if all(happened_ms.get(code, -1) < raised_ms for code in stops):
            state.shared.risk.confirmed(device_id, subsystem, at_ms)
