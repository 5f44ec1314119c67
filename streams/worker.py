"""The worker: a Faust application that hands each owned partition's records to its processor, in order and in groups.

Faust brings the records and says which partitions are ours; it decides nothing else. What broker is behind it shows
only in the URL. The life of a partition, for any broker:

1. Assigned: `take_over` tells the offset to begin with, and the consumer seeks there. (Faust itself seeks to the
   committed offset after its public signals; `streams/steering.py` overrides that, or it would undo this.)
2. Agent → lane → `process`, see `streams/lane.py`. The offset committed to the broker is for people to look at.
3. Revoked or stopping: the lane is drained within a deadline, then `suspend` or `give_up`, see `streams/ownership.py`.

Any exception of a processor, of Faust or of the transport ends `run_worker` with it. Faust would restart a failed agent
or only log: so lanes run in tasks of our own, and `app.crash_reason` is looked at. Whoever keeps the worker starts it
again: everything it needs is in the database and in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager
from faust.types.auth import CredentialsT
from mode import CrashingSupervisor

from streams import kafka_transport, transport
from streams.ownership import Ownership, WorkerStats
from streams.processor import LogRecord, Processor
from streams.stopping import LAST_CUTS_WITHIN_S, SOON_S, Answers, Ending, ending

GROUP_ID = "wardwatch"
FAUST_STOPS_WITHIN_S = 1.0
"""At least; what the giving up has left of `SOON_S` comes on top."""
REBALANCE_WITHIN_S = 20.0
REVOKE_WITHIN_S = 0.75 * REBALANCE_WITHIN_S  # a last cut of a large state takes some seconds; a new load takes more
STREAM_BUFFER = 64
DRIVERS = {"kafka": kafka_transport.Transport, "sqlite": transport.Transport}

logger = logging.getLogger(__name__)


class _NoTables(TableManager):  # type: ignore[misc] # Faust publishes no types
    """There are no tables, so nothing is to be waited for: Faust's own sleeps for a second first."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class WorkerApp(faust.App):  # type: ignore[misc] # Faust publishes no types
    """The Faust application; `owned` is what it owns, `ending` what ends it."""

    owned: Ownership
    ending: Ending

    class BootStrategy(BootStrategy):  # type: ignore[misc] # Faust publishes no types
        """Nothing is produced through Faust."""

        enable_kafka_producer = False

    def _new_transport(self) -> Any:
        url = self.conf.broker_consumer
        return DRIVERS[url[0].scheme](url, self)


def build_app(
    broker_url: str,
    owned: Ownership,
    topics: Iterable[str],
    data: Path,
    *,
    group: str = GROUP_ID,
    instance: str | None = None,
    credentials: CredentialsT | None = None,
) -> WorkerApp:
    """Return the application, one agent for each topic; `data` is a folder that Faust may create and never fills."""
    app = WorkerApp(
        group,
        broker=broker_url,
        broker_credentials=credentials,
        consumer_group_instance_id=instance,
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
        broker_heartbeat_interval=0.3,
        broker_request_timeout=30,
        broker_rebalance_timeout=REBALANCE_WITHIN_S,
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


async def _on_revoked(app: WorkerApp, *_: Any, **__: Any) -> None:
    if app.ending.asked.is_set():
        app.ending.hurry_in(REVOKE_WITHIN_S)  # others wait for what is being given up
    await app.owned.revoke(within_s=REVOKE_WITHIN_S)


async def run_worker(
    *,
    broker_url: str,
    topics: Mapping[str, Processor],
    data: Path,
    group: str = GROUP_ID,
    instance: str | None = None,
    credentials: CredentialsT | None = None,
    stats: WorkerStats | None = None,
    on_ready: Callable[[], None] | None = None,
    stop: asyncio.Event | None = None,
    answers: Answers | None = None,
) -> None:
    """Own partitions of `topics` and have them processed until `stop` is set; then stop in order, within about 5 s.

    Without `stop`, SIGTERM and SIGINT do it. While what processors write to `answers`, last cuts may take up to
    `LAST_CUTS_WITHIN_S`, unless a second signal comes. `on_ready` is called when the partitions are taken over and
    records flow. `data` is a folder for Faust; `stats` is counted on. Raises the first exception of a processor, of
    Faust or of the transport.

    On Kafka the workers of one `group` share the partitions. A worker with an `instance` name, which no other of its
    group may have, is given the same partitions again when it comes back within 6 s, and nobody else's stand still
    meanwhile; but when it leaves for good, its partitions wait for those 6 s. `credentials` are for TLS and SASL.
    """
    data.mkdir(parents=True, exist_ok=True)
    owned = Ownership(topics, stats)
    app = build_app(broker_url, owned, topics, data, group=group, instance=instance, credentials=credentials)
    async with ending(stop) as app.ending:
        running = asyncio.create_task(owned.guarded(_run(app, on_ready)), name="faust")
        ends: list[asyncio.Future[Any]] = [running, asyncio.create_task(app.ending.asked.wait()), owned.failed]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends[:2]:
                task.cancel()
            await asyncio.gather(*ends[:2], return_exceptions=True)
            await _shut_down(app, answers)
    if owned.failed.done():
        await owned.failed


async def _run(app: WorkerApp, on_ready: Callable[[], None] | None) -> None:
    """Start Faust and watch over it; ends with its crash, and never otherwise."""
    ended = asyncio.create_task(app.wait_until_stopped())
    started = asyncio.create_task(app.start())
    watch = asyncio.create_task(app.owned.watch(app.consumer))
    try:
        await asyncio.wait([started, ended, watch], return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            started.result()
            if on_ready is not None and not (app.crashed or app.owned.failed.done()):
                on_ready()
            await asyncio.wait([ended, watch], return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            watch.result()
        raise app.crash_reason or RuntimeError("Faust has stopped without being asked")
    finally:
        for task in (started, ended, watch):
            task.cancel()


async def _shut_down(app: WorkerApp, answers: Answers | None) -> None:
    """Stop intake, drain and give up in order (or drop, after a failure), stop Faust."""
    loop = asyncio.get_running_loop()
    soon = loop.time() + SOON_S
    owned = app.owned
    with suppress(Exception):
        app.consumer.stop_flow()
        app.flow_control.suspend()
    lanes = dict(owned.lanes)
    if answers is None or owned.failed.done():
        await owned.give_up(within_s=SOON_S, orderly=not owned.failed.done())
    elif not await app.ending.patient(owned.give_up(within_s=LAST_CUTS_WITHIN_S), answers):
        logger.warning("the last snapshots are left out: the next start recomputes")
        await owned.give_up(within_s=SOON_S, orderly=False)
    try:
        async with asyncio.timeout_at(max(soon, loop.time()) + FAUST_STOPS_WITHIN_S):
            if lanes:
                await app.consumer._commit({tp: lane.expected for tp, lane in lanes.items()})
            await app.stop()
    except Exception as error:  # what matters is committed or given up already
        logger.warning("Faust was left without being stopped in order: %r", error)
