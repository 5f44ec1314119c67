"""An owner whose database goes away, loses its last commits, or crashes."""

import asyncio
import signal

import psycopg
import pytest
from chaos.proxy import Proxy
from owner_help import CATALOGUE, SCENARIO, content, log_of, owner, run
from streaming_world import World, entered, until

from schema.migrate import migrate
from simulator.offline import messages
from streams.guarded import CommitsLost
from wardwatch.local import LocalParts
from wardwatch.local.process import LOOPBACK


async def test_a_cut_that_was_left_behind_survives_a_crash_of_the_database(parts: LocalParts, database: str) -> None:
    migrate(database, CATALOGUE)
    log = log_of(list(messages(SCENARIO))[:50])
    suspended = owner(database)
    await suspended.take_over(0, None)
    await suspended.process(0, log)
    await suspended.suspend(0)
    parts.kill_database()
    parts.start_database()
    with psycopg.connect(database) as connection:
        cut = connection.execute("SELECT snapshot_offset FROM partition_progress WHERE topic = 'telemetry'").fetchone()
    assert cut == (len(log),)
    await suspended.give_up(0, orderly=False)


async def test_while_the_database_is_away_an_owner_waits_and_then_goes_on_as_if_nothing_had_been(
    database: str, second_database: str
) -> None:
    log = log_of(list(messages(SCENARIO))[:400])
    for url in (database, second_database):
        migrate(url, CATALOGUE)
    await run(second_database, log, iter(()))
    way, url = way_to(database)
    worker = owner(url)
    with way.running():
        await worker.take_over(0, None)
        await worker.process(0, log[:32])
    waiting = asyncio.create_task(worker.process(0, log[32:64]))
    done, _ = await asyncio.wait([waiting], timeout=0.5)
    assert not done
    with Proxy(way.target, way.port).running():
        await waiting
        for offset in range(64, len(log), 32):
            await worker.process(0, log[offset : offset + 32])
        await worker.give_up(0, orderly=True)
    assert content(database) == content(second_database)


def way_to(database: str) -> tuple[Proxy, str]:
    """A proxy before the database, which is away until it runs, and the database's URL through it."""
    way = Proxy(int(psycopg.conninfo.conninfo_to_dict(database)["port"] or 0))
    return way, psycopg.conninfo.make_conninfo(database, host=LOOPBACK, port=way.port)


async def test_an_owner_that_takes_over_while_the_database_is_away_waits_for_it(database: str) -> None:
    migrate(database, CATALOGUE)
    way, url = way_to(database)
    worker = owner(url)
    taking = asyncio.create_task(worker.take_over(0, None))
    done, _ = await asyncio.wait([taking], timeout=0.5)
    assert not done
    assert worker.stats.retries > 0
    with way.running():
        assert await taking == 0
        await worker.process(0, log_of(list(messages(SCENARIO))[:10]))
        await worker.give_up(0, orderly=True)


async def test_a_take_over_that_waits_for_the_database_can_be_broken_off_and_leaves_nothing(database: str) -> None:
    migrate(database, CATALOGUE)
    way, url = way_to(database)
    worker = owner(url)
    taking = asyncio.create_task(worker.take_over(0, None))
    await asyncio.wait([taking], timeout=0.3)
    taking.cancel()
    async with asyncio.timeout(1):
        await asyncio.gather(taking, return_exceptions=True)
    assert taking.cancelled()
    assert worker.status() == []
    await worker.give_up(0, orderly=False)
    with way.running():
        assert await worker.take_over(0, None) == 0
        await worker.give_up(0, orderly=False)


async def test_a_take_over_whose_connection_breaks_begins_again(database: str) -> None:
    migrate(database, CATALOGUE)
    way, url = way_to(database)
    worker = owner(url)
    with way.running(), psycopg.connect(database) as other:
        other.execute("LOCK TABLE state_snapshots")
        taking = asyncio.create_task(worker.take_over(0, None))
        with psycopg.connect(database, autocommit=True) as looking:
            while not looking.execute("SELECT 1 FROM partition_progress").fetchall():
                await asyncio.sleep(0.01)
        assert way.reset() > 0
        other.rollback()
        assert await taking == 0
        assert worker.status()[0].epoch > 1
        await worker.give_up(0, orderly=True)


async def test_a_suspended_partition_goes_on_from_memory_though_the_database_was_away_meanwhile(database: str) -> None:
    migrate(database, CATALOGUE)
    log = log_of(list(messages(SCENARIO))[:50])
    way, url = way_to(database)
    worker = owner(url)
    with way.running():
        await worker.take_over(0, None)
        await worker.process(0, log)
        await worker.suspend(0)
    taking = asyncio.create_task(worker.take_over(0, None))
    done, _ = await asyncio.wait([taking], timeout=0.5)
    assert not done
    with Proxy(way.target, way.port).running():
        assert await taking == len(log)
        assert worker.status()[0].epoch == 1
        await worker.give_up(0, orderly=False)


def test_a_worker_waits_for_its_database_and_can_be_stopped_meanwhile(entering: World) -> None:
    entering.append(10)
    way, entering.database_url = way_to(entering.database_url)
    stopped = entering.start(wait=False)
    until(lambda: "the database cannot be read, trying again" in entering.said())
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(timeout=8) == 0
    entering.start(wait=False)
    until(lambda: "the database cannot be read, trying again" in entering.said())
    with way.running():
        until(lambda: min(map(len, entered(entering).values())) == 10)


async def test_a_commit_whose_answer_was_lost_is_not_repeated(database: str) -> None:
    migrate(database, CATALOGUE)
    log = log_of(list(messages(SCENARIO))[:50])
    worker = owner(database)
    await worker.take_over(0, None)
    guarded = worker._owned[0].guarded
    await worker.process(0, log)
    guarded.progress.next_offset = 0  # as one knows it who has not heard the answer
    await guarded.connection.close()
    written = []

    async def write(_: object) -> None:
        written.append(1)

    await guarded.commit(len(log), None, write)
    assert (written, guarded.progress.next_offset) == ([], len(log))
    await guarded.close()


async def test_an_owner_ahead_of_a_database_that_lost_commits_starts_again(database: str) -> None:
    migrate(database, CATALOGUE)
    log = log_of(list(messages(SCENARIO))[:50])
    worker = owner(database)
    await worker.take_over(0, None)
    await worker.process(0, log[:10])
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE partition_progress SET next_offset = 4")
    await worker._owned[0].connection.close()
    with pytest.raises(CommitsLost, match="offset 4"):
        await worker.process(0, log[10:])
    await worker.give_up(0, orderly=False)


async def test_lost_commits_are_noticed_although_nothing_more_comes(database: str) -> None:
    migrate(database, CATALOGUE)
    worker = owner(database)
    await worker.take_over(0, None)
    await worker.process(0, log_of(list(messages(SCENARIO))[:10]))
    sessions = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'wardwatch telemetry%'"
    )
    with psycopg.connect(database, autocommit=True) as connection:
        await worker.look(0)
        connection.execute(sessions)
        await worker.look(0)  # finds the connection broken
        await worker.look(0)  # and on a new one everything in place
        connection.execute(sessions)
        connection.execute("UPDATE partition_progress SET next_offset = 4")
        await worker.look(0)
        with pytest.raises(CommitsLost, match="offset 4"):
            await worker.look(0)
    await worker.give_up(0, orderly=False)
