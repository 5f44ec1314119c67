"""The worker over the embedded log: a real Faust application in a process of its own, fed, stopped, killed and fenced.

Run as a program this file is that worker: its processors write what they see to files, one line a record, and take over
where those files end.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from streams.lane import FRUITLESS_SEEKS, GROUP, Lane, OffsetsMissing
from streams.lease import Lease
from streams.log import EmbeddedLog
from streams.logfile import UnknownPartition
from streams.ownership import WrongLog
from streams.processor import LogRecord
from streams.transport import broker_url
from streams.worker import run_worker

PARTITIONS = 3


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

    async def give_up(self, partition: int, *, orderly: bool) -> None:
        print("gave up", self.topic, partition, orderly, flush=True)


class World:
    """A log, a folder of what was seen, and the workers started on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = EmbeddedLog(folder / "log.sqlite")
        self.log.create_topic("telemetry", PARTITIONS)
        self.log.create_topic("refused", 1)
        self.workers: list[subprocess.Popen[str]] = []

    def start(self, *, wait: bool = True) -> subprocess.Popen[str]:
        output = self.folder / f"worker-{len(self.workers)}"
        with output.open("w") as file:
            command = [sys.executable, "-W", "error", __file__, str(self.folder)]
            worker = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, text=True)
        self.workers.append(worker)
        if wait:
            until(lambda: "ready" in self.said() or worker.poll() is not None)
            assert worker.poll() is None, self.said()
        return worker

    def said(self, worker: int = -1) -> str:
        number = range(len(self.workers))[worker]
        return (self.folder / f"worker-{number}").read_text()

    def append(self, count: int, size: int = 20) -> None:
        """Append `count` records to each partition of both topics, in appends of some hundred."""
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
        return [*(("telemetry", partition) for partition in range(PARTITIONS)), ("refused", 0)]

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


def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    for worker in world.workers:
        worker.kill()
        worker.wait()
    world.log.close()


# --- records ---


def test_each_record_of_both_topics_is_seen_once_and_in_order(world: World) -> None:
    world.append(700)
    world.start()
    world.append(700)
    world.assert_each_record_was_seen_once_and_in_order()


def test_a_worker_goes_on_where_its_processor_expects_after_every_kill(world: World) -> None:
    for _ in range(4):
        worker = world.start()
        before = len(world.seen("telemetry", 0))
        world.append(600, size=2000)
        until(lambda before=before: len(world.seen("telemetry", 0)) > before)  # type: ignore[misc]
        worker.kill()
        worker.wait()
    world.start()
    world.assert_each_record_was_seen_once_and_in_order()


def test_a_stopped_worker_has_processed_what_it_took_and_gives_every_partition_up_in_order(world: World) -> None:
    worker = world.start()
    world.append(3000)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=5) == 0
    for topic, partition in world.places:
        assert f"gave up {topic} {partition} True" in world.said()
    committed = world.log.committed("wardwatch")
    assert committed == {place: len(world.seen(*place)) for place in world.places}
    world.start()
    world.assert_each_record_was_seen_once_and_in_order()


def test_a_record_appended_while_the_line_is_idle_arrives_soon(world: World) -> None:
    world.start()
    for number in range(5):
        world.append(1)
        until(lambda number=number: len(world.seen("refused", 0)) > number, within_s=1)  # type: ignore[misc]


def test_a_worker_listens_on_no_port(world: World) -> None:
    worker = world.start()
    own = {link.readlink().name for link in Path(f"/proc/{worker.pid}/fd").iterdir()}
    listening = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{worker.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            listening += [line for _ in [0] if f"socket:[{fields[9]}]" in own]
    assert listening == []


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("value", "message"),
    [(b"poison", "ZeroDivisionError: a record that cannot be processed"), (b"cancelled", "was cancelled from within")],
)
def test_an_error_of_a_processor_ends_the_worker_with_it(world: World, value: bytes, message: str) -> None:
    worker = world.start()
    world.append(10)
    world.log.append([("telemetry", 1, value)])
    assert worker.wait(timeout=8) == 1
    assert message in world.said()
    assert "gave up telemetry 1 False" in world.said()


def test_a_transaction_that_hangs_does_not_keep_a_worker_from_stopping(world: World) -> None:
    worker = world.start()
    world.append(10)
    world.log.append([("telemetry", 1, b"endless")])
    until(lambda: "endless" in world.said())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=7) == 0
    assert "gave up telemetry 1 False" in world.said()
    assert "gave up telemetry 0 True" in world.said()


def test_a_second_worker_waits_and_takes_over_at_once_when_the_first_is_killed(world: World) -> None:
    first = world.start()
    second = world.start(wait=False)
    until(lambda: f"another worker runs on this log (process {first.pid} on {socket.gethostname()})" in world.said())
    world.append(100)
    until(world.caught_up)
    assert "took" not in world.said()
    first.kill()
    until(lambda: "ready" in world.said(), within_s=3)
    assert "took telemetry 0 2" in world.said()
    world.append(100)
    world.assert_each_record_was_seen_once_and_in_order()
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=5) == 0


def test_a_worker_that_waits_for_another_can_be_stopped(world: World) -> None:
    world.start()
    second = world.start(wait=False)
    until(lambda: "another worker runs on this log" in world.said())
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=5) == 0


