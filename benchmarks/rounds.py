"""Readings for a log, in records of 2,000 and in records of one, and what their 1-minute windows must be.

A fleet of `DEVICES` with `METRICS` each, a reading each ten seconds. A *round* is what all devices send next, whole
messages in whole records: ten steps of time in `batched` records of 20 messages with 100 readings, one step in `single`
ones. Every round is the same records with later times and other values, so millions of readings take a second to make.
"""

import zlib
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

from schema.messages import Message, Reading
from schema.record import HEADER_DTYPE, MESSAGE_DTYPE, READING_DTYPE, encode_telemetry

Shape = Literal["batched", "single"]
Rows = npt.NDArray[np.void]

DEVICES, METRICS = 100, 10
KEYS = DEVICES * METRICS
EVERY_MS = 10_000
MINUTE_MS = 60_000
START_MS = 1_767_571_200_000
STEPS: dict[Shape, int] = {"batched": 10, "single": 1}
MESSAGES_A_RECORD = 20
RECORDS_A_ROUND: dict[Shape, int] = {"batched": DEVICES // MESSAGES_A_RECORD, "single": KEYS}
DEVICE_NAMES = tuple(f"device-{i:04d}" for i in range(DEVICES))
METRIC_NAMES = tuple(f"metric_{i}" for i in range(METRICS))

WINDOW_FIELDS = ("key", "start_ms", "count", "sum", "min", "max")
WINDOW_DTYPE = np.dtype([(name, "i8") for name in WINDOW_FIELDS])
"""One closed window of one metric of one device; `key` is device * METRICS + metric."""


def values(shape: Shape, number: int) -> npt.NDArray[np.int64]:
    """The values of a round, (DEVICES, steps, METRICS), in the order in which a message holds them."""
    return np.random.default_rng(number).integers(-50_000, 50_000, (DEVICES, STEPS[shape], METRICS))


def rounds(shape: Shape, many: int) -> Iterator[list[bytes]]:
    """The records of each round."""
    steps = STEPS[shape]
    buffer, rows, size = _first_round(shape)
    header, messages, readings = rows["header"], rows["messages"], rows["readings"]
    seq, ts_ms = messages["seq"].copy(), readings["ts_ms"].copy()
    checked_from = HEADER_DTYPE.fields["checksum"][1] + 4  # type: ignore[index]  # a structured dtype has fields
    whole = memoryview(buffer)
    for number in range(many):
        later_ms = number * steps * EVERY_MS
        messages["seq"] = seq + number * (1 if shape == "batched" else METRICS)
        readings["ts_ms"] = ts_ms + later_ms
        readings["n"] = values(shape, number).reshape(len(rows), -1)
        header["min_ms"], header["max_ms"] = ts_ms[:, 0] + later_ms, ts_ms[:, -1] + later_ms
        header["checksum"] = [zlib.crc32(whole[at + checked_from : at + size]) for at in range(0, len(buffer), size)]
        yield [bytes(whole[at : at + size]) for at in range(0, len(buffer), size)]


def _first_round(shape: Shape) -> tuple[bytearray, Rows, int]:
    """The records of the first round behind each other, the same as rows to write into, and a record's length."""
    steps = STEPS[shape]
    batches: list[list[Message]]
    if shape == "batched":
        sent = [_message(device, 1, METRIC_NAMES, steps) for device in DEVICE_NAMES]
        batches = [sent[i : i + MESSAGES_A_RECORD] for i in range(0, DEVICES, MESSAGES_A_RECORD)]
    else:
        names = tuple(enumerate(METRIC_NAMES, 1))
        batches = [[_message(device, seq, (name,), steps)] for device in DEVICE_NAMES for seq, name in names]
    records = [encode_telemetry(batch, source="bench", receive_ms=START_MS) for batch in batches]
    header = np.frombuffer(records[0], HEADER_DTYPE, 1)[0]
    messages_at = HEADER_DTYPE.itemsize + int(header["source_bytes"]) + int(header["strings_bytes"])
    messages = np.dtype((MESSAGE_DTYPE, int(header["messages"])))
    row = np.dtype(
        {
            "names": ["header", "messages", "readings"],
            "formats": [HEADER_DTYPE, messages, (READING_DTYPE, int(header["readings"]))],
            "offsets": [0, messages_at, messages_at + messages.itemsize],
            "itemsize": len(records[0]),  # names have one length, so all records do
        }
    )
    buffer = bytearray(b"".join(records))
    return buffer, np.frombuffer(buffer, row), row.itemsize


def _message(device: str, seq: int, metrics: tuple[str, ...], steps: int) -> Message:
    readings = tuple(Reading(START_MS + i * EVERY_MS, metric, 0) for i in range(steps) for metric in metrics)
    return Message(device, "telemetry", START_MS, seq, START_MS, START_MS, readings)


def windows(shape: Shape, many: int, *, with_open: bool) -> Rows:
    """The windows of the first rounds by plain numpy, in order of (key, start), of WINDOW_DTYPE.

    `with_open` adds those whose end no reading of their device has reached.
    """
    n = np.stack([values(shape, number) for number in range(many)])  # (round, device, step, metric)
    n = n.transpose(1, 3, 0, 2).reshape(KEYS, -1)
    starts_ms = (START_MS + np.arange(n.shape[1]) * EVERY_MS) // MINUTE_MS * MINUTE_MS
    starts_ms, edges, counts = np.unique(starts_ms, return_index=True, return_counts=True)
    found = np.empty((KEYS, len(starts_ms)), WINDOW_DTYPE)
    found["key"], found["start_ms"], found["count"] = np.arange(KEYS)[:, None], starts_ms, counts
    for name, reduce in (("sum", np.add), ("min", np.minimum), ("max", np.maximum)):
        found[name] = reduce.reduceat(n, edges, axis=1)
    newest_ms = START_MS + (n.shape[1] - 1) * EVERY_MS
    return found[:, with_open | (starts_ms + MINUTE_MS <= newest_ms)].ravel()


def readings_of(shape: Shape, records: int) -> int:
    """How many readings that many records hold."""
    return records * KEYS * STEPS[shape] // RECORDS_A_ROUND[shape]
