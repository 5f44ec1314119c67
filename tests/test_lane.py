"""A lane alone: groups, repeats, gaps, and nobody left waiting."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from streams.lane import FRUITLESS_SEEKS, GROUP, WAITING, Lane, OffsetsMissing
from streams.processor import LogRecord


class Recorder:
    """A processor that keeps what it is given and can be held up."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.looks = 0
        self.free = asyncio.Event()
        self.free.set()

    async def take_over(self, partition: int, epoch_hint: int | None) -> int:  # noqa: ARG002
        return 0

    async def process(self, partition: int, records: Sequence[LogRecord]) -> None:  # noqa: ARG002
        self.groups.append([record.offset for record in records])
        await self.free.wait()

    async def look(self, partition: int) -> None:  # noqa: ARG002
        self.looks += 1

    async def suspend(self, partition: int) -> None: ...

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


async def test_an_idle_lane_has_its_processor_look_at_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.lane.LOOK_AFTER_S", 0.01)
    recorder = Recorder()
    lane = Lane("t/0", 0, recorder, 0, asyncio.sleep)
    running = asyncio.create_task(lane.run())
    async with asyncio.timeout(5):
        while recorder.looks < 3:
            await asyncio.sleep(0)
    await lane.put(LogRecord(0, b""))
    lane.close()
    await running
    assert recorder.groups == [[0]]


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
    assert (lane.stats.repeated, sought) == (4, [])


async def test_a_lane_asks_once_for_records_that_are_missing() -> None:
    recorder = Recorder()
    lane, sought = await run_lane(recorder, [10, 12], [13, 14, 15, 11, 12, 13])
    #                              11 is missing ^    ^ still under way ^ from the seek on
    assert [offset for group in recorder.groups for offset in group] == [10, 11, 12, 13]
    assert (sought, lane.stats.seeks) == ([11], 1)


async def test_a_lane_that_waits_in_vain_seeks_again_and_then_gives_up_loudly() -> None:
    sought: list[int] = []

    async def seek(offset: int) -> None:
        sought.append(offset)

    lane, now = Lane("t/0", 0, Recorder(), 10, seek), itertools.count(1)
    await lane.watch(10, next(now))
    await lane.watch(10, next(now))
    assert sought == []
    for _ in range(FRUITLESS_SEEKS):
        await lane.watch(12, next(now))
    assert sought == [10] * FRUITLESS_SEEKS
    with pytest.raises(OffsetsMissing, match="offset 10 does not come"):
        await lane.watch(12, next(now))


async def test_a_lane_that_nobody_has_answered_since_waits_and_seeks_nothing() -> None:
    lane = Lane("t/0", 0, Recorder(), 10, asyncio.sleep)
    for _ in range(3 * FRUITLESS_SEEKS):
        await lane.watch(12, 1.0)
    assert lane.stats.seeks == 0


async def test_a_lane_whose_processor_fails_lets_nobody_wait_for_room() -> None:
    recorder = Recorder()
    recorder.free.clear()
    lane = Lane("t/0", 0, recorder, 0, asyncio.sleep)
    running = asyncio.create_task(lane.run())
    for offset in range(1 + WAITING):
        await lane.put(LogRecord(offset, b""))
        await asyncio.sleep(0)
    waiting = asyncio.create_task(lane.put(LogRecord(1 + WAITING, b"")))
    await asyncio.sleep(0)
    assert not waiting.done()
    running.cancel()
    async with asyncio.timeout(5):
        await waiting
    assert not lane.drained
