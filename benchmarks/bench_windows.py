"""(a) Windows of one minute: the numba kernel against DuckDB, polars and pandas on the same readings, on one thread.

Count, sum, minimum and maximum of each device, metric and minute, from columns in memory; the kernel makes hours, days,
counter increases and late rows besides. The share of read bandwidth compares the bytes of a reading that the kernel
takes in (slot, time, value: 24) with how fast one thread sums an array that fits no cache.
"""

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import report, rows, unavailable
from schema.compiled import compiled
from streams.pane_rows import CLOSED_DTYPE, MINUTE_MS, NEVER, NO_COUNTER, new_panes
from streams.panes import fold

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / "build" / "bench-venv" / "bin" / "python"
"""Has the peers; what is measured here needs nothing else that is not there as well."""
DEVICES = 500
SLOTS = 10
EVERY_MS = 10_000
START_MS = 1_760_000_400_000
READING_BYTES = 24
LARGER_THAN_CACHE = 48 << 20
SIZES = (100, 1_000, 20_000)
"""Readings a message; the last one, a backlog (1 MB holds 30,000), stands against those who get everything at once."""

Columns = dict[str, npt.NDArray[np.int64]]


def readings(total: int) -> Columns:
    """Each device's readings in turn, as messages bring them: each metric each ten seconds."""
    steps = total // (DEVICES * SLOTS)
    step = np.tile(np.repeat(np.arange(steps, dtype=np.int64), SLOTS), DEVICES)
    slot = np.tile(np.arange(SLOTS, dtype=np.int64), steps * DEVICES)
    device = np.repeat(np.arange(DEVICES, dtype=np.int64), steps * SLOTS)
    return {"device": device, "slot": slot, "ts": START_MS + step * EVERY_MS, "n": (step * 7 + slot * 13) % 1000}


def kernel_s(columns: Columns, size: int) -> float:
    """Seconds to fold messages of so many readings, device after device."""
    wrap = np.full(SLOTS, NO_COUNTER, np.int64)
    wrap[0] = 0
    out = np.zeros(3 * (size + SLOTS), CLOSED_DTYPE)
    slot, ts_ms, n = columns["slot"], columns["ts"], columns["n"]
    each = len(slot) // DEVICES
    states = [new_panes(SLOTS) for _ in range(DEVICES)]
    begun = perf_counter()
    for device, (panes, last) in enumerate(states):
        watermark_ms = NEVER
        for first in range(device * each, (device + 1) * each, size):
            part = slice(first, min(first + size, (device + 1) * each))
            _, watermark_ms = fold(
                panes, last, wrap, slot[part], ts_ms[part], n[part], 1, watermark_ms, 1 << 60, device, out, 0
            )
    return perf_counter() - begun


def duckdb_s(columns: Columns) -> Iterator[float]:
    """Seconds that DuckDB takes from a table of its own, in memory."""
    duckdb, pandas = importlib.import_module("duckdb"), importlib.import_module("pandas")
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    frame = pandas.DataFrame(columns, copy=False)
    connection.execute("CREATE TABLE readings AS SELECT * FROM frame")
    del frame
    while True:
        begun = perf_counter()
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE minutes AS SELECT device, slot, ts // 60000 AS minute, count(*) AS count,"
            " sum(n) AS sum, min(n) AS min, max(n) AS max FROM readings GROUP BY ALL"
        )
        yield perf_counter() - begun


def polars_s(columns: Columns) -> Iterator[float]:
    """Seconds that polars takes from a frame."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    pl = importlib.import_module("polars")
    frame = pl.DataFrame(columns)
    n = pl.col("n")
    while True:
        begun = perf_counter()
        frame.lazy().group_by("device", "slot", pl.col("ts") // MINUTE_MS).agg(
            n.len().alias("count"), n.sum().alias("sum"), n.min().alias("min"), n.max().alias("max")
        ).collect()
        yield perf_counter() - begun


def pandas_s(columns: Columns) -> Iterator[float]:
    """Seconds that pandas takes from a frame."""
    pandas = importlib.import_module("pandas")
    frame = pandas.DataFrame(columns, copy=False)
    while True:
        begun = perf_counter()
        keys = [frame["device"], frame["slot"], frame["ts"] // MINUTE_MS]
        frame.groupby(keys, sort=False)["n"].agg(["count", "sum", "min", "max"])
        yield perf_counter() - begun


PEERS: dict[str, Callable[[Columns], Iterator[float]]] = {"duckdb": duckdb_s, "polars": polars_s, "pandas": pandas_s}


@compiled
def total_of(column: npt.NDArray[np.int64]) -> int:
    """Sum of a column."""
    total = 0
    for i in range(len(column)):
        total += column[i]
    return total


def read_bytes_per_s(column: npt.NDArray[np.int64]) -> float:
    """Bytes a second that one thread reads at best: numpy's sum or a compiled loop, whichever is faster."""
    taken: list[float] = []
    for total in (total_of, np.sum):
        begun = perf_counter()
        total(column)
        taken.append(perf_counter() - begun)
    return column.nbytes / min(taken)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the readings, fewer repeats")
    given = parser.parse_args()
    if importlib.util.find_spec("duckdb") is None and PYTHON.exists() and Path(sys.executable) != PYTHON:
        os.execve(PYTHON, [PYTHON, *sys.argv], os.environ | {"PYTHONPATH": str(ROOT)})
    total, repeats = (1_000_000, 3) if given.quick else (10_000_000, 5)
    columns = readings(total)
    column = np.ones(LARGER_THAN_CACHE, np.int64)
    total_of(column)
    kernel_s(readings(DEVICES * SLOTS), SIZES[0])
    peers: dict[str, Iterator[float]] = {}
    for name, peer in PEERS.items():
        peers[name] = peer(columns)
        try:
            next(peers[name])
        except ImportError as error:
            del peers[name]
            unavailable(f"windows_vs_{name}", str(error))
    ours: dict[int, list[float]] = {size: [] for size in SIZES}
    theirs: dict[str, list[float]] = {name: [] for name in peers}
    shares: list[float] = []
    for repeat in range(repeats):
        for size in SIZES:
            ours[size].append(kernel_s(columns, size))
        shares.append(READING_BYTES * total / ours[SIZES[-1]][-1] / read_bytes_per_s(column))
        for name, each in peers.items():
            theirs[name].append(next(each))
        print(f"{repeat + 1} of {repeats}: {total / ours[SIZES[-1]][-1] / 1e6:.0f} M readings/s", flush=True)
    lines: list[list[Any]] = [[f"kernel, {size} a message", total / median(ours[size]) / 1e6] for size in SIZES]
    lines += [[name, total / median(taken) / 1e6] for name, taken in theirs.items()]
    rows("windows", ("by", "M readings/s"), lines, note=f"{total:,} readings, one thread")
    best = ours[SIZES[-1]]
    for name, taken in theirs.items():
        bar = {"at_least": 3.0} if name == "duckdb" else {}
        report(f"windows_vs_{name}", [their / our for their, our in zip(taken, best, strict=True)], "x", **bar)
    report("windows_share_of_read_bandwidth", shares, "", at_least=0.2, note="24 bytes a reading")


if __name__ == "__main__":
    main()
