"""What the kernels of `streams.panes` work on: open panes, newest readings, closed panes, runs of readings."""

import numpy as np
import numpy.typing as npt

from schema.compiled import compiled

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
RESOLUTIONS_MS = (MINUTE_MS, HOUR_MS, DAY_MS)
"""Bucket lengths; a pane's second index is an index into them."""

LENGTHS_MS = np.array(RESOLUTIONS_MS, np.int64)

LATE, RECOUNT = 1, 2
NO_COUNTER = -1
"""`wrap` of a slot that is no counter; 0 is a counter without a known register size."""
NEVER = np.iinfo(np.int64).min

PANE_DTYPE = np.dtype(
    [
        ("start_ms", "i8"),
        ("count", "i8"),
        ("sum", "i8"),
        ("min", "i8"),
        ("max", "i8"),
        ("increase", "i8"),
        ("since_ms", "i8"),
        ("until_ms", "i8"),
        ("recount", "i8"),
    ]
)
"""`since_ms`: time of the reading before the pane's first one (or `NEVER`); `until_ms`: time of its last one."""

LAST_DTYPE = np.dtype([("boot", "i8"), ("ts_ms", "i8"), ("n", "i8")])
"""The newest reading of a slot in (boot, time) order."""

CLOSED_DTYPE = np.dtype(
    [
        ("device", "i8"),
        ("slot", "i8"),
        ("resolution", "i8"),
        ("flags", "i8"),
        ("start_ms", "i8"),
        ("count", "i8"),
        ("sum", "i8"),
        ("min", "i8"),
        ("max", "i8"),
        ("increase", "i8"),
        ("since_ms", "i8"),
        ("until_ms", "i8"),
    ]
)
"""A closed pane or a late partial aggregate; `device` and `slot` are the numbers handed to `fold`."""

RUN_DTYPE = np.dtype(
    [
        ("end_ms", "i8"),
        ("increase", "i8"),
        ("ts_ms", "i8"),
        ("n", "i8"),
        ("count", "i8"),
        ("sum", "i8"),
        ("min", "i8"),
        ("max", "i8"),
    ]
)
"""Timely readings of a slot in one message that follow each other in one bucket: they go to their panes as one.

There are two a slot: the minute's, and that of the minutes before it in the hour. `end_ms` is the end of the bucket,
`NEVER` where there is no run; `ts_ms` and `n` are the newest reading. One line of cache.
"""

Rows = npt.NDArray[np.void]
Integers = npt.NDArray[np.int64]


def new_panes(slots: int) -> tuple[Rows, Rows]:
    """Empty panes (slots, 3) of PANE_DTYPE and newest readings (slots,) of LAST_DTYPE."""
    panes = np.zeros((slots, len(RESOLUTIONS_MS)), PANE_DTYPE)
    last = np.zeros(slots, LAST_DTYPE)
    panes["start_ms"] = last["boot"] = last["ts_ms"] = NEVER
    return panes, last


@compiled
def counter_step(before: int, now: int, wrap: int, same_boot: bool) -> int:
    """Increase of a counter between two readings; `wrap` 0 where the register's size is not known."""
    if now >= before:
        return now - before
    if same_boot and wrap > 0 and before * 10 > wrap * 9 and now * 10 < wrap:
        return now + wrap - before
    return now


@compiled
def is_open(pane: np.void, length_ms: int, at_ms: int) -> bool:
    """Whether the pane has readings, and its bucket is the one of `at_ms`."""
    return bool(pane["count"] > 0 and pane["start_ms"] <= at_ms < pane["start_ms"] + length_ms)


@compiled
def open_pane(pane: np.void, start_ms: int, since_ms: int) -> None:
    """Begin a bucket; `since_ms` is the time of the slot's reading before it, or `NEVER`."""
    pane["start_ms"], pane["count"], pane["sum"], pane["increase"] = start_ms, 0, 0, 0
    pane["min"], pane["max"] = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    pane["since_ms"], pane["until_ms"] = since_ms, NEVER


@compiled
def add_to(to: np.void, count: int, total: int, least: int, most: int, increase: int) -> None:
    """Add an aggregate to that of a pane or a run."""
    to["count"] += count
    to["sum"] += total
    to["min"] = min(to["min"], least)
    to["max"] = max(to["max"], most)
    to["increase"] += increase


@compiled
def close_pane(pane: np.void, device: int, slot: int, resolution: int, out: Rows, filled: int) -> int:
    """Write what a pane has to `out`, and empty it; return the rows filled."""
    row = out[filled]
    row["device"], row["slot"], row["resolution"] = device, slot, resolution
    row["flags"] = RECOUNT if pane["recount"] else 0
    row["start_ms"], row["count"], row["sum"], row["min"], row["max"] = (
        pane["start_ms"],
        pane["count"],
        pane["sum"],
        pane["min"],
        pane["max"],
    )
    row["increase"], row["since_ms"], row["until_ms"] = pane["increase"], pane["since_ms"], pane["until_ms"]
    pane["count"], pane["recount"] = 0, 0
    return filled + 1
