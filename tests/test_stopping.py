"""How a worker stops that has much to write: it takes the time that this needs, and no time in vain."""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from faust.types import TP
from streaming_world import World

from streams import stopping, worker
from streams.connecting import answers
from streams.ownership import Ownership
from streams.processor import LogRecord
from streams.worker import build_app, run_worker
from wardwatch.local.process import LOOPBACK, free_port

SOON_S = 0.3


class Large:
    """Has one last cut to write, which takes until `written` is set; `gave_up` says whether that was so."""

    def __init__(self) -> None:
        self.begun, self.written = asyncio.Event(), asyncio.Event()
        self.gave_up: list[bool] = []

    async def take_over(self, partition: int, epoch_hint: int | None) -> int:
        del partition, epoch_hint
        return 0

    async def process(self, partition: int, records: Sequence[LogRecord]) -> None: ...

    async def look(self, partition: int) -> None: ...

    async def suspend(self, partition: int) -> None: ...

    async def give_up(self, partition: int, *, orderly: bool) -> None:
        del partition
        try:
            if orderly:
                self.begun.set()
                await self.written.wait()
        finally:
            self.gave_up.append(self.written.is_set())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is waited for in vain take less time."""
    for module in (stopping, worker):
        monkeypatch.setattr(module, "SOON_S", SOON_S)
    monkeypatch.setattr(stopping, "ASK_EVERY_S", SOON_S / 10)


async def stopped(world: World, large: Large, answer: Callable[[], Awaitable[bool]], then: Callable[[], Any]) -> None:
    """Run a worker, ask it to stop, do what is said when its last cut is being written, and wait for its end."""
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        ready, stop = asyncio.Event(), asyncio.Event()
        running = run_worker(
            broker_url=world.log.broker_url,
            topics={world.aside: large},
            data=world.folder / "faust",
            group=world.group,
            on_ready=ready.set,
            stop=stop,
            answers=answer,
        )
        tasks.create_task(running)
        await ready.wait()
        stop.set()
        await large.begun.wait()
        await then()


async def test_a_last_cut_may_take_its_time_while_the_database_answers(embedded_world: World) -> None:
    large, asked = Large(), 0

    async def answer() -> bool:
        nonlocal asked
        asked += 1
        if asked == 30:  # longer than a database may be silent
            large.written.set()
        return True

    await stopped(embedded_world, large, answer, large.written.wait)
    assert large.gave_up == [True]


async def test_a_worker_whose_database_is_away_ends_soon(embedded_world: World) -> None:
    large, url = Large(), f"postgresql://{LOOPBACK}:{free_port()}/x"
    await stopped(embedded_world, large, lambda: answers(url), large.begun.wait)
    assert large.gave_up == [False]


async def test_a_worker_whose_database_is_silent_ends_soon(embedded_world: World) -> None:
    large = Large()
    with socket.create_server((LOOPBACK, 0)) as silent:
        port = silent.getsockname()[1]
        await stopped(embedded_world, large, lambda: answers(f"postgresql://{LOOPBACK}:{port}/x"), large.begun.wait)
    assert large.gave_up == [False]


async def test_a_stopping_worker_lets_go_when_others_wait_for_its_partitions(
    embedded_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, apps = Large(), []
    monkeypatch.setattr(worker, "REVOKE_WITHIN_S", SOON_S)
    monkeypatch.setattr(worker, "build_app", lambda *given, **named: apps.append(build_app(*given, **named)) or apps[0])
    await stopped(embedded_world, large, _yes, lambda: worker._on_revoked(apps[0]))
    assert large.gave_up == [False]


async def test_a_second_signal_leaves_out_what_is_not_written_but_one_signal_sent_twice_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = Large()
    async with asyncio.timeout(20), stopping.ending(None) as end:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        await end.asked.wait()
        working = asyncio.create_task(end.patient(large.give_up(0, orderly=True), _yes))
        await large.begun.wait()
        assert not end.hurried.is_set()
        monkeypatch.setattr(stopping, "SAME_SIGNAL_S", 0.0)
        signal.raise_signal(signal.SIGTERM)
        assert not await working
    assert large.gave_up == [False]


async def test_what_is_handed_to_a_worker_that_stops_is_not_loaded() -> None:
    owned = Ownership({"telemetry": Large()})
    await owned.give_up(within_s=SOON_S)
    owned.assigned = frozenset([TP("telemetry", 0)])
    await owned.take_over(None, 1)
    assert owned.lanes == {}


async def _yes() -> bool:
    return True
