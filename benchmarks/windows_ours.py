"""The 1-minute windows by the worker: Faust, agent, lane, and the panes kernel as `streams/telemetry.py` calls it."""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.rounds import DEVICE_NAMES, METRIC_NAMES, METRICS, WINDOW_DTYPE, WINDOW_FIELDS, Rows
from benchmarks.windows_run import Meter, Task, answer, task
from schema.record import TelemetryRecord, decode
from streams.pane_rows import CLOSED_DTYPE, LATE, NEVER, NO_COUNTER, new_panes
from streams.panes import fold
from streams.processor import LogRecord
from streams.worker import run_worker

MINUTES = 0
"""Index of the 1-minute panes among the resolutions; the kernel makes hours and days as well."""
ROOM = 65_536
FAR_MS = 1 << 60


@dataclass
class _Device:
    number: int
    panes: Rows
    last: Rows
    watermark_ms: int = NEVER


class PaneProcessor:
    """Folds the readings of each message into its device's panes and keeps the closed minutes."""

    def __init__(self, meter: Meter) -> None:
        self.done = asyncio.Event()
        self.closed: list[Rows] = []
        self._meter = meter
        self._devices = {name: _Device(i, *new_panes(METRICS)) for i, name in enumerate(DEVICE_NAMES)}
        self._slots = {name: i for i, name in enumerate(METRIC_NAMES)}
        self._wrap = np.full(METRICS, NO_COUNTER, np.int64)
        self._out = np.zeros(ROOM, CLOSED_DTYPE)

    async def take_over(self, partition: int, epoch_hint: int | None) -> int:  # noqa: ARG002
        return 0

    async def look(self, partition: int) -> None: ...

    async def suspend(self, partition: int) -> None: ...

    async def give_up(self, partition: int, *, orderly: bool) -> None: ...

    async def process(self, partition: int, records: Sequence[LogRecord]) -> None:  # noqa: ARG002
        for record in records:
            if self.done.is_set() or not self._meter.more():
                break
            decoded = decode(record.value)
            assert isinstance(decoded, TelemetryRecord)
            self._handle(decoded)
        if not self.done.is_set() and self._meter.over():
            self._meter.end()
            self.done.set()

    def _handle(self, record: TelemetryRecord) -> None:
        slot_of_string = np.array([self._slots.get(text, -1) for text in record.strings], np.int64)
        slots = slot_of_string[record.readings["metric"]]
        ts_ms = record.readings["ts_ms"].astype(np.int64)
        n = record.readings["n"].astype(np.int64)
        first, filled = 0, 0
        for row in record.messages.tolist():
            device, boot, last = self._devices[record.strings[row[0]]], row[2], first + row[6]
            filled, device.watermark_ms = fold(
                device.panes,
                device.last,
                self._wrap,
                slots[first:last],
                ts_ms[first:last],
                n[first:last],
                boot,
                device.watermark_ms,
                FAR_MS,
                device.number,
                self._out,
                filled,
            )
            first = last
        if filled:
            rows = self._out[:filled]
            self.closed.append(rows[rows["resolution"] == MINUTES])

    def windows(self) -> Rows:
        """The closed minutes, of WINDOW_DTYPE; none of them is late."""
        rows = np.concatenate([*self.closed, np.empty(0, CLOSED_DTYPE)])
        assert not (rows["flags"] & LATE).any()
        found = np.empty(len(rows), WINDOW_DTYPE)
        found["key"] = rows["device"] * METRICS + rows["slot"]
        for name in WINDOW_FIELDS[1:]:
            found[name] = rows[name]
        return found


async def _work(asked: Task) -> Rows:
    _warm_up()
    processor = PaneProcessor(asked.meter)
    with tempfile.TemporaryDirectory() as data:
        topics = {asked.topic: processor}
        await run_worker(
            broker_url=asked.log, topics=topics, data=Path(data), group="wardwatch-bench", stop=processor.done
        )
    return processor.windows()


def _warm_up() -> None:
    one = np.zeros(1, np.int64)
    panes, last = new_panes(METRICS)
    wrap = np.full(METRICS, NO_COUNTER, np.int64)
    fold(panes, last, wrap, one, one, one, 1, NEVER, FAR_MS, 0, np.zeros(64, CLOSED_DTYPE), 0)


def main() -> None:
    """Do what the command line asks."""
    asked = task()
    answer(asked, asyncio.run(_work(asked)))


if __name__ == "__main__":
    main()
