"""Panes: sum, count, minimum, maximum and counter increase of one metric in one bucket of event time.

A slot is one metric of one device. It has one open pane a resolution; a device's panes close when its own watermark
passes their end, at the end of a message, or when a later reading of the slot opens the next bucket. A reading whose
bucket is closed goes out at once as a partial aggregate (`LATE`), to be merged into the bucket's row. All sums are
whole steps of the metric's resolution, so no order of merging can show.

The counter increase of a bucket is the sum over its readings of the step from the reading before, in (boot, time)
order: a smaller value is a wrap if the register has a known size, was near its end and the device has not booted in
between, else a reset to zero (the rule of Prometheus' `rate`). Rows whose increase a late reading may have moved are
marked `RECOUNT`: raw rows decide.
"""

import numpy as np
import numpy.typing as npt

from streams.compiled import compiled

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

_LENGTHS_MS = np.array(RESOLUTIONS_MS, np.int64)

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
def fold(
    panes: Rows,
    last: Rows,
    wrap: Integers,
    slots: Integers,
    ts_ms: Integers,
    n: Integers,
    boot: int,
    watermark_ms: int,
    limit_ms: int,
    device: int,
    out: Rows,
    filled: int,
) -> tuple[int, int]:
    """Fold one message into the device's panes; return (rows filled in `out`, new watermark).

    `slots`, `ts_ms`, `n` (R,) are the readings by time; `watermark_ms` is the watermark before the message and
    `limit_ms` the most that it may become. `out` (N,) of CLOSED_DTYPE takes rows from index `filled` on; it must have
    room for 3 * (R + slots) more.
    """
    newest_ms = watermark_ms
    for i in range(len(ts_ms)):
        slot, at_ms, value = slots[i], ts_ms[i], n[i]
        newest = last[slot]
        counter = wrap[slot] != NO_COUNTER
        first = newest["ts_ms"] == NEVER
        in_order = first or boot > newest["boot"] or (boot == newest["boot"] and at_ms > newest["ts_ms"])
        step = 0
        since_ms = newest["ts_ms"]
        if in_order:
            if counter and not first:
                step = counter_step(newest["n"], value, wrap[slot], boot == newest["boot"])
            newest["boot"], newest["ts_ms"], newest["n"] = boot, at_ms, value
        for resolution in range(len(_LENGTHS_MS)):
            length_ms = _LENGTHS_MS[resolution]
            start_ms = at_ms // length_ms * length_ms
            pane = panes[slot, resolution]
            if counter and not in_order:
                pane["recount"] = 1
            if start_ms == pane["start_ms"] and pane["count"] > 0:
                pane["count"] += 1
                pane["sum"] += value
                pane["min"] = min(pane["min"], value)
                pane["max"] = max(pane["max"], value)
                pane["increase"] += step
                pane["until_ms"] = max(pane["until_ms"], at_ms)
            elif start_ms <= pane["start_ms"] or start_ms + length_ms <= watermark_ms:
                row = out[filled]
                filled += 1
                row["device"], row["slot"], row["resolution"], row["flags"] = device, slot, resolution, LATE
                if counter:
                    row["flags"] |= RECOUNT
                row["start_ms"], row["count"], row["sum"], row["min"], row["max"] = start_ms, 1, value, value, value
                row["increase"], row["since_ms"], row["until_ms"] = 0, at_ms, at_ms
            else:
                if pane["count"] > 0:
                    filled = _close(pane, device, slot, resolution, out, filled)
                pane["start_ms"], pane["count"], pane["sum"], pane["min"], pane["max"] = (
                    start_ms,
                    1,
                    value,
                    value,
                    value,
                )
                pane["increase"], pane["since_ms"], pane["until_ms"] = step, since_ms, at_ms
        newest_ms = max(newest_ms, at_ms)
    watermark_ms = max(watermark_ms, min(newest_ms, limit_ms))
    for slot in range(panes.shape[0]):
        for resolution in range(len(_LENGTHS_MS)):
            pane = panes[slot, resolution]
            if pane["count"] > 0 and pane["start_ms"] + _LENGTHS_MS[resolution] <= watermark_ms:
                filled = _close(pane, device, slot, resolution, out, filled)
    return filled, watermark_ms


@compiled
def _close(pane: np.void, device: int, slot: int, resolution: int, out: Rows, filled: int) -> int:
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
