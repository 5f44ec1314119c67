"""1-minute windows from Kafka (count, sum, minimum, maximum of each device's metrics): the worker against its peers.

All read the same topic of one partition, in one process each, unpack the same records with `schema.record.decode`, and
find the same windows, which are compared with plain numpy's. A peer gets every reading as an item of its own, which is
how its windows take them; beside it stands what it does with partial aggregates that numpy has made of each record
before. Rates are from the first record to the last, without start-up; ratios are medians over runs that take turns.
"""

import argparse
import asyncio
import subprocess
import sys
from pathlib import Path

from benchmarks.kafka_load import filled, kafka_at
from benchmarks.report import report, rows, unavailable
from benchmarks.rounds import Shape
from benchmarks.windows_race import Course, Run, Runner, by_cpu, per_cpu_s, per_s, race, ratios
from wardwatch.local.errors import KafkaUnavailableError

PEERS = ("quixstreams", "bytewax")
PYTHON = Path(__file__).resolve().parents[1] / "build" / "bench-venv" / "bin" / "python"
KEYS = ("vs_{}", "vs_{}_preaggregated", "vs_{}_single")
BAR = 10
ROUNDS: dict[Shape, int] = {"batched": 800, "single": 300}
"""In `batched` eight million readings; in `single` more than any of them reads in the time."""
OURS = "wardwatch"


def peer_version(python: Path, peer: str) -> str | None:
    """The version of a peer that this Python can import; None if it cannot."""
    if not python.exists():
        return None
    code = f"import {peer}, confluent_kafka, importlib.metadata; print(importlib.metadata.version({peer!r}))"
    found = subprocess.run([python, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def runners(versions: dict[str, str], python: Path, shape: Shape) -> list[Runner]:
    """Ours, and each peer that is there, in each variant that the shape allows."""
    found = [Runner(OURS, "windows_ours.py", Path(sys.executable))]
    for peer in versions:
        program, gives_open = f"windows_{peer}.py", peer == "bytewax"
        found.append(Runner(peer, program, python, "expanded", gives_open))
        if shape == "batched":
            found.append(Runner(f"{peer}, preaggregated", program, python, "preaggregated", gives_open, repeated=False))
    return found


async def measure(kafka: str, versions: dict[str, str], asked: argparse.Namespace) -> None:
    """Race over both shapes and report."""
    lines: list[list[float | str]] = []
    for shape, rounds in ROUNDS.items():
        async with filled(kafka, shape, rounds) as topic:
            course = Course(f"kafka://{kafka}", topic, shape, rounds)
            found = race(runners(versions, asked.python, shape), course, asked.seconds, asked.repeats)
        lines += [[shape, name, per_s(runs), per_cpu_s(runs)] for name, runs in found.items()]
        for peer, version in versions.items():
            _report(shape, peer, version, found)
    rows("windows_from_kafka", ("records", "by", "readings/s", "readings/CPU-s"), lines)


def _report(shape: Shape, peer: str, version: str, found: dict[str, list[Run]]) -> None:
    ours = found[OURS]
    what = f"{peer} {version}, 1-minute windows from one Kafka topic, one process each, results equal"
    if shape == "single":
        _against(f"vs_{peer}_single", ours, found[peer], f"{what}; one reading a record")
        return
    _against(f"vs_{peer}", ours, found[peer], f"{what}; 2,000 readings a record", at_least=BAR)
    early = found[f"{peer}, preaggregated"]
    _against(f"vs_{peer}_preaggregated", ours, early, f"{what}; numpy aggregates each record for the peer before")


def _against(key: str, ours: list[Run], theirs: list[Run], note: str, at_least: float | None = None) -> None:
    report(key, ratios(ours, theirs), "x", at_least=at_least, note=f"{note}; {by_cpu(ours, theirs)}")


def main() -> None:
    """Measure what the command line asks for; what is missing is reported as such."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", help="HOST:PORT of a running Kafka; none: start one")
    parser.add_argument("--python", type=Path, default=PYTHON, help="a Python that has the peers")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long a peer reads (default: 5)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one run of one second each: does it work?")
    asked = parser.parse_args()
    if asked.quick:
        asked.seconds, asked.repeats = 1.0, 1
    versions = {}
    for peer in PEERS:
        if (version := peer_version(asked.python, peer)) is not None:
            versions[peer] = version
        else:
            for key in KEYS:
                unavailable(key.format(peer), f"{peer} is not installed in {asked.python.parents[1].name}")
    try:
        if versions:
            with kafka_at(asked.kafka) as kafka:
                asyncio.run(measure(kafka, versions, asked))
    except KafkaUnavailableError as error:
        for peer in versions:
            for key in KEYS:
                unavailable(key.format(peer), error.reason)


if __name__ == "__main__":
    main()
