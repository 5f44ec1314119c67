"""What a repair ends: the signs that led to it belong to the part that had failed."""

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
