"""What a bridge is told when it starts, and what it counts."""

import re
import ssl
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Clock = Literal["wall", "simulated"]

_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def is_source(name: str) -> bool:
    """Tell whether a bridge may be called so."""
    return _SOURCE.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files for a broker that is reached by `mqtts:`; its name is always checked against its certificate."""

    ca_file: Path | None = None
    """Who has signed the broker's certificate; None: whom this machine trusts."""
    cert_file: Path | None = None
    """Who we are, to a broker that asks for it."""
    key_file: Path | None = None
    """The key of that certificate, if it is not in the same file."""

    def context(self) -> ssl.SSLContext:
        """What clients connect with.

        Raises:
            OSError: a file is missing or is not what it should be (`ssl.SSLError`).
        """
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context


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
    quota_factor: float = 0.0
    """How many times as much as the catalogue expects of a device it may send for long; 0: no quota. Each bridge admits
    that much of what comes to itself."""
    max_lag_bytes: int = 256 << 20
    """With more than that in the log, and not yet worked off, the bridge takes nothing."""
    peer_timeout_ms: int = 10_000
    """In wall-clock mode, after how long without a heartbeat another bridge is given up."""
    dropped_topic: str | None = "$SYS/broker/publish/messages/dropped"
    """Topic on which the broker counts what it has dropped; None: it does not say."""
    tls: Tls = Tls()

    def __post_init__(self) -> None:
        if not is_source(self.source):
            raise ValueError(f"source: {self.source!r} must be letters, digits, '.', '_' and '-'")
        for name in (
            "partitions",
            "max_readings",
            "flush_ms",
            "queue_count",
            "queue_bytes",
            "max_lag_bytes",
            "peer_timeout_ms",
        ):
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
    ticked_ms: int = 0
    """Newest tick in the log; 0 before the first."""
    repeated: int = 0
    """Messages that were in the log already, as far as a bridge remembers."""
    over_quota: int = 0
    """Messages that went to the overflow."""
    readmitted: int = 0
    """Messages that came back from it."""
    overflow_waiting: int = 0
    """Messages in the overflow now; a gauge, as what follows."""
    flooding: int = 0
    """Devices that have messages in the overflow."""
    strangers: int = 0
    """Messages that wait for the registry to say whether their device is known."""
    bridges: int = 1
    """Bridges alive, this one among them."""
    given_up: int = 0
    """Counted: times that another bridge was given up for dead."""
    sessions_taken_over: int = 0
    """Counted: sessions of bridges that are gone, emptied and ended."""
    paused: bool = False
    """Nothing is taken because the workers are behind."""
    pauses: int = 0
    lag_bytes: int = 0
    """What the workers have before themselves, about."""
    broker_dropped: int = 0
    """Messages that the broker says it has dropped from its queues."""

    def as_dict(self) -> dict[str, Any]:
        """All counters as plain values."""
        return asdict(self) | {"refused": dict(self.refused)}
