"""The Faust transport over Kafka: aiokafka's driver, made to do what the worker needs (`kafka://HOST:PORT[;…]`).

- It reads where the lanes are (`streams.steering`); a seek to a partition that has just gone is nothing.
- It asks brokers to answer within 0.1 s: with Faust's 1.5 s a busy partition waits for idle ones.
- Partitions stay with their worker at a rebalance as far as that is fair: what stays goes on from memory.
- A worker that takes no records, as its database is away, stays in its group: heartbeats say that it lives.
- What aiokafka fails with in its part in the group ends the worker; aiokafka would wait until it is asked.
- A start without a broker is tried for a while; committing offsets is advisory and never ends a worker.
- aiokafka's complaints during an outage are damped to a line of each kind every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import aiokafka
from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaConnectionError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.threads import WorkerThread

from streams.damping import damp
from streams.logs.file import LogError, LogUnreachable, UnknownPartition
from streams.steering import Steered

START_WITHIN_S = 60.0
START_RETRY_S = 1.0
START_REMINDER_S = 10.0
TOPICS_WITHIN_S = 2.0  # what was created a moment ago is not known to every broker yet
COMMIT_WITHIN_S = 5.0
LONGEST_STALL_MS = 2**31 - 1  # aiokafka leaves the group when no records are taken for longer, and stays away
FETCH_WAIT_MS = 100
FETCH_BYTES = 1 << 20  # of one partition in one fetch; a larger record comes alone

logger = logging.getLogger(__name__)


class _DaemonThread(WorkerThread):  # type: ignore[misc] # mode publishes no types
    """Without a broker the consumer may not end in time: that must not keep the process from ending."""

    def __init__(self, service: Any, **kwargs: Any) -> None:
        super().__init__(service, **kwargs)
        self.daemon = True


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc] # Faust publishes no types
    """Has aiokafka's consumer and an event loop of its own, so that heartbeats go on while state is loaded."""

    Worker = _DaemonThread
    _assignor: type[StickyPartitionAssignor]

    async def on_start(self) -> None:
        """Connect, and where no broker answers try again for `START_WITHIN_S`; then `LogUnreachable`."""
        damp(name for name in logging.root.manager.loggerDict if name.split(".")[0] == "aiokafka")
        url = ", ".join(str(url.with_password("…") if url.password else url) for url in self.transport.url)
        deadline, remind_at = time.monotonic() + START_WITHIN_S, 0.0
        while True:
            try:
                await super().on_start()
                return
            except KafkaConnectionError as error:
                now = time.monotonic()
                if now >= deadline:
                    message = f"{url}: no broker has answered for {START_WITHIN_S:.0f} s ({error})"
                    raise LogUnreachable(message) from None
                if now >= remind_at:
                    logger.warning("no broker answers at %s, trying again for another %.0f s", url, deadline - now)
                    remind_at = now + START_REMINDER_S
            await self._consumer.stop()
            if await self.wait_for_stopped(asyncio.sleep(START_RETRY_S)):
                return

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        # The assignor keeps what it knows in its class: one for each consumer.
        self._assignor = type("Sticky", (StickyPartitionAssignor,), {})
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            check_crcs=False,  # records carry their own checksum
            max_partition_fetch_bytes=FETCH_BYTES,
            max_poll_interval_ms=LONGEST_STALL_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group; `UnknownPartition` if Kafka has not all the topics."""
        wanted = set(topics)
        deadline = time.monotonic() + TOPICS_WITHIN_S
        while missing := wanted - await self.call_thread(self._ensure_consumer().topics):
            if time.monotonic() >= deadline:
                raise UnknownPartition(f"{self.transport.url[0]}: no topic {', '.join(sorted(missing))}")
            await asyncio.sleep(START_RETRY_S / 5)
        await super().subscribe(wanted)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Let the assignor know how old its knowledge is; aiokafka itself does not tell it."""
        self._assignor.on_generation_assignment(generation_id)
        await super().on_partitions_assigned(assigned, generation_id)

    async def rejoin(self) -> None:
        """Have partitions handed out anew."""
        await self.call_thread(self._request_rejoin)

    async def _request_rejoin(self) -> None:
        self._ensure_consumer()._coordinator.request_rejoin()

    async def check(self) -> None:
        """Raise `LogError` if aiokafka has failed in its part in the group: it goes on only when somebody asks why."""
        coordinator = self._consumer._coordinator if self._consumer is not None else None
        if coordinator is None:
            return
        try:
            await self.call_thread(coordinator.check_errors)
        except KafkaError as error:
            message = f"{self.transport.url[0]}: this worker has no part in its group any more: {error!r}"
            raise LogError(message) from error

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        consumer = self._ensure_consumer()
        held = {TopicPartition(*tp): OffsetAndMetadata(at, "") for tp, at in offsets.items() if tp in self.assignment()}
        try:
            async with asyncio.timeout(COMMIT_WITHIN_S):
                await consumer.commit(held)
        except (KafkaError, TimeoutError) as error:
            logger.debug("the offsets could not be committed: %r", error)
            return False
        return True

    async def _seek_wait(self, consumer: aiokafka.AIOKafkaConsumer, partitions: Mapping[TP, int]) -> None:
        for tp, offset in partitions.items():
            try:
                consumer.seek(TopicPartition(*tp), offset)
            except IllegalStateError:
                logger.debug("%s/%d has gone before it could be sought", *tp)

    def last_told(self, tp: TP) -> tuple[int, float]:
        """See `Consumer.last_told`."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        state = assignment.state_value(TopicPartition(*tp)) if assignment is not None else None
        return (state.highwater or 0, state.timestamp or 0) if state is not None else (0, 0)


class Consumer(Steered, driver.Consumer):  # type: ignore[misc] # Faust publishes no types
    """Reads the partitions that Kafka's group coordinator assigns to this worker."""

    can_rejoin = True
    _thread: ConsumerThread

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def rejoin(self) -> None:
        """Have all partitions handed out anew, to us and to others."""
        await self._thread.rejoin()

    async def check(self) -> None:
        """Raise `LogError` if we take part in the group no more: this worker can only be started again."""
        await self._thread.check()

    def last_told(self, tp: TP) -> tuple[int, float]:
        """Return the end offset that the broker told with its last answer to a fetch, and when that was, by any clock.

        Zeros for a partition that is not held, or of which nothing has been told yet.
        """
        return self._thread.last_told(tp)


class Transport(driver.Transport):  # type: ignore[misc] # Faust publishes no types
    """The driver that the worker puts in the place of Faust's own for `kafka:` URLs."""

    Consumer: ClassVar[type[Consumer]] = Consumer
