"""Panes: sum, count, minimum, maximum and counter increase of one metric in one bucket of event time.

A slot is one metric of one device. It has one open pane a resolution; a device's panes close when its own watermark
passes their end, at the end of a message, or when a later reading of the slot opens the next bucket. A reading whose
bucket is closed goes out at once as a partial aggregate (`LATE`), to be merged into the bucket's row. All sums are
whole steps of the metric's resolution, so no order of merging can show.

The counter increase of a bucket is the sum over its readings of the step from the reading before, in (boot, time)
order: a smaller value is a wrap if the register has a known size, was near its end and the device has not booted in
between, else a reset to zero (the rule of Prometheus' `rate`). Rows whose increase a late reading may have moved are
marked `RECOUNT`: raw rows decide.

Most devices send all their metrics at one instant, again and again. Such *rows* (the same slots, one time) are added a
minute at a time, slot by slot, and give what they would give one by one.
"""

import numpy as np

from schema.compiled import compiled, inlined
from streams.pane_rows import (
    CLOSED_DTYPE,
    DAY_MS,
    HOUR_MS,
    LAST_DTYPE,
    LATE,
    MINUTE_MS,
    NEVER,
    NO_COUNTER,
    PANE_DTYPE,
    RECOUNT,
    RESOLUTIONS_MS,
    RUN_DTYPE,
    Integers,
    Rows,
    new_panes,
)

__all__ = [
    "CLOSED_DTYPE", "DAY_MS", "HOUR_MS", "LAST_DTYPE", "LATE", "MINUTE_MS", "NEVER", "NO_COUNTER", "PANE_DTYPE",
    "RECOUNT", "RESOLUTIONS_MS", "Rows", "counter_step", "fold", "new_panes",
]  # fmt: skip

_LENGTHS_MS = np.array(RESOLUTIONS_MS, np.int64)
_STRIDE = 64
"""Slots compared between two decisions: enough for the processor to compare several in one instruction."""


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
                alike_until = i + _alike(slots[i:], slots[instant:])
            rows, instant = (alike_until - i) // width, i
            if rows > 0:
                until = i + rows * width
                row, times, values = slots[i : i + width], ts_ms[i:until], n[i:until]
                shape = (rows, width)
                rows, filled = _add_rows(
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
def _is_sorted(ts_ms: Integers) -> bool:
    """Whether no time is below the one before it."""
    falls = 0
    for i in range(1, len(ts_ms)):
        falls |= ts_ms[i] < ts_ms[i - 1]
    return not falls


@compiled
def _alike(these: Integers, those: Integers) -> int:
    """How many of `these` are equal to `those`, from the first one on; there are as many of `those` at least."""
    many = 0
    while many + _STRIDE <= len(these):
        differ = 0
        left, right = these[many : many + _STRIDE], those[many : many + _STRIDE]
        for i in range(_STRIDE):
            differ |= left[i] ^ right[i]
        if differ:
            break
        many += _STRIDE
    while many < len(these) and these[many] == those[many]:
        many += 1
    return many


@compiled
def _add_rows(
    runs: Rows,
    since: Integers,
    panes: Rows,
    wrap: Integers,
    slots: Integers,
    ts_ms: Integers,
    n: Integers,
    device: int,
    out: Rows,
    filled: int,
) -> tuple[int, int]:
    """Add rows that follow a row of the same `slots` (S,), until one is in another hour; return how many, and `filled`.

    `ts_ms` and `n` are (rows, S); times never fall. None is added where the row before was not added as a whole.
    """
    first_run, first_hour = runs[slots[0], 0], runs[slots[0], 1]
    before_ms, end_ms = first_run["ts_ms"], first_run["end_ms"]
    if not _are_level(runs, slots):
        return 0, filled
    rows = _same_hour(ts_ms, before_ms, first_hour["end_ms"])
    first, in_runs = 0, True
    while first < rows:
        begin_ms = ts_ms[np.uint64(first), 0]
        begins = begin_ms >= end_ms
        if begins:
            if in_runs:
                for i in range(len(slots)):
                    slot = slots[i]
                    run = runs[slot, 0]
                    filled = _end_minute(run, since[slot, 0], panes[slot, 0], device, slot, out, filled)
                    _add(runs[slot, 1], run["count"], run["sum"], run["min"], run["max"], run["increase"])
            end_ms = begin_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS
        stop = first + 1
        while stop < rows and ts_ms[np.uint64(stop), 0] < end_ms:
            stop += 1
        count, until_ms = stop - first, ts_ms[np.uint64(stop - 1), 0]
        in_runs = not begins or stop == rows
        for i in range(len(slots)):
            slot = np.uint64(slots[i])
            run = runs[slot, 0]
            newest = n[np.uint64(first), i]
            step, total, least, most = 0, newest, newest, newest
            if wrap[slot] != NO_COUNTER:
                before = n[np.uint64(first - 1), i] if first > 0 else run["n"]
                for j in range(first, stop):
                    value = n[np.uint64(j), i]
                    step += counter_step(before, value, wrap[slot], True)
                    before = value
            for j in range(first + 1, stop):
                newest = n[np.uint64(j), i]
                total += newest
                least, most = min(least, newest), max(most, newest)
            if not begins:
                _add(run, count, total, least, most, step)
                run["ts_ms"], run["n"] = until_ms, newest
            elif in_runs:
                since[slot, 0] = before_ms
                run["end_ms"], run["ts_ms"], run["n"], run["count"] = end_ms, until_ms, newest, count
                run["sum"], run["min"], run["max"], run["increase"] = total, least, most, step
            else:  # a whole minute
                _add(runs[slot, 1], count, total, least, most, step)
                start_ms, row = end_ms - MINUTE_MS, out[filled]
                filled += 1
                row["device"], row["slot"], row["resolution"], row["flags"] = device, slots[i], 0, 0
                row["start_ms"], row["count"], row["sum"], row["min"], row["max"] = start_ms, count, total, least, most
                row["increase"], row["since_ms"], row["until_ms"] = step, before_ms, until_ms
        first, before_ms = stop, until_ms
    return rows, filled


@compiled
def _are_level(runs: Rows, slots: Integers) -> bool:
    """Whether the slots, each another one, all have a run, and its newest reading has the same time."""
    at_ms = runs[slots[0], 0]["ts_ms"]
    for i in range(len(slots)):
        run = runs[slots[i], 0]
        if run["end_ms"] == NEVER or run["ts_ms"] != at_ms:
            return False
        for j in range(i):
            if slots[j] == slots[i]:
                return False
    return True


@compiled
def _same_hour(ts_ms: Integers, after_ms: int, end_ms: int) -> int:
    """How many rows have one time each, later than that of the row before, and before the end of the hour."""
    rows, last = 0, ts_ms.shape[1] - 1
    while rows < len(ts_ms):
        at_ms = ts_ms[rows, 0]
        if not after_ms < at_ms < end_ms or ts_ms[rows, last] != at_ms:
            break
        after_ms = at_ms
        rows += 1
    return rows


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


@inlined
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
