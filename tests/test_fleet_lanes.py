"""A record that waits for another partition holds nobody up: not its neighbours, not the end of the worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from streaming_world import World

from streams.lane import WAITING, Lane
from streams.processor import LogRecord, Waits
from streams.worker import run_worker

FIRST, SECOND = 700, 60
"""The record of partition 0 that waits, and the one of partition 1 that it waits for."""


class Dependent:
    """Partition 0 does not go beyond a record until partition 1 has come to one of its own."""

    def __init__(self, first: int, second: int) -> None:
        self.first, self.second = first, second
        self.seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
        self.calls = 0
        self.suspended_at: dict[int, int] = {}

    async def take_over(self, partition: int, epoch_hint: int | None) -> int:  # noqa: ARG002
        return len(self.seen[partition])

    async def process(self, partition: int, records: Sequence[LogRecord]) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        for record in records:
            if partition == 0 and record.offset >= self.first and len(self.seen[1]) <= self.second:
                raise Waits(record.offset)
            assert record.offset == len(self.seen[partition])
            self.seen[partition].append(record.offset)

    async def look(self, partition: int) -> None: ...

    async def suspend(self, partition: int) -> None:
        self.suspended_at[partition] = len(self.seen[partition])

    async def give_up(self, partition: int, *, orderly: bool) -> None:
        if orderly:
            await self.suspend(partition)


async def test_what_comes_before_the_record_that_waits_is_done_with() -> None:
    processor = Dependent(10, 0)
    lane = Lane("t/0", 0, processor, 0, asyncio.sleep)
    running = asyncio.create_task(lane.run())
    for offset in range(14):
        await lane.put(LogRecord(offset, b""))
    async with asyncio.timeout(5):
        while lane.stats.waits == 0:
            await asyncio.sleep(0)
    assert lane.expected == 10
    processor.seen[1].append(0)
    async with asyncio.timeout(5):
        while lane.expected < 14:
            await asyncio.sleep(0.001)
    lane.close()
    await running
    assert processor.seen[0] == [*range(14)]
    assert lane.stats.seeks == 0


async def test_a_lane_that_waits_makes_nobody_wait_for_room_and_reads_again_afterwards() -> None:
    processor, paused = Dependent(0, 0), [0]
    sought: list[int] = []
    coming: list[asyncio.Task[None]] = []
    end = 4 * WAITING

    async def deliver(first: int) -> None:
        for offset in range(first, end):
            await lane.put(LogRecord(offset, b""))

    async def seek(offset: int) -> None:
        sought.append(offset)
        coming.append(asyncio.create_task(deliver(offset)))

    def pause() -> None:
        paused[0] += 1

    lane = Lane("t/0", 0, processor, 0, seek, pause=pause)
    running = asyncio.create_task(lane.run())
    await lane.put(LogRecord(0, b""))
    async with asyncio.timeout(5):
        while lane.stats.waits == 0:
            await asyncio.sleep(0)
        await deliver(1)
    assert not lane.full
    assert paused[0] == 1
    for told_at in (1.0, 2.0):
        await lane.watch(end, told_at)
    assert sought == []
    processor.seen[1].append(0)
    async with asyncio.timeout(5):
        while lane.expected < end:
            await asyncio.sleep(0.001)
    lane.close()
    await running
    assert processor.seen[0] == [*range(end)]
    await coming[0]
    assert len(sought) == lane.stats.seeks == 1


async def test_whoever_was_waiting_for_room_gets_away_when_the_lane_begins_to_wait() -> None:
    class Slow(Dependent):
        free = asyncio.Event()

        async def process(self, partition: int, records: Sequence[LogRecord]) -> None:
            await self.free.wait()
            await super().process(partition, records)

    lane = Lane("t/0", 0, Slow(0, 0), 0, asyncio.sleep)
    running = asyncio.create_task(lane.run())
    await lane.put(LogRecord(0, b""))
    await asyncio.sleep(0)
    for offset in range(1, 1 + WAITING):
        await lane.put(LogRecord(offset, b""))
    stuck = asyncio.create_task(lane.put(LogRecord(1 + WAITING, b"")))
    await asyncio.sleep(0)
    assert not stuck.done()
    Slow.free.set()
    async with asyncio.timeout(5):
        await stuck
    lane.close()
    await running


async def test_a_lane_that_waits_closes_at_once_and_counts_as_drained() -> None:
    processor = Dependent(3, 0)
    lane = Lane("t/0", 0, processor, 0, asyncio.sleep)
    running = asyncio.create_task(lane.run())
    for offset in range(5):
        await lane.put(LogRecord(offset, b""))
    async with asyncio.timeout(5):
        while lane.stats.waits == 0:
            await asyncio.sleep(0)
        lane.close()
        await running
    assert lane.drained
    assert lane.expected == 3


async def run(world: World, processor: Dependent, until: dict[int, int], more: Sequence[int] = ()) -> float:
    """Run a worker until the partitions have seen so many records, then stop it; how long that took in s.

    Partitions get `more` when the one that waits does so.
    """
    stop = asyncio.Event()
    worker = asyncio.create_task(
        run_worker(
            broker_url=world.log.broker_url,
            topics={world.main: processor},
            data=world.folder / "faust",
            group=world.group,
            stop=stop,
        )
    )
    async with asyncio.timeout(30):
        while more and not worker.done() and len(processor.seen[0]) < FIRST:
            await asyncio.sleep(0.01)
        world.log.append([(world.main, partition, b"") for partition in more])
        while not worker.done() and any(len(processor.seen[each]) < count for each, count in until.items()):
            await asyncio.sleep(0.01)
        stop.set()
        since_s = time.monotonic()
        await worker
    return time.monotonic() - since_s


async def test_a_worker_with_all_partitions_brings_what_the_one_that_waits_needs(world: World) -> None:
    world.log.append([(world.main, 0, b"%d" % number) for number in range(FIRST + 500)])
    processor = Dependent(FIRST, SECOND)
    await run(world, processor, {0: FIRST + 500, 1: 2 * SECOND, 2: 2 * SECOND}, [1, 2] * 2 * SECOND)
    assert processor.seen == {0: [*range(FIRST + 500)], 1: [*range(2 * SECOND)], 2: [*range(2 * SECOND)]}


async def test_a_worker_that_stops_while_a_partition_waits_leaves_a_cut_and_the_next_goes_on(world: World) -> None:
    world.log.append([(world.main, 0, b"%d" % number) for number in range(FIRST + 500)])
    world.log.append([(world.main, 2, b"")])
    processor = Dependent(FIRST, SECOND)
    took_s = await run(world, processor, {0: FIRST, 2: 1})
    assert processor.suspended_at[0] == FIRST
    assert took_s < 4
    world.log.append([(world.main, 1, b"") for _ in range(2 * SECOND)])
    await run(world, processor, {0: FIRST + 500, 1: 2 * SECOND})
    assert processor.seen[0] == [*range(FIRST + 500)]
