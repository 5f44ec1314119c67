"""Who has lost a partition commits nothing, in the real database; and who takes it over does not wait for them."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from streaming_world import World, assert_each_number_was_entered_once, entered, load, longest_stand, until

from schema.migrate import migrate
from streams.connecting import Connection
from streams.guarded import Guarded
from streams.ownership import FENCED_AT_MOST
from streams.processor import Fenced

SESSION_S = 6.0


def test_a_worker_stopped_beyond_its_session_commits_nothing_afterwards_and_joins_again(
    shared: World, record_property: pytest.RecordProperty
) -> None:
    with load(shared) as said:
        stopped = shared.start(instance=None)
        other = shared.start(instance=None)
        until(lambda: {len(entered_by(shared, str(each.pid))) for each in (stopped, other)} == {3})
        stopped_s = time.time()
        stopped.send_signal(signal.SIGSTOP)
        until(lambda: len(entered_by(shared, str(other.pid))) == 6)
        stands = [longest_stand(rows, stopped_s - 1) for rows in entered(shared).values()]
        woken_s = time.time()
        stopped.send_signal(signal.SIGCONT)
        until(lambda: len(entered_by(shared, str(stopped.pid))) == 3)
    assert "belongs to another worker now" in shared.said(stopped)
    assert_each_number_was_entered_once(shared, said[0])
    for rows in entered(shared).values():
        others = [at for _, worker, at in rows if worker == str(stopped.pid) and stopped_s + 1 < at < woken_s]
        assert others == []
    shown = f"a worker stopped: partitions stood still for {', '.join(f'{each:.1f}' for each in stands)} s"
    print(shown)
    record_property("stopped", shown)
    assert max(stands) < 2 * SESSION_S


def entered_by(world: World, worker: str) -> list[int]:
    """The partitions whose newest record a worker entered."""
    return [partition for partition, rows in entered(world).items() if rows and rows[-1][1] == worker]


async def take_away(world: World, partition: int) -> None:
    """Become the owner of a partition without asking anybody."""
    guarded = await Guarded(world.database_url, world.main, partition).open()
    async with guarded.connection.transaction():
        await guarded.become_owner()
    await guarded.close()


def test_a_partition_that_is_taken_away_in_the_database_is_fenced(entering: World) -> None:
    """On Kafka the worker has the partitions handed out anew and goes on; on the embedded log it ends and says why."""
    worker = entering.start()
    entering.append(50)
    until(lambda: min(map(len, entered(entering).values())) == 50)
    asyncio.run(take_away(entering, 1))
    entering.append(50)
    if entering.log.broker_url.startswith("sqlite"):
        assert worker.wait(timeout=8) == 1
        assert "Fenced" in entering.said(worker)
        entering.start()
    until(lambda: min(map(len, entered(entering).values())) == 100)
    assert "belongs to another worker now" in entering.said(worker)
    assert [number for number, _, _ in entered(entering)[1]] == [*range(50)] * 2


def test_a_worker_that_is_fenced_again_and_again_ends_with_it(shared: World) -> None:
    worker = shared.start()
    with load(shared):
        for taken in range(1, FENCED_AT_MOST + 2):
            asyncio.run(take_away(shared, 2))
            until(lambda taken=taken: shared.said().count("belongs to another worker now") >= taken)  # type: ignore[misc]
            if taken <= FENCED_AT_MOST:
                until(lambda taken=taken: shared.said().count("took 2") > taken)  # type: ignore[misc]
    assert worker.wait(timeout=8) == 1


async def test_who_takes_over_does_not_wait_for_an_owner_that_is_stopped_inside_a_copy(database: str) -> None:
    migrate(database, {})
    stopped, successor = [await Guarded(database, "telemetry", 0).open() for _ in range(2)]
    async with stopped.connection.transaction():
        await stopped.become_owner()
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def write_slowly(connection: Connection) -> None:
        async with connection.cursor() as cursor, cursor.copy("COPY customers FROM STDIN"):
            inside.set()
            await go_on.wait()

    committing = asyncio.create_task(stopped.commit(1, None, write_slowly))
    await inside.wait()
    begun_s = time.monotonic()
    async with successor.connection.transaction():
        await successor.become_owner()
    assert time.monotonic() - begun_s < 3
    await successor.commit(1, None, lambda _: asyncio.sleep(0))
    go_on.set()
    with pytest.raises(Fenced):
        await committing
    for owner in (stopped, successor):
        await owner.close()
