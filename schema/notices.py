"""What a bridge notices about the way in: each is a record in the log, and becomes a finding where it is applied."""

from typing import Literal

import msgspec


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A condition has begun, goes on or is over; said again it changes nothing."""

    what: Literal["flood", "broker_drops"]
    """`flood`: a device sends more than its quota, and what exceeds it waits; in the partition of the device.
    `broker_drops`: the MQTT broker has dropped messages from its own queues; in partition 0."""
    source: str
    """The bridge that says so: a flood is over when no bridge speaks of it any more."""
    active: bool
    at_ms: int
    since_ms: int
    device_id: str = ""
    """Empty for `broker_drops`."""
    facts: dict[str, float] = {}
    """Numbers for the evidence."""
