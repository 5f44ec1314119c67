"""What only a worker on Kafka meets: brokers that are not there yet, or go away and come back."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from faust.types import TP
from fix_kafka import Broker
from streaming_world import Scribe, World, until

from streams.damping import DAMP_FOR_S, Damping
from streams.lane import FRUITLESS_SEEKS
from streams.ownership import WorkerStats
from streams.processor import LogRecord
from streams.worker import WorkerApp, build_app, run_worker


class Held(Scribe):
    """A scribe whose database is away until it is `back`; `waits` are the partitions that have come to it meanwhile."""

    def __init__(self, folder: Path, topic: str, back: asyncio.Event) -> None:
        super().__init__(folder, topic)
        self.back = back
        self.waits: set[int] = set()

    async def process(self, partition: int, records: Sequence[LogRecord]) -> None:
        self.waits.add(partition)
        await self.back.wait()
        await super().process(partition, records)


def test_a_worker_waits_for_its_broker_and_can_be_stopped_meanwhile(
    kafka_world: World, kafka_to_break: Broker
) -> None:
    kafka_world.append(10)
    kafka_to_break.kill()
    stopped, waits = (kafka_world.start(wait=False, instance=None) for _ in range(2))
    for worker in (stopped, waits):
        until(lambda worker=worker: "no broker answers at kafka://127.0.0.1:" in kafka_world.said(worker))  # type: ignore[misc]
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(timeout=8) == 0
    kafka_to_break.start()
    until(lambda: "ready" in kafka_world.said(waits))
    kafka_world.assert_each_record_was_seen_once_and_in_order()


def test_a_worker_outlives_its_broker_with_few_words_and_can_be_stopped_while_it_is_away(
    kafka_world: World, kafka_to_break: Broker
) -> None:
    worker = kafka_world.start()
    kafka_world.append(500)
    until(kafka_world.caught_up)
    kafka_to_break.kill()
    until(lambda: "aiokafka" in kafka_world.said())
    kafka_to_break.start()
    kafka_world.append(500)
    kafka_world.assert_each_record_was_seen_once_and_in_order()
    kafka_to_break.kill()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=8) == 0
    assert f"gave up {kafka_world.main} 0 True" in kafka_world.said()
    assert kafka_world.said().count("\n") < 80


async def test_a_database_may_be_away_for_longer_than_faust_lets_a_worker_take_nothing(
    kafka_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient_s = 1.0
    apps: list[WorkerApp] = []

    def build(*args: Any, **options: Any) -> WorkerApp:
        apps.append(build_app(*args, **options))
        apps[0].conf.broker_max_poll_interval = impatient_s
        return apps[0]

    monkeypatch.setattr("streams.worker.build_app", build)
    await asyncio.to_thread(kafka_world.append, 600)
    async with working(kafka_world) as held:
        await met(lambda: apps and any(lane.full for lane in apps[0].owned.lanes.values()))
        consumer = apps[0].consumer._thread._consumer
        await met(lambda: consumer._subscription.fetcher_idle_time > 3 * impatient_s)
        held.back.set()
        await met(kafka_world.caught_up)
    kafka_world.assert_each_record_was_seen_once_and_in_order()


async def test_a_worker_with_a_backlog_takes_no_record_for_missing_while_its_broker_is_away(
    kafka_world: World, kafka_to_break: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streams.ownership.LOOK_EVERY_S", 0.2)
    monkeypatch.setattr("streams.kafka_transport.COMMIT_WITHIN_S", 0.1)
    caplog.set_level(logging.DEBUG, "streams.kafka_transport")
    stats, place = WorkerStats(), TP(kafka_world.main, 0)

    def looks() -> int:
        return sum("could not be committed" in each.getMessage() for each in caplog.records)

    await asyncio.to_thread(kafka_world.append, 1)
    await asyncio.to_thread(kafka_world.log.append, [(*place, bytes(50_000))] * 400)
    async with working(kafka_world, stats=stats) as held:
        await met(lambda: place.partition in held.waits)
        await asyncio.to_thread(kafka_to_break.kill)
        held.back.set()
        await met(lambda: 0 < stats.lanes[place].expected < 401 and looks() > 0)
        begun = looks()
        await met(lambda: looks() > begun + 3 * FRUITLESS_SEEKS)
        assert stats.lanes[place].expected < 401
        assert stats.lanes[place].seeks == 0
        await asyncio.to_thread(kafka_to_break.start)
        await met(kafka_world.caught_up)
    kafka_world.assert_each_record_was_seen_once_and_in_order()


async def test_a_worker_that_its_group_does_not_take_ends_and_says_why(kafka_world: World) -> None:
    bootstrap = kafka_world.log.broker_url.removeprefix("kafka://")
    other = AIOKafkaConsumer(kafka_world.main, bootstrap_servers=bootstrap, group_id=kafka_world.group)
    await other.start()  # hands partitions out in another way, and goes on doing so
    try:
        worker = kafka_world.start(wait=False)
        assert await asyncio.to_thread(worker.wait, 20) == 1
    finally:
        await other.stop()
    assert "InconsistentGroupProtocol" in kafka_world.said()
    assert "ready" not in kafka_world.said()


@asynccontextmanager
async def working(world: World, **options: Any) -> AsyncIterator[Held]:
    """A worker in this process, and what stands for its database; it is stopped in the end."""
    stop, back = asyncio.Event(), asyncio.Event()
    topics = {topic: Held(world.folder, topic, back) for topic in world.topics}
    data = world.folder / "faust"
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(
            run_worker(
                broker_url=world.log.broker_url, topics=topics, data=data, group=world.group, stop=stop, **options
            )
        )
        yield topics[world.main]
        stop.set()


async def met(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_the_same_complaint_is_heard_once_a_while_with_how_often_it_was_made() -> None:
    now_s = 100.0
    damping, heard = Damping(lambda: now_s), []
    for _ in range(70):
        record = logging.LogRecord("aiokafka.conn", logging.ERROR, "", 0, "no answer from %s", ("a",), None)
        if damping.filter(record):
            heard.append(record.getMessage())
        now_s += DAMP_FOR_S / 50
    assert heard == ["no answer from a", "no answer from a (and 49 like it)"]
