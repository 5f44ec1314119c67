"""The worker over either log: a real Faust application in a process of its own, fed, stopped, killed and fenced."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from faust.types import TP
from streaming_world import Scribe, World, scribes, until

from streams import worker
from streams.logs.file import UnknownPartition
from streams.logs.lease import Lease
from streams.ownership import WorkerStats, WrongLog
from streams.worker import run_worker

# --- records ---


def test_each_record_of_both_topics_is_seen_once_and_in_order(world: World) -> None:
    world.append(700)
    world.start()
    world.append(700)
    world.assert_each_record_was_seen_once_and_in_order()


def test_a_worker_goes_on_where_its_processor_expects_after_every_kill(world: World) -> None:
    for _ in range(4):
        worker = world.start()
        before = len(world.seen(world.main, 0))
        world.append(600, size=2000)
        until(lambda before=before: len(world.seen(world.main, 0)) > before)  # type: ignore[misc]
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
    committed = world.log.committed(world.group)
    assert committed == {place: len(world.seen(*place)) for place in world.places}
    world.start()
    world.assert_each_record_was_seen_once_and_in_order()


def test_a_record_appended_while_the_line_is_idle_arrives_soon(world: World) -> None:
    world.start()
    for number in range(5):
        world.append(1)
        until(lambda number=number: len(world.seen(world.aside, 0)) > number, within_s=1)  # type: ignore[misc]


def test_a_worker_listens_on_no_port(world: World) -> None:
    worker = world.start()
    own = {link.readlink().name for link in Path(f"/proc/{worker.pid}/fd").iterdir()}
    listening = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{worker.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            listens = fields[3] == "0A" or table.startswith("udp")
            listening += [line for _ in [0] if listens and f"socket:[{fields[9]}]" in own]
    assert listening == []


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("value", "message"),
    [(b"poison", "ZeroDivisionError: a record that cannot be processed"), (b"cancelled", "was cancelled from within")],
)
def test_an_error_of_a_processor_ends_the_worker_with_it(world: World, value: bytes, message: str) -> None:
    worker = world.start()
    world.append(10)
    world.log.append([(world.main, 1, value)])
    assert worker.wait(timeout=8) == 1
    assert message in world.said()
    assert f"gave up {world.main} 1 False" in world.said()


def test_a_transaction_that_hangs_does_not_keep_a_worker_from_stopping(world: World) -> None:
    worker = world.start()
    world.append(10)
    world.log.append([(world.main, 1, b"endless")])
    until(lambda: "endless" in world.said())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=7) == 0
    assert f"gave up {world.main} 1 False" in world.said()
    assert f"gave up {world.main} 0 True" in world.said()


def test_a_second_worker_waits_and_takes_over_at_once_when_the_first_is_killed(embedded_world: World) -> None:
    world = embedded_world
    first = world.start()
    second = world.start(wait=False)
    until(lambda: f"another worker runs on this log (process {first.pid} on {socket.gethostname()})" in world.said())
    world.append(100)
    until(world.caught_up)
    assert "took" not in world.said()
    first.kill()
    until(lambda: "ready" in world.said(), within_s=3)
    assert f"took {world.main} 0 2" in world.said()
    world.append(100)
    world.assert_each_record_was_seen_once_and_in_order()
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=5) == 0


def test_a_worker_that_waits_for_another_can_be_stopped(embedded_world: World) -> None:
    world = embedded_world
    world.start()
    second = world.start(wait=False)
    until(lambda: "another worker runs on this log" in world.said())
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=5) == 0


def test_a_frozen_worker_whose_lease_was_taken_by_force_sees_nothing_more_and_ends(embedded_world: World) -> None:
    world = embedded_world
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
    assert world.seen(world.main, 0) == [*range(100)]
    lease.release()
    world.start()
    world.assert_each_record_was_seen_once_and_in_order()


async def run(world: World, **options: Any) -> None:
    """Be a worker in this process."""
    given: dict[str, Any] = {"topics": scribes(world), "group": world.group} | options
    await run_worker(broker_url=world.log.broker_url, data=world.folder / "faust", **given)


async def test_a_log_that_does_not_reach_to_where_the_state_continues_is_refused(world: World) -> None:
    (world.folder / f"{world.main}-2").write_text("41 x\n")
    ready = asyncio.Event()
    with pytest.raises(WrongLog, match=rf"{world.main}/2.* offset 42, but the log holds \[0, 0\)"):
        await run(world, on_ready=ready.set)
    assert not ready.is_set()


async def test_a_log_without_the_topic_is_refused(world: World) -> None:
    with pytest.raises(UnknownPartition, match="no topic other"):
        await run(world, topics={"other": Scribe(world.folder, "other")})


async def test_a_worker_can_be_stopped_by_an_event_and_run_again_in_the_same_process(world: World) -> None:
    for _ in range(2):
        world.append(10)
        await run_until_caught_up(world)
    world.assert_each_record_was_seen_once_and_in_order()


async def test_a_worker_begins_where_its_processor_expects_whatever_the_log_remembers(world: World) -> None:
    world.append(500)
    world.log.commit(world.group, {(world.main, 0): 400, (world.main, 1): 50})
    for number in range(2):
        (world.folder / f"{world.main}-{number}").write_text("".join(f"{each} x\n" for each in range(100)))
    stats = WorkerStats()
    await run_until_caught_up(world, stats=stats)
    world.assert_each_record_was_seen_once_and_in_order()
    assert [(each.repeated, each.seeks) for each in stats.lanes.values()] == [(0, 0)] * 4
    assert stats.lanes[TP(world.main, 0)].processed == 400


async def run_until_caught_up(world: World, **options: Any) -> None:
    """Work in this process until everything in the log is seen."""
    stop = asyncio.Event()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(run(world, stop=stop, **options))
        await seen(world)
        stop.set()


async def seen(world: World) -> None:
    while not world.caught_up():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("slip", [-150, +150], ids=["back", "ahead"])
async def test_a_consumer_that_slips_heals_and_is_counted(
    world: World, monkeypatch: pytest.MonkeyPatch, slip: int
) -> None:
    """The consumer is sent elsewhere between two loads: what it skips is read again, what it repeats is dropped."""
    consumers, stats, stop = caught_consumers(monkeypatch), WorkerStats(), asyncio.Event()
    slippery = TP(world.main, 1)
    world.append(300)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(run(world, stats=stats, stop=stop))
        await seen(world)
        (consumer,) = consumers
        consumer.pause_partitions({slippery})
        await consumer.seek_wait({slippery: 300})  # ends a fetch that waits for this partition too
        await asyncio.to_thread(world.append, 700)
        await consumer.seek_wait({slippery: 300 + slip})
        consumer.resume_partitions({slippery})
        await seen(world)
        stop.set()
    world.assert_each_record_was_seen_once_and_in_order()
    lane = stats.lanes.pop(slippery)
    assert (lane.repeated >= 150, lane.seeks > 0) == (slip < 0, slip > 0)
    assert (lane.processed, lane.expected) == (1000, 1000)
    assert [(each.repeated, each.seeks) for each in stats.lanes.values()] == [(0, 0)] * 3


def caught_consumers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The consumers of the workers that are started in this process from now on."""
    caught: list[Any] = []

    def catching(driver: Any) -> Any:
        class Transport(driver):  # type: ignore[misc]
            def create_consumer(self, *args: Any, **kwargs: Any) -> Any:
                caught.append(super().create_consumer(*args, **kwargs))
                return caught[-1]

        return Transport

    for scheme, driver in worker.DRIVERS.items():
        monkeypatch.setitem(worker.DRIVERS, scheme, catching(driver))
    return caught
