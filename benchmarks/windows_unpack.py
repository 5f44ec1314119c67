"""A record's readings as the peers' windows take them: one by one, or as a partial aggregate of each key and minute."""

from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np
import numpy.typing as npt

from benchmarks.rounds import DEVICE_NAMES, METRIC_NAMES, MINUTE_MS, WINDOW_DTYPE, Rows
from schema.record import TelemetryRecord, decode

_KEYS = {f"{device}/{metric}": i for i, (device, metric) in enumerate(product(DEVICE_NAMES, METRIC_NAMES))}


def expanded(value: bytes) -> Iterator[tuple[str, tuple[int, int]]]:
    """(key, (ts_ms, n)) of each reading."""
    record = _telemetry(value)
    keys, numbers = _keys(record)
    ts_ms, n = record.readings["ts_ms"].tolist(), record.readings["n"].tolist()
    return zip(map(keys.__getitem__, numbers.tolist()), zip(ts_ms, n, strict=True), strict=True)


def partials(value: bytes) -> Iterator[tuple[str, tuple[int, int, int, int, int]]]:
    """(key, (newest ts_ms, count, sum, min, max)) of each key and minute, in order of time for each key."""
    record = _telemetry(value)
    keys, numbers = _keys(record)
    ts_ms, n = record.readings["ts_ms"], record.readings["n"]
    minutes = ts_ms // MINUTE_MS
    minutes -= minutes.min()
    group = numbers * (minutes.max() + 1) + minutes
    order = np.argsort(group, kind="stable")
    edges = np.flatnonzero(np.diff(group[order], prepend=-1))
    n, ts_ms = n[order], ts_ms[order]
    counts = np.diff(edges, append=len(n))
    figures = (reduce.reduceat(n, edges) for reduce in (np.add, np.minimum, np.maximum))
    columns = (np.maximum.reduceat(ts_ms, edges), counts, *figures)
    found = zip(*(column.tolist() for column in columns), strict=True)
    return zip(map(keys.__getitem__, numbers[order][edges].tolist()), found, strict=True)


def _telemetry(value: bytes) -> TelemetryRecord:
    record = decode(value)
    assert isinstance(record, TelemetryRecord)
    return record


def _keys(record: TelemetryRecord) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The keys of a record, and of each reading the number of its own among them."""
    strings = record.strings
    keys = [f"{strings[device]}/{text}" for device in record.messages["device"].tolist() for text in strings]
    message = np.repeat(np.arange(len(record.messages)), record.messages["readings"])
    return keys, message * len(strings) + record.readings["metric"]


def numbered(found: Iterable[tuple[str, int, int, int, int, int]]) -> Rows:
    """Windows (key, start_ms, count, sum, min, max) with their key's number, of WINDOW_DTYPE."""
    return np.array([(_KEYS[key], *figures) for key, *figures in found], WINDOW_DTYPE)
