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

from schema.compiled import compiled
from streams.pane_rows import (
    HOUR_MS,
    LATE,
    LENGTHS_MS,
    MINUTE_MS,
    NEVER,
    NO_COUNTER,
    RECOUNT,
    RUN_DTYPE,
    Integers,
    Rows,
    add_to,
    close_pane,
    counter_step,
    is_open,
    open_pane,
)
from streams.pane_runs import add_rows, alike, begin, end_minute, end_runs


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
    runs = np.empty((len(last), 2), RUN_DTYPE)
    since = np.empty((len(last), 2), np.int64)
    for slot in range(len(runs)):
        runs[slot, 0]["end_ms"] = NEVER
    by_time, instant, width, alike_until = _is_sorted(ts_ms), 0, 0, 0
    i = 0
    while i < len(ts_ms):
        if by_time and ts_ms[np.uint64(i)] != ts_ms[np.uint64(instant)]:
            if i - instant != width or i >= alike_until:
                width = i - instant
                alike_until = i + alike(slots[i:], slots[instant:])
            rows, instant = (alike_until - i) // width, i
            if rows > 0:
                until = i + rows * width
                row, times, values = slots[i : i + width], ts_ms[i:until], n[i:until]
                shape = (rows, width)
                rows, filled = add_rows(
                    runs, since, panes, wrap, row, times.reshape(shape), values.reshape(shape), device, out, filled
                )
                if rows > 0:
                    i += rows * width
                    instant = i - width
                    continue
        slot, at_ms, value = slots[i], ts_ms[i], n[i]
        i += 1
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
                filled = end_minute(run, since[slot, 0], panes[slot, 0], device, slot, out, filled)
                add_to(hour, run["count"], run["sum"], run["min"], run["max"], run["increase"])
                step = counter_step(run["n"], value, wrap[slot], True) if counter else 0
                since[slot, 0] = run["ts_ms"]
                begin(run, at_ms, MINUTE_MS, value, 1, step)
                continue
            newest_ms = max(newest_ms, run["ts_ms"])
            filled = end_runs(run, hour, newest, since[slot], panes, device, slot, out, filled)
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
                begin(run, at_ms, MINUTE_MS, value, 1, step)
                begin(hour, at_ms, HOUR_MS, value, 0, 0)
                since[slot, 0] = since[slot, 1] = since_ms
                continue
        for resolution in range(len(LENGTHS_MS)):
            length_ms = LENGTHS_MS[resolution]
            start_ms = at_ms // length_ms * length_ms
            pane = panes[slot, resolution]
            if counter and not in_order:
                pane["recount"] = 1
            if start_ms == pane["start_ms"] and pane["count"] > 0:
                add_to(pane, 1, value, value, value, step)
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
                    filled = close_pane(pane, device, slot, resolution, out, filled)
                open_pane(pane, start_ms, since_ms)
                add_to(pane, 1, value, value, value, step)
                pane["until_ms"] = max(pane["until_ms"], at_ms)
    for slot in range(len(last)):
        run = runs[slot, 0]
        if run["end_ms"] != NEVER:
            newest_ms = max(newest_ms, run["ts_ms"])
            filled = end_runs(run, runs[slot, 1], last[slot], since[slot], panes, device, slot, out, filled)
    watermark_ms = max(watermark_ms, min(newest_ms, limit_ms))
    for slot in range(panes.shape[0]):
        for resolution in range(len(LENGTHS_MS)):
            pane = panes[slot, resolution]
            if pane["count"] > 0 and pane["start_ms"] + LENGTHS_MS[resolution] <= watermark_ms:
                filled = close_pane(pane, device, slot, resolution, out, filled)
    return filled, watermark_ms


@compiled
def _is_sorted(ts_ms: Integers) -> bool:
    """Whether no time is below the one before it."""
    falls = 0
    for i in range(1, len(ts_ms)):
        falls |= ts_ms[i] < ts_ms[i - 1]
    return not falls


@compiled
def _is_timely(panes: Rows, slot: int, at_ms: int, watermark_ms: int) -> bool:
    """Tell whether a reading belongs to the open panes of its slot, or opens new ones, in each resolution."""
    for resolution in range(len(LENGTHS_MS)):
        length_ms, pane = LENGTHS_MS[resolution], panes[slot, resolution]
        if not is_open(pane, length_ms, at_ms):
            start_ms = at_ms // length_ms * length_ms
            if start_ms <= pane["start_ms"] or start_ms + length_ms <= watermark_ms:
                return False
    return True
