"""Partitions exchange what they learn through the database; who waits, is killed or gone without changes nothing."""

from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from fleet_help import CATALOGUE, MODEL, Sums, fed, logs, sums  # noqa: F401  # fixtures

from schema.migrate import migrate
from streams.exchange import ContributionsGoneError, forget
from streams.owner import TelemetryOwner
from streams.processor import Fenced, LogRecord, Waits

pytestmark = pytest.mark.usefixtures("fed")

@pytest.fixture
def url(database: str) -> str:
    migrate(database, CATALOGUE)
    return database


class Clock:
    """Stands still unless it is moved."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def owner(
    url: str, partitions: int = 2, *, wait_s: float | None = None, clock: Clock | None = None
) -> TelemetryOwner:
    return TelemetryOwner(
        url, CATALOGUE, version="test", snapshot_every_s=1e9, partitions=partitions, fleet_wait_s=wait_s,
        monotonic=clock or Clock(),
    )  # fmt: skip


async def take(worker: TelemetryOwner, partition: int, log: Sequence[LogRecord], end: int | None = None) -> bool:
    """Process what the partition has not had yet, up to offset `end`, in groups; False if it has to wait."""
    offset, end = worker._owned[partition].next_offset, end or len(log)
    while offset < end:
        try:
            await worker.process(partition, log[offset : min(offset + 32, end)])
        except Waits:
            return False
        offset = min(offset + 32, end)
    return True


async def opened(worker: TelemetryOwner, partitions: int) -> TelemetryOwner:
    for partition in range(partitions):
        await worker.take_over(partition, None)
    return worker


def state(worker: TelemetryOwner, partition: int = 0) -> Any:
    return worker._owned[partition].partition.dump()


async def dropped(worker: TelemetryOwner) -> None:
    for owned in worker._owned.values():
        await owned.connection.close()


def rows(url: str) -> list[tuple[int, int, bytes, dict[str, int]]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT partition, day, contribution, missed FROM fleet_contributions ORDER BY 1, 2"
        ).fetchall()


async def in_step(worker: TelemetryOwner, of: Sequence[Sequence[LogRecord]]) -> None:
    """All partitions in turn, as far as they come, until nothing is left."""
    left = set(range(len(of)))
    while left:
        left = {partition for partition in left if not await take(worker, partition, of[partition])}


@pytest.mark.parametrize("partitions", [2, 4])
async def test_all_partitions_know_what_a_single_one_would(url: str, second_database: str, partitions: int) -> None:
    migrate(second_database, CATALOGUE)
    single = await opened(owner(second_database, 1), 1)
    await in_step(single, logs(1, 5))
    worker = await opened(owner(url, partitions), partitions)
    await in_step(worker, logs(partitions, 5))
    expected = single._owned[0].partition.shared.fleet.of(Sums, MODEL)
    assert len(expected.learnt) > 2 * 24 * 12
    for number in range(partitions):
        found = worker._owned[number].partition.shared.fleet.of(Sums, MODEL)
        assert (found.learnt, found.chain) == (expected.learnt, expected.chain)
    for each in (single, worker):
        await dropped(each)


async def test_a_partition_that_is_ahead_waits_with_the_tick_and_all_before_it_is_committed(url: str) -> None:
    first, second = logs(2, 5)
    worker = await opened(owner(url), 2)
    assert not await take(worker, 0, first)
    owned = worker._owned[0]
    asked = next(each.offset for each in first if each.offset >= owned.next_offset)
    assert owned.partition.shared.now_ms % 86_400_000 == 3_600_000  # the tick that closes the second day is next
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT next_offset FROM partition_progress WHERE partition = 0").fetchone()
    assert found == (asked,)
    with pytest.raises(Waits) as waits:
        await worker.process(0, first[asked : asked + 3])
    assert waits.value.offset == asked
    assert not await take(worker, 1, second)
    assert owned.next_offset == asked
    assert not await take(worker, 0, first)
    assert owned.next_offset > asked
    await in_step(worker, [first, second])
    await dropped(worker)


async def test_a_killed_worker_and_its_successor_take_in_what_was_taken_in(url: str, second_database: str) -> None:
    migrate(second_database, CATALOGUE)
    both = logs(2, 6)
    undisturbed = await opened(owner(second_database), 2)
    await in_step(undisturbed, both)
    for killed_at in (60, 61, 130, 200, 251):
        worker = await opened(owner(url), 2)
        for partition in (0, 1, 0, 1, 0, 1):
            await take(worker, partition, both[partition], min(killed_at, len(both[partition])))
        if killed_at in (130, 251):
            await worker.suspend(0)
        await dropped(worker)
    last = await opened(owner(url), 2)
    await in_step(last, both)
    for partition in (0, 1):
        assert state(last, partition) == state(undisturbed, partition)
    assert rows(url) == rows(second_database)
    for each in (last, undisturbed):
        await dropped(each)


async def test_another_worker_takes_over_a_partition_that_waits(url: str) -> None:
    first, second = logs(2, 5)
    one, other = owner(url), owner(url)
    await one.take_over(0, None)
    assert not await take(one, 0, first)
    await other.take_over(0, None)
    assert not await take(other, 0, first)
    await other.take_over(1, None)
    await in_step(other, [first, second])
    with pytest.raises(Fenced):
        await take(one, 0, first)
    await dropped(one)
    await dropped(other)


async def test_in_real_time_a_partition_that_stands_still_is_gone_without_and_taken_in_later(url: str) -> None:
    # partition 1 stands still after day 0; days that partition 0 closes: -1  0  1  2  3
    #                                                     and goes without:          1  1
    both, clock = logs(2, 7), Clock()
    worker = await opened(owner(url, wait_s=60, clock=clock), 2)
    await in_step(worker, [log[: 48 * 2] for log in both])
    for _ in range(2):
        assert not await take(worker, 0, both[0], 24 * 2 * 5)
        clock.now_s += 59
        assert not await take(worker, 0, both[0], 24 * 2 * 5)
        clock.now_s += 1
    assert await take(worker, 0, both[0], 24 * 2 * 5)
    assert [(day - 20_000, missed) for partition, day, _, missed in rows(url) if partition == 0] == [
        (-1, {}), (0, {}), (1, {}), (2, {"1": 20_000}), (3, {"1": 20_000}),
    ]  # fmt: skip
    assert worker.status()[0].counts["fleet_missing"] == 2
    await in_step(worker, both)
    known = [sorted(worker._owned[number].partition.shared.fleet.of(Sums, MODEL).learnt) for number in (0, 1)]
    assert known[0] == known[1]
    assert worker.status()[0].counts["fleet_missing"] == 2
    await dropped(worker)


async def test_what_was_gone_without_stays_so_when_it_is_recomputed(url: str) -> None:
    both, clock = logs(2, 7), Clock()
    worker = await opened(owner(url, wait_s=60, clock=clock), 2)
    end = 24 * 2 * 5
    while not await take(worker, 0, both[0], end):
        clock.now_s += 60
    before = state(worker)
    assert worker.status()[0].counts["fleet_missing"] > 0
    assert await take(worker, 1, both[1], end)
    await dropped(worker)
    again = owner(url, wait_s=60)
    assert await again.take_over(0, None) == 0
    assert await take(again, 0, both[0], end)
    assert state(again) == before
    await dropped(again)


async def test_contributions_that_a_cut_may_need_are_kept_and_those_before_go(url: str) -> None:
    both = logs(2, 6)
    worker = await opened(owner(url), 2)
    await in_step(worker, both)
    with psycopg.connect(url, autocommit=True) as connection:
        assert forget(connection, 2, None) is None
        await worker.suspend(0)
        assert forget(connection, 2, None) is None
        await worker.suspend(1)
        since = forget(connection, 2, None)
        days = [day for _, day, _, _ in rows(url)]
        assert since is not None
        assert min(days) < since <= max(days)
        assert forget(connection, 2, since) == since
        assert {day for _, day, _, _ in rows(url)} == {day for day in days if day >= since}
    await dropped(worker)
    successor = await opened(owner(url), 2)
    longer = logs(2, 8)
    assert successor._owned[0].next_offset == len(both[0])
    await in_step(successor, longer)
    await dropped(successor)


async def test_a_worker_does_not_make_up_what_it_took_in_before(url: str) -> None:
    both = logs(2, 5)
    worker = await opened(owner(url), 2)
    await in_step(worker, both)
    await dropped(worker)
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM fleet_contributions WHERE partition = 1")
    again = await opened(owner(url), 2)
    with pytest.raises(ContributionsGoneError, match=r"partitions \[1\]"):
        await take(again, 0, both[0])
    await dropped(again)


async def test_a_database_that_goes_away_while_a_partition_asks_is_waited_for(url: str) -> None:
    both = logs(2, 5)
    worker = await opened(owner(url), 2)
    assert not await take(worker, 0, both[0])
    await dropped(worker)
    assert not await take(worker, 0, both[0])
    await in_step(worker, both)
    await dropped(worker)
