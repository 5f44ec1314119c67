"""The worker: a Faust application that hands each owned partition's records to its processor, in order and in groups.

Faust brings the records and says which partitions are ours; it decides nothing else. What broker is behind it shows
only in the URL. The life of a partition, for any broker:

1. Assigned: `take_over` tells the offset to begin with, and the consumer seeks there. (Faust itself seeks to the
   committed offset after its public signals; `perform_seek` is overridden, or it would undo this.)
2. Agent → lane → `process`, see `streams/lane.py`. The offset committed to the broker is for people to look at.
3. Revoked or stopping: the lane is drained within a deadline, then `give_up`.

Any exception of a processor, of Faust or of the transport ends `run_worker` with it. Faust would restart a failed agent
or only log: so lanes run in tasks of our own, and `app.crash_reason` is looked at.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import faust
from faust.tables.manager import TableManager
from faust.types import TP
from mode import CrashingSupervisor

from streams.ownership import Ownership
from streams.processor import LogRecord, Processor

STOP_WITHIN_S = 5.0
STREAM_BUFFER = 64

logger = logging.getLogger(__name__)


class _NothingRead(dict[TP, int]):
    """Faust's memory of read offsets, by which it drops what it takes for old: lanes decide that themselves."""

    def __getitem__(self, tp: TP) -> None:  # type: ignore[override]
        return None

    def __setitem__(self, tp: TP, offset: int | None) -> None:
        return None


class _ToExpected:
    """For any transport's consumer: seek to where the lanes are, not to what the broker remembers."""

    app: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset = _NothingRead()

    async def perform_seek(self) -> None:
        """Seek each partition to its lane's next offset. Faust calls this after a rebalance, and again as it likes."""
        await self.seek_wait({tp: lane.expected for tp, lane in self.app.owned.lanes.items()})  # type: ignore[attr-defined]

    def on_buffer_full(self, tp: TP) -> None:
        """Do nothing: `put` waits, and Faust's own way of slowing down sleeps for a second."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Do nothing, as nothing was taken out of fetching."""


class _NoTables(TableManager):  # type: ignore[misc] # Faust publishes no types
    """There are no tables, so nothing is to be waited for: Faust's own sleeps for a second first."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class WorkerApp(faust.App):  # type: ignore[misc] # Faust publishes no types
    """The Faust application; `owned` is what it owns."""

    owned: Ownership

    def _new_transport(self) -> Any:
        transport = super()._new_transport()
        transport.Consumer = type("Consumer", (_ToExpected, transport.Consumer), {"__module__": __name__})
        return transport


def build_app(broker_url: str, owned: Ownership, topics: Iterable[str], data: Path) -> WorkerApp:
    """Return the application, one agent for each topic; `data` is a folder that Faust may create and never fills."""
    app = WorkerApp(
        "wardwatch",
        broker=broker_url,
        datadir=data,
        autodiscover=False,
        web_enabled=False,
        agent_supervisor=CrashingSupervisor,
        TableManager=_NoTables,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        stream_buffer_maxsize=STREAM_BUFFER,
        broker_session_timeout=6,
        broker_heartbeat_interval=1,
        broker_request_timeout=30,
        broker_rebalance_timeout=20,
        consumer_auto_offset_reset="earliest",
        worker_redirect_stdouts=False,
    )
    app.owned = owned
    for name in topics:
        topic = app.topic(
            name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", acks=False
        )
        app.agent(topic, name=f"intake-{name}")(_intake(owned))
    app.on_rebalance_complete.connect(_on_assigned)
    app.on_partitions_revoked.connect(_on_revoked)
    app.finalize()
    return app


def _intake(owned: Ownership) -> Callable[[Any], Awaitable[None]]:
    async def intake(stream: Any) -> None:
        async for event in stream.events():
            if (lane := owned.lanes.get(event.message.tp)) is not None:
                await lane.put(LogRecord(event.message.offset, event.value))

    return intake


async def _on_assigned(app: WorkerApp, **_: Any) -> None:
    try:
        await app.owned.take_over(app.consumer, app.consumer_generation_id)
    except Exception as error:
        app.owned.fail(error)


async def _on_revoked(app: WorkerApp, revoked: set[TP], **_: Any) -> None:
    await app.owned.give_up(revoked, within_s=STOP_WITHIN_S)


async def run_worker(
    *,
    broker_url: str,
    topics: Mapping[str, Processor],
    data: Path,
    on_ready: Callable[[], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Own partitions of `topics` and have them processed until `stop` is set; then stop in order, within about 5 s.

    Without `stop`, SIGTERM and SIGINT do it. `on_ready` is called when the partitions are taken over and records flow.
    `data` is a folder for Faust. Raises the first exception of a processor, of Faust or of the transport.
    """
    data.mkdir(parents=True, exist_ok=True)
    owned = Ownership(topics)
    app = build_app(broker_url, owned, topics, data)
    async with _stop_event(stop) as stopping:
        running = asyncio.create_task(owned.guarded(_run(app, on_ready)), name="faust")
        ends: list[asyncio.Future[Any]] = [running, asyncio.create_task(stopping.wait()), owned.failed]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends[:2]:
                task.cancel()
            await asyncio.gather(*ends[:2], return_exceptions=True)
            await _shut_down(app)
    if owned.failed.done():
        await owned.failed


async def _run(app: WorkerApp, on_ready: Callable[[], None] | None) -> None:
    """Start Faust and watch over it; ends with its crash, and never otherwise."""
    ended = asyncio.create_task(app.wait_until_stopped())
    started = asyncio.create_task(app.start())
    try:
        await asyncio.wait([started, ended], return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            started.result()
            if on_ready is not None and not (app.crashed or app.owned.failed.done()):
                on_ready()
        watch = asyncio.create_task(app.owned.watch(app.consumer))
        try:
            await asyncio.wait([ended, watch], return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                watch.result()
        finally:
            watch.cancel()
        raise app.crash_reason or RuntimeError("Faust has stopped without being asked")
    finally:
        started.cancel()
        ended.cancel()


async def _shut_down(app: WorkerApp) -> None:
    """Stop intake, drain and give up in order (or drop, after a failure), stop Faust; within `STOP_WITHIN_S`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + STOP_WITHIN_S
    owned = app.owned
    with suppress(Exception):
        app.consumer.stop_flow()
        app.flow_control.suspend()
    lanes = dict(owned.lanes)
    await owned.give_up(lanes, within_s=STOP_WITHIN_S * 0.8, orderly=not owned.failed.done())
    try:
        async with asyncio.timeout_at(deadline):
            if lanes:
                await app.consumer._commit({tp: lane.expected for tp, lane in lanes.items()})
            await app.stop()
    except Exception as error:  # what matters is committed or given up already
        logger.warning("Faust was left without being stopped in order: %r", error)


@asynccontextmanager
async def _stop_event(given: asyncio.Event | None) -> AsyncIterator[asyncio.Event]:
    """Yield the event that stops the worker: the caller's, or one that SIGTERM and SIGINT set."""
    if given is not None:
        yield given
        return
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    try:
        yield event
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
