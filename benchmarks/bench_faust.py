"""Readings through Faust: 2,000 in a record against one in a record, on Kafka and on the embedded log.

The same readings go through the worker (app, agent, lane) to a processor that decodes the record and folds it into
1-minute windows, which are compared with plain numpy's. Rates are from the first record to the last, without start-up;
ratios are medians over runs that take turns. What a record costs, Faust, lane and decoding, is paid once in 2,000.
"""

import argparse
import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.kafka_load import filled, kafka_at
from benchmarks.report import report, rows, unavailable
from benchmarks.rounds import Shape, rounds
from benchmarks.windows_race import Course, Run, Runner, by_cpu, per_cpu_s, per_s, ratios, run
from streams.logs.embedded import EmbeddedLog
from wardwatch.local.errors import KafkaUnavailableError

BAR = 300
ROUNDS: dict[Shape, int] = {"batched": 800, "single": 100}
"""In `batched` eight million readings; in `single` more than is read in the time."""
WORKER = Runner("worker", "windows_ours.py", Path(sys.executable))
NOTE = "readings/s through the worker with 2,000 readings a record against one, folded into windows"


async def on_kafka(kafka: str, asked: argparse.Namespace) -> list[list[float | str]]:
    """Measure on Kafka and report; return the rates."""
    async with AsyncExitStack() as kept:
        topics = {shape: await kept.enter_async_context(filled(kafka, shape, many)) for shape, many in ROUNDS.items()}
        found = _turns("kafka", f"kafka://{kafka}", topics, asked)
    batched, single = found["batched"], found["single"]
    note = f"{NOTE}; on Kafka; {by_cpu(batched, single)}"
    report("batched_vs_single", ratios(batched, single), "x", at_least=BAR, note=note)
    return _lines("kafka", found)


def on_embedded(asked: argparse.Namespace) -> list[list[float | str]]:
    """Measure on the embedded log and report; return the rates."""
    with tempfile.TemporaryDirectory(prefix="wardwatch-bench-") as folder:
        with EmbeddedLog(Path(folder, "log.sqlite")) as log:
            for shape, many in ROUNDS.items():
                log.create_topic(shape, 1)
                for records in rounds(shape, many):
                    log.append([(shape, 0, record) for record in records])
            url = log.broker_url
        found = _turns("embedded log", url, {shape: shape for shape in ROUNDS}, asked)
    batched, single = found["batched"], found["single"]
    note = f"{NOTE}; on the embedded log; {by_cpu(batched, single)}"
    report("batched_vs_single_embedded", ratios(batched, single), "x", note=note)
    return _lines("embedded", found)


def _turns(log: str, url: str, topics: dict[Shape, str], asked: argparse.Namespace) -> dict[Shape, list[Run]]:
    found: dict[Shape, list[Run]] = {shape: [] for shape in topics}
    for number in range(asked.repeats):
        for shape, topic in topics.items():
            one = run(WORKER, Course(url, topic, shape, ROUNDS[shape]), asked.seconds)
            found[shape].append(one)
            print(
                f"  {log} {number + 1}/{asked.repeats} {shape:8} {one.per_s:>12,.0f} readings/s"
                f" {one.records_per_s:>8,.0f} records/s",
                file=sys.stderr,
                flush=True,
            )
    return found


def _lines(log: str, found: dict[Shape, list[Run]]) -> list[list[float | str]]:
    return [[log, shape, per_s(runs), per_cpu_s(runs)] for shape, runs in found.items()]


def main() -> None:
    """Measure what the command line asks for; what is missing is reported as such."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", help="HOST:PORT of a running Kafka; none: start one")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long readings in records of one are read")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one run of one second each: does it work?")
    asked = parser.parse_args()
    if asked.quick:
        asked.seconds, asked.repeats = 1.0, 1
    lines = on_embedded(asked)
    try:
        with kafka_at(asked.kafka) as kafka:
            lines += asyncio.run(on_kafka(kafka, asked))
    except KafkaUnavailableError as error:
        unavailable("batched_vs_single", error.reason)
    rows("through_faust", ("log", "records", "readings/s", "readings/CPU-s"), lines)


if __name__ == "__main__":
    main()
