"""Panes of 1 min, 1 h and 1 d in one pass, against numpy doing one of them, and against reading the memory once.

Prints readings a second and ratios; all figures are medians over repeats of one run on one thread.
"""

from statistics import median
from time import perf_counter

import numpy as np

from streams.panes import CLOSED_DTYPE, MINUTE_MS, NEVER, NO_COUNTER, fold, new_panes

SLOTS = 10
EVERY_MS = 10_000
REPEATS = 7


def message(readings: int, first_ms: int) -> tuple[np.ndarray, ...]:
    """Slots, times and values of one message: each metric each ten seconds."""
    step = np.arange(readings, dtype=np.int64)
    return step % SLOTS, first_ms + step // SLOTS * EVERY_MS, step * 7 % 1000


def kernel_s(messages: int, readings: int) -> float:
    """Seconds to fold this many messages of one device after another."""
    panes, last = new_panes(SLOTS)
    wrap = np.full(SLOTS, NO_COUNTER, np.int64)
    wrap[0] = 0
    out = np.zeros(3 * (readings + SLOTS), CLOSED_DTYPE)
    span_ms = readings // SLOTS * EVERY_MS
    sent = [message(readings, number * span_ms) for number in range(messages)]
    watermark_ms, begun = NEVER, perf_counter()
    for slots, ts_ms, n in sent:
        _, watermark_ms = fold(panes, last, wrap, slots, ts_ms, n, 1, watermark_ms, 1 << 60, 0, out, 0)
    return perf_counter() - begun


def numpy_s(readings: int) -> float:
    """Seconds for numpy to group as many readings by (slot, minute): sum, count, minimum, maximum."""
    slots, ts_ms, n = message(readings, 0)
    begun = perf_counter()
    minutes = ts_ms // MINUTE_MS
    key = slots * (minutes.max() + 1) + minutes
    order = np.argsort(key, kind="stable")
    edges = np.flatnonzero(np.diff(key[order], prepend=-1))
    for reduce in (np.add, np.minimum, np.maximum):
        reduce.reduceat(n[order], edges)
    np.diff(edges)
    return perf_counter() - begun


def read_s(readings: int) -> float:
    """Seconds to read the three columns once."""
    column = np.ones(3 * readings, np.int64)
    begun = perf_counter()
    column.sum()
    return perf_counter() - begun


def main() -> None:
    """Measure and print."""
    kernel_s(10, 100)
    total = 1_000_000
    peer = median(numpy_s(total) for _ in range(REPEATS))
    memory = median(read_s(total) for _ in range(REPEATS))
    print(f"{'readings a message':>20} {'M readings/s':>14} {'against numpy':>14} {'of reading memory':>18}")
    for readings in (10, 100, 1_000, 10_000):
        taken = median(kernel_s(total // readings, readings) for _ in range(REPEATS))
        print(f"{readings:>20,} {total / taken / 1e6:>14.1f} {peer / taken:>14.2f} {memory / taken:>17.1%}")


if __name__ == "__main__":
    main()
