"""What a bridge is told when it starts, and what it counts."""

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Clock = Literal["wall", "simulated"]

_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class BridgeConfig:
    """Settings of one bridge.

    Raises:
        ValueError: a setting is out of its range; the message names it.
    """

    mqtt_url: str
    """`mqtt://[user[:password]@]host[:port]`, or `mqtts:` for TLS."""
    source: str
    """Name of this bridge in ticks and records, and its MQTT client id: it keeps its session by it, so it must be the
    same after a restart and no other client's."""
    partitions: int
    clock: Clock = "wall"
    """`simulated` honours `wardwatch/v1/_clock` and asks no other clock; `wall` does not subscribe to it."""
    max_readings: int = 2000
    """At most so many readings in a record of the log."""
    flush_ms: int = 20
    """In wall-clock mode, how long a message may wait for others to share its record."""
    confirm_interval_ms: int = 1000
    """Of receive time: how often a device hears what of its messages is written."""
    queue_count: int = 65_535
    queue_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        if _SOURCE.fullmatch(self.source) is None:
            raise ValueError(f"source: {self.source!r} must be letters, digits, '.', '_' and '-'")
        for name in ("partitions", "max_readings", "flush_ms", "queue_count", "queue_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least 1")


@dataclass(slots=True)
class BridgeStats:
    """Counters since the start. `readings` are those written; `refused` is by reason."""

    received: int = 0
    messages: int = 0
    readings: int = 0
    ahead: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    clocks: int = 0
    records: int = 0
    record_bytes: int = 0
    appends: int = 0
    failed_attempts: int = 0
    confirmations: int = 0

    def as_dict(self) -> dict[str, Any]:
        """All counters as plain values."""
        return asdict(self) | {"refused": dict(self.refused)}
