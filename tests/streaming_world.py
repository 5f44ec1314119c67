"""A log of either kind, and workers on it: real Faust applications in processes of their own.

Run as a program this file is such a worker. Its processors are scribes, which write what they see to files, one line a
record, and take over where those files end; or, given a database, clerks, which do it in guarded transactions.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import psycopg

from streams.connecting import Connection
from streams.guarded import Guarded
from streams.logs import Log
from streams.logs.embedded import EmbeddedLog
from streams.logs.kafka import KafkaLog
from streams.logs.kafka_access import KafkaAccess
from streams.processor import LogRecord, Processor
from streams.worker import run_worker

PARTITIONS = 3
SEEN = "CREATE TABLE seen (topic text, partition int, number bigint, worker text, at double precision)"
_numbers = count(1)


class Scribe:
    """Writes each record of a partition as one line to the partition's file; that file is its database."""

    def __init__(self, folder: Path, topic: str) -> None:
        self.folder = folder
        self.topic = topic

    def file(self, partition: int) -> Path:
        return self.folder / f"{self.topic}-{partition}"

    async def take_over(self, partition: int, epoch_hint: int | None) -> int:
        file = self.file(partition)
        lines = file.read_bytes().splitlines() if file.exists() else []
        print("took", self.topic, partition, epoch_hint, flush=True)
        return int(lines[-1].split()[0]) + 1 if lines else 0

    async def process(self, partition: int, records: Sequence[LogRecord]) -> None:
        if any(record.value == b"poison" for record in records):
            raise ZeroDivisionError("a record that cannot be processed")
        if any(record.value == b"cancelled" for record in records):
            raise asyncio.CancelledError
        if any(record.value == b"endless" for record in records):
            print("endless", flush=True)
            await asyncio.sleep(3600)
        await asyncio.sleep(0)
        with self.file(partition).open("ab", buffering=0) as file:  # one write, so kill -9 cannot tear it
            file.write(b"".join(b"%d %s\n" % (record.offset, record.value[:20]) for record in records))

    async def look(self, partition: int) -> None: ...

    async def suspend(self, partition: int) -> None:
        print("suspended", self.topic, partition, flush=True)

    async def give_up(self, partition: int, *, orderly: bool) -> None:
        print("gave up", self.topic, partition, orderly, flush=True)


class Clerk:
    """Enters each record into a table, in the guarded transaction of `streams.guarded`.

    `load_s` is how long it takes to load the state of a partition that is not in memory.
    """

    def __init__(self, database_url: str, topic: str, load_s: float = 0.0) -> None:
        self.database_url = database_url
        self.load_s = load_s
        self.topic = topic
        self.owned: dict[int, Guarded] = {}

    async def take_over(self, partition: int, epoch_hint: int | None) -> int:
        kept = self.owned.get(partition)
        if kept is not None and await kept.is_ours():
            print("kept", partition, epoch_hint, flush=True)
            return kept.progress.next_offset
        if kept is not None:
            await kept.close()
        guarded = Guarded(self.database_url, self.topic, partition)

        async def load() -> None:
            async with guarded.connection.transaction():
                await guarded.become_owner()
            print("loads", partition, flush=True)
            await asyncio.sleep(self.load_s)

        await guarded.take_over(load)
        self.owned[partition] = guarded
        print("took", partition, epoch_hint, flush=True)
        return guarded.progress.next_offset

    async def process(self, partition: int, records: Sequence[LogRecord]) -> None:
        rows = [(self.topic, partition, int(record.value.split()[0]), str(os.getpid())) for record in records]

        async def write(connection: Connection) -> None:
            async with connection.cursor() as cursor:
                await cursor.executemany(
                    "INSERT INTO seen VALUES (%s, %s, %s, %s, extract(epoch FROM clock_timestamp()))", rows
                )

        await self.owned[partition].commit(records[-1].offset + 1, None, write)

    async def look(self, partition: int) -> None:
        await self.owned[partition].look()

    async def suspend(self, partition: int) -> None:
        guarded = self.owned[partition]
        await guarded.commit(guarded.progress.next_offset, None, lambda _: asyncio.sleep(0))

    async def give_up(self, partition: int, *, orderly: bool) -> None:
        print("gave up", partition, orderly, flush=True)
        if (guarded := self.owned.pop(partition, None)) is not None:
            await guarded.close()


