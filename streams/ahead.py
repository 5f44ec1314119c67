"""Messages of a bridge whose time is ahead of the partition's, because another bridge has not come so far.

In simulated time they wait until the partition's time is theirs, and follow that tick as they would with one bridge: so
the number of bridges does not show. In real time bridges are seconds apart, and what is to be told is told at once.
"""

from schema.record import TelemetryRecord
from streams.state import PartitionState

APART_MS = 60_000
"""Sources closer to each other than that are not waited for: ticks of real time are a second apart, clocks minutes."""
KEPT_READINGS = 2_000_000
"""Readings that may wait, all together: 50 MB."""


def waits(state: PartitionState, record: TelemetryRecord) -> bool:
    """Keep a record that is ahead of the partition's time; False if it is to be applied now."""
    shared = state.shared
    if shared.sources.get(record.source, 0) <= shared.now_ms or not shared.now_ms:
        return False  # its own source is not ahead
    if record.receive_ms - shared.now_ms < APART_MS:
        return False
    shared.ahead.append(record)
    return True


def due(state: PartitionState) -> list[TelemetryRecord]:
    """Take out, in order, the records whose time has come, and all of them where too much waits."""
    shared = state.shared
    if not shared.ahead:
        return []
    everything = sum(len(record.readings) for record in shared.ahead) > KEPT_READINGS
    found = [record for record in shared.ahead if everything or record.receive_ms <= shared.now_ms]
    shared.ahead = [] if everything else [record for record in shared.ahead if record.receive_ms > shared.now_ms]
    return found
