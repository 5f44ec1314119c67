"""What the kernel of `streams.panes` works on: open panes, newest readings, closed panes, runs of readings."""

import numpy as np
import numpy.typing as npt

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
RESOLUTIONS_MS = (MINUTE_MS, HOUR_MS, DAY_MS)
"""Bucket lengths; a pane's second index is an index into them."""

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