class World:
    """A log with topics of its own, a folder of what was seen, and the workers started on it."""

    def __init__(self, folder: Path, log: Log, *, database_url: str = "", partitions: int = PARTITIONS) -> None:
        number = f"{os.getpid()}-{next(_numbers)}"
        self.folder = folder
        self.log = log
        self.database_url = database_url
        self.group = f"workers-{number}"
        self.main = f"telemetry-{number}"
        self.aside = f"refused-{number}"
        self.partitions = partitions
        for topic in self.topics:
            log.create_topic(topic, partitions if topic == self.main else 1)
        self.workers: list[subprocess.Popen[str]] = []

    @property
    def topics(self) -> list[str]:
        return [self.main] if self.database_url else [self.main, self.aside]

    def start(
        self, *, wait: bool = True, instance: str | None = "only", load_s: float = 0.0
    ) -> subprocess.Popen[str]:
        """Start a worker; workers beside each other need `instance` names of their own, or None."""
        output = self.folder / f"worker-{len(self.workers)}"
        what = {
            "broker_url": self.log.broker_url,
            "topics": self.topics,
            "folder": str(self.folder),
            "group": self.group,
            "instance": instance,
            "database_url": self.database_url,
            "load_s": load_s,
        }
        with output.open("w") as file:
            command = [sys.executable, "-W", "error", __file__, json.dumps(what)]
            worker = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, text=True)
        self.workers.append(worker)
        if wait:
            until(lambda: "ready" in self.said(worker) or worker.poll() is not None)
            assert worker.poll() is None, self.said(worker)
        return worker

    def said(self, worker: subprocess.Popen[str] | None = None) -> str:
        number = self.workers.index(worker) if worker else len(self.workers) - 1
        return (self.folder / f"worker-{number}").read_text()

    def append(self, count: int, size: int = 20) -> None:
        """Append `count` records to each partition of the topics, in appends of some hundred."""
        for first in range(0, count, 100):
            self.log.append(
                [
                    (topic, partition, (b"%d" % number).ljust(size))
                    for number in range(first, min(first + 100, count))
                    for topic, partition in self.places
                ]
            )

    @property
    def places(self) -> list[tuple[str, int]]:
        return [(topic, n) for topic in self.topics for n in range(self.partitions if topic == self.main else 1)]

    def seen(self, topic: str, partition: int) -> list[int]:
        file = self.folder / f"{topic}-{partition}"
        return [int(line.split()[0]) for line in file.read_bytes().splitlines()] if file.exists() else []

    def caught_up(self) -> bool:
        ends = self.log.end_offsets()
        return all(self.seen(*place)[-1:] == [ends[place] - 1] for place in self.places)

    def assert_each_record_was_seen_once_and_in_order(self) -> None:
        until(self.caught_up)
        for place in self.places:
            assert self.seen(*place) == [*range(self.log.end_offset(*place))], place


@contextmanager
def new_world(folder: Path, bootstrap: str | None = None, **options: Any) -> Iterator[World]:
    """A world on the embedded log, or on a Kafka; its workers are gone in the end."""
    with KafkaLog(KafkaAccess(bootstrap)) if bootstrap else EmbeddedLog(folder / "log.sqlite") as log:
        world = World(folder, log, **options)
        try:
            yield world
        finally:
            for worker in world.workers:
                worker.kill()
                worker.wait()


def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@contextmanager
def load(world: World, every_s: float = 0.02, size: int = 200) -> Iterator[list[int]]:
    """A record of a running number to each partition every so often, while the block runs; yields [how many so far]."""
    said, stop = [0], threading.Event()

    def append() -> None:
        while not stop.wait(every_s):
            world.log.append([(*place, (b"%d" % said[0]).ljust(size)) for place in world.places])
            said[0] += 1

    thread = threading.Thread(target=append)
    thread.start()
    try:
        yield said
    finally:
        stop.set()
        thread.join()


def entered(world: World) -> dict[int, list[tuple[int, str, float]]]:
    """What clerks entered: (number, worker's process id, when in s) by partition, in the order of entering."""
    with psycopg.connect(world.database_url) as connection:
        found: dict[int, list[tuple[int, str, float]]] = {number: [] for number in range(world.partitions)}
        for partition, *row in connection.execute("SELECT partition, number, worker, at FROM seen ORDER BY at"):
            found[partition].append((row[0], row[1], row[2]))
        return found


def assert_each_number_was_entered_once(world: World, count: int) -> None:
    def numbers() -> list[list[int]]:
        return [[number for number, _, _ in rows] for rows in entered(world).values()]

    until(lambda: min(map(len, numbers())) >= count)
    assert numbers() == [[*range(count)]] * world.partitions


def longest_stand(rows: list[tuple[int, str, float]], since_s: float) -> float:
    """The longest time, in s, that a partition with a steady load stood still, of those that ended after `since_s`."""
    at = [when for _, _, when in rows]
    return max(later - earlier for earlier, later in pairwise(at) if later >= since_s)


def scribes(world: World) -> dict[str, Scribe]:
    return {topic: Scribe(world.folder, topic) for topic in world.topics}


def prepare(database_url: str) -> None:
    """Make the tables that clerks need."""
    with psycopg.connect(database_url) as connection:
        connection.execute(SEEN)


def main(what: str) -> None:
    """Be the worker of a test."""
    logging.basicConfig()
    told = json.loads(what)
    folder, database_url = Path(told["folder"]), told["database_url"]
    topics: dict[str, Processor] = {
        topic: Clerk(database_url, topic, told["load_s"]) if database_url else Scribe(folder, topic)
        for topic in told["topics"]
    }
    asyncio.run(
        run_worker(
            broker_url=told["broker_url"],
            topics=topics,
            data=folder / "faust",
            group=told["group"],
            instance=told["instance"],
            on_ready=lambda: print("ready", flush=True),
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