def test_a_frozen_worker_whose_lease_was_taken_by_force_sees_nothing_more_and_ends(world: World) -> None:
    worker = world.start()
    world.append(100)
    until(world.caught_up)
    worker.send_signal(signal.SIGSTOP)
    lease = Lease.acquire(world.log, "a successor", force=True)
    world.append(100)
    worker.send_signal(signal.SIGCONT)
    assert worker.wait(timeout=8) == 1
    assert "LeaseLost" in world.said()
    assert "a successor" in world.said()
    assert world.seen("telemetry", 0) == [*range(100)]
    lease.release()
    world.start()
    world.assert_each_record_was_seen_once_and_in_order()


async def test_a_log_that_does_not_reach_to_where_the_state_continues_is_refused(world: World) -> None:
    (world.folder / "telemetry-2").write_text("41 x\n")
    ready = asyncio.Event()
    with pytest.raises(WrongLog, match=r"telemetry/2.* offset 42, but the log holds \[0, 0\)"):
        await run_worker(
            broker_url=broker_url(world.log.path),
            topics=scribes(world.folder),
            data=world.folder / "f",
            on_ready=ready.set,
        )
    assert not ready.is_set()


async def test_a_log_without_the_topic_is_refused(world: World) -> None:
    topics = {"other": Scribe(world.folder, "other")}
    with pytest.raises(UnknownPartition, match="no topic other"):
        await run_worker(broker_url=broker_url(world.log.path), topics=topics, data=world.folder / "f")


async def test_a_worker_can_be_stopped_by_an_event_and_run_again_in_the_same_process(world: World) -> None:
    world.append(10)
    for epoch in (1, 2):
        stop = asyncio.Event()
        await run_worker(
            broker_url=broker_url(world.log.path),
            topics=scribes(world.folder),
            data=world.folder / "f",
            on_ready=stop.set,
            stop=stop,
        )
        assert world.log.lease_epoch()[0] == epoch


# --- a lane alone ---


class Recorder:
    """A processor that keeps what it is given and can be held up."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.free = asyncio.Event()
        self.free.set()

    async def take_over(self, partition: int, epoch_hint: int | None) -> int:  # noqa: ARG002
        return 0

    async def process(self, partition: int, records: Sequence[LogRecord]) -> None:  # noqa: ARG002
        self.groups.append([record.offset for record in records])
        await self.free.wait()

    async def give_up(self, partition: int, *, orderly: bool) -> None: ...


async def run_lane(recorder: Recorder, *deliveries: Sequence[int]) -> tuple[Lane, list[int]]:
    """Deliver records of these offsets, first and after each seek; return the lane, which ends at 14, and its seeks."""
    sought: list[int] = []
    coming = iter(deliveries)

    async def deliver() -> None:
        for offset in next(coming):
            await lane.put(LogRecord(offset, b""))

    async def seek(offset: int) -> None:
        sought.append(offset)
        await deliver()

    lane = Lane("t/0", 0, recorder, 10, seek)
    running = asyncio.create_task(lane.run())
    await deliver()
    async with asyncio.timeout(5):
        while lane.expected < 14:
            await asyncio.sleep(0)
    lane.close()
    await running
    return lane, sought


async def test_a_lane_groups_what_is_waiting_and_hands_a_single_record_over_at_once() -> None:
    recorder = Recorder()
    recorder.free.clear()
    lane = Lane("t/0", 0, recorder, 0, asyncio.sleep)
    running = asyncio.create_task(lane.run())
    await lane.put(LogRecord(0, b""))
    while not recorder.groups:
        await asyncio.sleep(0)
    for offset in range(1, 50):
        await lane.put(LogRecord(offset, b""))
    lane.close()
    recorder.free.set()
    await running
    assert recorder.groups == [[0], [*range(1, 1 + GROUP)], [*range(1 + GROUP, 50)]]


async def test_a_lane_drops_what_it_has_had_and_counts_it() -> None:
    recorder = Recorder()
    lane, sought = await run_lane(recorder, [8, 9, 10, 11, 10, 11, 12, 13])
    assert [offset for group in recorder.groups for offset in group] == [10, 11, 12, 13]
    assert (lane.repeated, sought) == (4, [])


async def test_a_lane_asks_once_for_records_that_are_missing() -> None:
    recorder = Recorder()
    lane, sought = await run_lane(recorder, [10, 12], [13, 14, 15, 11, 12, 13])
    #                              11 is missing ^    ^ still under way ^ from the seek on
    assert [offset for group in recorder.groups for offset in group] == [10, 11, 12, 13]
    assert (sought, lane.seeks) == ([11], 1)


async def test_a_lane_that_waits_in_vain_seeks_again_and_then_gives_up_loudly() -> None:
    sought: list[int] = []

    async def seek(offset: int) -> None:
        sought.append(offset)

    lane = Lane("t/0", 0, Recorder(), 10, seek)
    await lane.watch(end=10)
    await lane.watch(end=10)
    assert sought == []
    for _ in range(FRUITLESS_SEEKS):
        await lane.watch(end=12)
    assert sought == [10] * FRUITLESS_SEEKS
    with pytest.raises(OffsetsMissing, match="offset 10 does not come"):
        await lane.watch(end=12)


def scribes(folder: Path) -> dict[str, Scribe]:
    return {topic: Scribe(folder, topic) for topic in ("telemetry", "refused")}


def main(folder: Path) -> None:
    """Be the worker of a test."""
    logging.basicConfig()
    asyncio.run(
        run_worker(
            broker_url=broker_url(folder / "log.sqlite"),
            topics=scribes(folder),
            data=folder / "faust",
            on_ready=lambda: print("ready", flush=True),
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
