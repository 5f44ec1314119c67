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

from schema.compiled import compiled

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

_RUN_DTYPE = np.dtype(
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
    runs = np.empty((len(last), 2), _RUN_DTYPE)
    since = np.empty((len(last), 2), np.int64)
    for slot in range(len(runs)):
        runs[slot, 0]["end_ms"] = NEVER
    for i in range(len(ts_ms)):
        slot, at_ms, value = slots[i], ts_ms[i], n[i]
        run = runs[np.uint64(slot), 0]
        if run["ts_ms"] < at_ms < run["end_ms"]:
            if wrap[np.uint64(slot)] != NO_COUNTER:
                run["increase"] += counter_step(run["n"], value, wrap[slot], True)
            count, total = run["count"] + 1, run["sum"] + value
            least, most = min(run["min"], value), max(run["max"], value)
            run["ts_ms"], run["n"], run["count"], run["sum"] = at_ms, value, count, total
            run["min"], run["max"] = least, most
            continue
        newest, hour = last[slot], runs[slot, 1]
        counter = wrap[slot] != NO_COUNTER
        if run["end_ms"] != NEVER:
            if run["ts_ms"] < at_ms < hour["end_ms"]:
                filled = _end_minute(run, since[slot, 0], panes[slot, 0], device, slot, out, filled)
                _add(hour, run["count"], run["sum"], run["min"], run["max"], run["increase"])
                step = counter_step(run["n"], value, wrap[slot], True) if counter else 0
                since[slot, 0] = run["ts_ms"]
                _begin(run, at_ms, MINUTE_MS, value, 1, step)
                continue
            newest_ms = max(newest_ms, run["ts_ms"])
            filled = _end_runs(run, hour, newest, since[slot], panes, device, slot, out, filled)
        newest_ms = max(newest_ms, at_ms)
        first = newest["ts_ms"] == NEVER
        in_order = first or boot > newest["boot"] or (boot == newest["boot"] and at_ms > newest["ts_ms"])
        step = 0
        since_ms = newest["ts_ms"]
        if in_order:
            if counter and not first:
                step = counter_step(newest["n"], value, wrap[slot], boot == newest["boot"])
            newest["boot"], newest["ts_ms"], newest["n"] = boot, at_ms, value
            if _is_timely(panes, slot, at_ms, watermark_ms):
                _begin(run, at_ms, MINUTE_MS, value, 1, step)
                _begin(hour, at_ms, HOUR_MS, value, 0, 0)
                since[slot, 0] = since[slot, 1] = since_ms
                continue
        for resolution in range(len(_LENGTHS_MS)):
            length_ms = _LENGTHS_MS[resolution]
            start_ms = at_ms // length_ms * length_ms
            pane = panes[slot, resolution]
            if counter and not in_order:
                pane["recount"] = 1
            if start_ms == pane["start_ms"] and pane["count"] > 0:
                _add(pane, 1, value, value, value, step)
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
                _open(pane, start_ms, since_ms)
                _add(pane, 1, value, value, value, step)
                pane["until_ms"] = max(pane["until_ms"], at_ms)
    for slot in range(len(last)):
        run = runs[slot, 0]
        if run["end_ms"] != NEVER:
            newest_ms = max(newest_ms, run["ts_ms"])
            filled = _end_runs(run, runs[slot, 1], last[slot], since[slot], panes, device, slot, out, filled)
    watermark_ms = max(watermark_ms, min(newest_ms, limit_ms))
    for slot in range(panes.shape[0]):
        for resolution in range(len(_LENGTHS_MS)):
            pane = panes[slot, resolution]
            if pane["count"] > 0 and pane["start_ms"] + _LENGTHS_MS[resolution] <= watermark_ms:
                filled = _close(pane, device, slot, resolution, out, filled)
    return filled, watermark_ms


@compiled
def _is_open(pane: np.void, length_ms: int, at_ms: int) -> bool:
    return bool(pane["count"] > 0 and pane["start_ms"] <= at_ms < pane["start_ms"] + length_ms)


@compiled
def _is_timely(panes: Rows, slot: int, at_ms: int, watermark_ms: int) -> bool:
    """Tell whether a reading belongs to the open panes of its slot, or opens new ones, in each resolution."""
    for resolution in range(len(_LENGTHS_MS)):
        length_ms, pane = _LENGTHS_MS[resolution], panes[slot, resolution]
        if not _is_open(pane, length_ms, at_ms):
            start_ms = at_ms // length_ms * length_ms
            if start_ms <= pane["start_ms"] or start_ms + length_ms <= watermark_ms:
                return False
    return True


@compiled
def _begin(run: np.void, at_ms: int, length_ms: int, value: int, count: int, increase: int) -> None:
    """Begin a run with a reading, or with none yet where `count` is 0."""
    run["end_ms"] = at_ms // length_ms * length_ms + length_ms
    run["ts_ms"], run["n"], run["count"], run["sum"] = at_ms, value, count, value * count
    run["min"], run["max"], run["increase"] = value, value, increase


@compiled
def _end_minute(run: np.void, since_ms: int, pane: np.void, device: int, slot: int, out: Rows, filled: int) -> int:
    """Close the minute of a run, with what its pane has of it already; return the rows filled."""
    start_ms = run["end_ms"] - MINUTE_MS
    if pane["count"] > 0:
        if pane["start_ms"] == start_ms:
            _add(pane, run["count"], run["sum"], run["min"], run["max"], run["increase"])
            pane["until_ms"] = max(pane["until_ms"], run["ts_ms"])
            return _close(pane, device, slot, 0, out, filled)
        filled = _close(pane, device, slot, 0, out, filled)
    count, total, least, most = run["count"], run["sum"], run["min"], run["max"]
    increase, until_ms, flags = run["increase"], run["ts_ms"], RECOUNT if pane["recount"] else 0
    pane["start_ms"], pane["recount"] = start_ms, 0
    row = out[filled]
    row["device"], row["slot"], row["resolution"], row["flags"] = device, slot, 0, flags
    row["start_ms"], row["count"], row["sum"], row["min"], row["max"] = start_ms, count, total, least, most
    row["increase"], row["since_ms"], row["until_ms"] = increase, since_ms, until_ms
    return filled + 1


@compiled
def _end_runs(
    run: np.void,
    hour: np.void,
    newest: np.void,
    since_ms: Integers,
    panes: Rows,
    device: int,
    slot: int,
    out: Rows,
    filled: int,
) -> int:
    """Add the runs of a slot to its panes, and the newest reading to the slot; return the rows filled."""
    until_ms = newest["ts_ms"] = run["ts_ms"]
    newest["n"] = run["n"]
    _add(hour, run["count"], run["sum"], run["min"], run["max"], run["increase"])
    for resolution in range(len(_LENGTHS_MS)):
        length_ms, pane = _LENGTHS_MS[resolution], panes[slot, resolution]
        given = run if resolution == 0 else hour
        if not _is_open(pane, length_ms, until_ms):
            if pane["count"] > 0:
                filled = _close(pane, device, slot, resolution, out, filled)
            _open(pane, until_ms // length_ms * length_ms, since_ms[min(resolution, 1)])
        _add(pane, given["count"], given["sum"], given["min"], given["max"], given["increase"])
        pane["until_ms"] = max(pane["until_ms"], until_ms)
    run["end_ms"] = NEVER
    return filled


@compiled
def _open(pane: np.void, start_ms: int, since_ms: int) -> None:
    pane["start_ms"], pane["count"], pane["sum"], pane["increase"] = start_ms, 0, 0, 0
    pane["min"], pane["max"] = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    pane["since_ms"], pane["until_ms"] = since_ms, NEVER


@compiled
def _add(to: np.void, count: int, total: int, least: int, most: int, increase: int) -> None:
    to["count"] += count
    to["sum"] += total
    to["min"] = min(to["min"], least)
    to["max"] = max(to["max"], most)
    to["increase"] += increase


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
