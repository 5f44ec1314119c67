"""Programs make the same windows from the same topic, one at a time; what they find is compared with plain numpy."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.rounds import RECORDS_A_ROUND, Shape, windows

HERE = Path(__file__).resolve().parent
PATIENCE_S = 120


@dataclass(frozen=True)
class Runner:
    """A program that makes the windows: file, Python, and whether it also gives those still open when it ends."""

    name: str
    program: str
    python: Path
    variant: str = "expanded"
    gives_open: bool = False
    repeated: bool = True
    """Whether it runs in every turn, or in the first one only."""


@dataclass(frozen=True)
class Course:
    """A topic that holds so many rounds of a shape, in the log at a URL."""

    log: str
    topic: str
    shape: Shape
    rounds: int


@dataclass(frozen=True)
class Run:
    """What one run gave: rates from the first record to the last, start-up left out."""

    records_per_s: float
    per_s: float
    per_cpu_s: float


class DiffersError(Exception):
    """A program's windows are not those that the readings have."""


def run(runner: Runner, course: Course, seconds: float) -> Run:
    """Run a program over the topic, to its end or to the first round that ends after so many seconds.

    Raises:
        DiffersError: a window is missing, or wrong.
        RuntimeError: the program failed; with what it said last.
    """
    with tempfile.TemporaryDirectory(prefix="wardwatch-bench-") as folder:
        file = Path(folder, "windows.npy")
        command = [
            runner.python, HERE / runner.program, course.log, course.topic, course.shape, file,
            "--records", course.rounds * RECORDS_A_ROUND[course.shape], "--seconds", seconds,
            "--variant", runner.variant,
        ]  # fmt: skip
        done = subprocess.run(
            [str(word) for word in command],
            env=os.environ | {"PYTHONPATH": str(HERE.parent)},
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{runner.name} ended with status {done.returncode}: {done.stderr.strip()[-1500:]}")
        figures = json.loads(done.stdout.splitlines()[-1])
        whole_rounds = figures["records"] // RECORDS_A_ROUND[course.shape]
        expected = windows(course.shape, whole_rounds, with_open=runner.gives_open)
        if not np.array_equal(np.load(file), expected):
            raise DiffersError(f"{runner.name}: its windows are not those of the {figures['readings']:,} readings")
    readings = figures["readings"]
    return Run(figures["records"] / figures["wall_s"], readings / figures["wall_s"], readings / figures["cpu_s"])


def race(runners: list[Runner], course: Course, seconds: float, repeats: int) -> dict[str, list[Run]]:
    """Let the programs take turns, so that what else the machine does hits all of them."""
    found: dict[str, list[Run]] = {runner.name: [] for runner in runners}
    for number in range(repeats):
        for runner in runners:
            if number and not runner.repeated:
                continue
            begun = time.perf_counter()
            one = run(runner, course, seconds)
            found[runner.name].append(one)
            print(
                f"  {course.shape} {number + 1}/{repeats} {runner.name:32} {one.per_s:>12,.0f} readings/s"
                f" {one.per_cpu_s:>12,.0f} a CPU-second  ({time.perf_counter() - begun:.0f} s)",
                file=sys.stderr,
                flush=True,
            )
    return found


def ratios(of: list[Run], to: list[Run]) -> list[float]:
    """How many times faster, turn by turn."""
    return [mine.per_s / theirs.per_s for mine, theirs in zip(of, to, strict=False)]


def by_cpu(of: list[Run], to: list[Run]) -> str:
    """The same by CPU time, in words: what else the machine does shows less in it."""
    return f"by CPU time {per_cpu_s(of) / per_cpu_s(to):,.3g}"


def per_s(runs: list[Run]) -> float:
    """The median rate."""
    return median(one.per_s for one in runs)


def per_cpu_s(runs: list[Run]) -> float:
    """The median of readings a CPU-second."""
    return median(one.per_cpu_s for one in runs)
