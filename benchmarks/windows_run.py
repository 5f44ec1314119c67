"""What every program that makes the 1-minute windows is asked, measured by and answers: one process, one topic.

Started as `windows_….py LOG TOPIC SHAPE FILE`: reads the topic from its beginning until it has had so many records,
or until the first round that ends after so many seconds; writes the windows to FILE, and its figures as JSON.
"""

import argparse
import json
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.rounds import RECORDS_A_ROUND, WINDOW_DTYPE, Rows, Shape, readings_of


@dataclass
class Meter:
    """Counts records and takes the time from the first one on; start-up is before it."""

    shape: Shape
    seconds: float
    most: int
    records: int = 0
    begun: tuple[float, float] = (0.0, 0.0)
    ended: tuple[float, float] = field(default=(0.0, 0.0))

    def more(self) -> bool:
        """Whether to take one more record: asked, and counted, as each one comes."""
        if self.records == 0:
            self.begun = _now()
        elif self.over():
            return False
        self.records += 1
        return True

    def over(self) -> bool:
        """Whether the records taken are all that there will be; only whole rounds are."""
        if self.records >= self.most:
            return True
        whole = self.records > 0 and self.records % RECORDS_A_ROUND[self.shape] == 0
        return whole and time.perf_counter() - self.begun[0] >= self.seconds

    def end(self) -> None:
        """Everything taken is done."""
        self.ended = _now()


def _now() -> tuple[float, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime


@dataclass(frozen=True)
class Task:
    """What a program is asked to do."""

    log: str
    """URL of the log."""
    topic: str
    file: Path
    variant: str
    meter: Meter

    @property
    def kafka(self) -> str:
        """HOST:PORT of the log."""
        return self.log.removeprefix("kafka://")


def task(variants: tuple[str, ...] = ("expanded",)) -> Task:
    """The task that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", help="kafka://HOST:PORT; the worker takes sqlite:// as well")
    parser.add_argument("topic")
    parser.add_argument("shape", choices=tuple(RECORDS_A_ROUND))
    parser.add_argument("file", type=Path, help="where the windows go (.npy)")
    parser.add_argument("--records", type=int, required=True, help="the most to read; whole rounds")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after the round that ends then")
    parser.add_argument("--variant", choices=variants, default=variants[0])
    asked = parser.parse_args()
    meter = Meter(asked.shape, asked.seconds, asked.records)
    return Task(asked.log, asked.topic, asked.file, asked.variant, meter)


def answer(done: Task, windows: Rows) -> None:
    """Write the windows, in order of (key, start), and print the figures."""
    meter = done.meter
    assert windows.dtype == WINDOW_DTYPE
    np.save(done.file, windows[np.lexsort((windows["start_ms"], windows["key"]))])
    figures = {
        "records": meter.records,
        "readings": readings_of(meter.shape, meter.records),
        "wall_s": meter.ended[0] - meter.begun[0],
        "cpu_s": meter.ended[1] - meter.begun[1],
    }
    json.dump(figures, sys.stdout)
    print(flush=True)
