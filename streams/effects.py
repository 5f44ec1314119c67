"""What a group of records leads to, gathered in memory until one transaction writes it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from schema.messages import Fault
from schema.rows import Row
from streams.pane_rows import CLOSED_DTYPE, RESOLUTIONS_MS

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RawReadings:
    """Readings of one message; `slots`, `ts_ms`, `n` are (R,)."""

    device: int
    boot: int
    slots: Integers
    ts_ms: Integers
    n: Integers


@dataclass(slots=True)
class Effects:
    """Rows to write. `closed[:filled]` are closed panes and late partial aggregates (see `streams.panes`)."""

    readings: list[RawReadings] = field(default_factory=list)
    faults: list[tuple[str, Fault, int, int]] = field(default_factory=list)
    """(device, fault, boot, seq)"""
    closed: npt.NDArray[np.void] = field(default_factory=lambda: np.zeros(4096, CLOSED_DTYPE))
    filled: int = 0
    rows: dict[tuple[str, ...], Row] = field(default_factory=dict)
    registry_changed: bool = False
    found: Counter[str] = field(default_factory=Counter)
    """Judgements by detector; only counted."""
    repeated: int = 0
    """Messages that had come before; only counted."""

    def room(self, readings: int, slots: int) -> None:
        """Make room for what one message can close."""
        needed = self.filled + len(RESOLUTIONS_MS) * (readings + slots)
        if needed > len(self.closed):
            grown = np.zeros(2 * needed, CLOSED_DTYPE)
            grown[: self.filled] = self.closed[: self.filled]
            self.closed = grown

    def put(self, rows: Iterable[Row]) -> None:
        """Add rows; one that is already there under the same key is replaced, unless its kind says otherwise."""
        for row in rows:
            key = (row.TABLE, *(str(getattr(row, column)) for column in row.KEY))
            if row.FIRST_STAYS and key in self.rows:
                continue
            self.rows.pop(key, None)
            self.rows[key] = row

    def clear(self) -> None:
        """Forget everything, as after a commit or while recomputing."""
        self.readings.clear()
        self.faults.clear()
        self.rows.clear()
        self.found.clear()
        self.repeated = 0
        self.filled = 0
        self.registry_changed = False
