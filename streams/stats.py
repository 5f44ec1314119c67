"""What a worker counts about itself: plain attributes, written by its one thread and read by whoever exposes them.

Nothing here is state of a partition: it begins anew with each process, and no decision depends on it.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
READINGS = (1, 10, 100, 1_000, 5_000, 10_000, 20_000, 50_000, 100_000)


class Histogram:
    """Counts of observations by upper bound; `counts[-1]` are those above the last bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value; a bound belongs to the bucket below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class OwnerStats:
    """Counters of a `TelemetryOwner` since its start, over all partitions that it owned.

    `found` are findings above nothing, by detector; `fired` are alerts by severity; `refused` are rows that the
    database refused, by table.
    """

    records: int = 0
    record_bytes: int = 0
    recomputed: int = 0
    """Records between the newest cut and the database's offset, handled again with effects muted."""
    corrupt: int = 0
    readings: int = 0
    faults: int = 0
    rollups: int = 0
    rows: int = 0
    repeated: int = 0
    """Messages that had come before."""
    transactions: int = 0
    retries: int = 0
    fenced: int = 0
    found: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    transaction_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    transaction_records: Histogram = field(default_factory=lambda: Histogram(SIZES))
    transaction_readings: Histogram = field(default_factory=lambda: Histogram(READINGS))
    snapshots: int = 0
    snapshot_rows: int = 0
    snapshot_bytes: int = 0
    snapshot_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    """From the first pickled row until the transaction that holds the cut is committed."""


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """Where an owned partition is; times in ms since the epoch, 0: none yet."""

    partition: int
    epoch: int
    next_offset: int
    time_ms: int
    newest_ms: int
    """Newest receive time or tick among the records handled."""
    open_alerts: dict[str, int]
    """Alerts that are up, by severity."""
    counts: dict[str, int]
    """What the partition noticed, as its state has it (see `streams.state.Shared.counts`)."""
