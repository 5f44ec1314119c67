"""Runs: timely readings of a slot that follow each other in one message, gathered before they go to its panes.

Most devices send all their metrics at one instant, again and again. Such *rows* (the same slots, one time) are added a
minute at a time, slot by slot, and give what they would give one by one.
"""

import numpy as np

from schema.compiled import compiled, inlined
from streams.pane_rows import (
    LENGTHS_MS,
    MINUTE_MS,
    NEVER,
    NO_COUNTER,
    RECOUNT,
    Integers,
    Rows,
    add_to,
    close_pane,
    counter_step,
    is_open,
    open_pane,
)

_STRIDE = 64
"""Slots compared between two decisions: enough for the processor to compare several in one instruction."""


@compiled
def begin(run: np.void, at_ms: int, length_ms: int, value: int, count: int, increase: int) -> None:
    """Begin a run with a reading, or with none yet where `count` is 0."""
    run["end_ms"] = at_ms // length_ms * length_ms + length_ms
    run["ts_ms"], run["n"], run["count"], run["sum"] = at_ms, value, count, value * count
    run["min"], run["max"], run["increase"] = value, value, increase


@inlined
def end_minute(run: np.void, since_ms: int, pane: np.void, device: int, slot: int, out: Rows, filled: int) -> int:
    """Close the minute of a run, with what its pane has of it already; return the rows filled."""
    start_ms = run["end_ms"] - MINUTE_MS
    if pane["count"] > 0:
        if pane["start_ms"] == start_ms:
            add_to(pane, run["count"], run["sum"], run["min"], run["max"], run["increase"])
            pane["until_ms"] = max(pane["until_ms"], run["ts_ms"])
            return close_pane(pane, device, slot, 0, out, filled)
        filled = close_pane(pane, device, slot, 0, out, filled)
    count, total, least, most = run["count"], run["sum"], run["min"], run["max"]
    increase, until_ms, flags = run["increase"], run["ts_ms"], RECOUNT if pane["recount"] else 0
    pane["start_ms"], pane["recount"] = start_ms, 0
    row = out[filled]
    row["device"], row["slot"], row["resolution"], row["flags"] = device, slot, 0, flags
    row["start_ms"], row["count"], row["sum"], row["min"], row["max"] = start_ms, count, total, least, most
    row["increase"], row["since_ms"], row["until_ms"] = increase, since_ms, until_ms
    return filled + 1


@compiled
def end_runs(
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
    add_to(hour, run["count"], run["sum"], run["min"], run["max"], run["increase"])
    for resolution in range(len(LENGTHS_MS)):
        length_ms, pane = LENGTHS_MS[resolution], panes[slot, resolution]
        given = run if resolution == 0 else hour
        if not is_open(pane, length_ms, until_ms):
            if pane["count"] > 0:
                filled = close_pane(pane, device, slot, resolution, out, filled)
            open_pane(pane, until_ms // length_ms * length_ms, since_ms[min(resolution, 1)])
        add_to(pane, given["count"], given["sum"], given["min"], given["max"], given["increase"])
        pane["until_ms"] = max(pane["until_ms"], until_ms)
    run["end_ms"] = NEVER
    return filled


@compiled
def alike(these: Integers, those: Integers) -> int:
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
def add_rows(
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
                    filled = end_minute(run, since[slot, 0], panes[slot, 0], device, slot, out, filled)
                    add_to(runs[slot, 1], run["count"], run["sum"], run["min"], run["max"], run["increase"])
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
                add_to(run, count, total, least, most, step)
                run["ts_ms"], run["n"] = until_ms, newest
            elif in_runs:
                since[slot, 0] = before_ms
                run["end_ms"], run["ts_ms"], run["n"], run["count"] = end_ms, until_ms, newest, count
                run["sum"], run["min"], run["max"], run["increase"] = total, least, most, step
            else:  # a whole minute
                add_to(runs[slot, 1], count, total, least, most, step)
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
