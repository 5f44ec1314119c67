"""What `KafkaLog` asks of a Kafka: each request is repeated until it is answered or its time is up.

aiokafka brings the connections, the brokers' metadata and the forms of the requests. Its own producer and consumer are
not used: the one repeats a batch for as long as it takes, and forgets what it was about when it is given up; the other
reads ahead. Everything here runs in one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from aiokafka import AIOKafkaClient, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record import MemoryRecords

from streams.damping import damp
from streams.logs import Record
from streams.logs.file import LogError, LogUnreachable, OffsetOutOfRange, UnknownPartition
from streams.logs.kafka_access import KafkaAccess

REQUEST_MS = 4_000
"""A broker that is silent for so long is asked again over a new connection."""
BACKOFF_S = 0.1
UNKNOWN_FOR_S = 1.5
"""What was created a moment ago is not known to every broker yet."""
EARLIEST, END = -2, -1
"""In the place of a time: asks for the first and for the next offset."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


_FORGOTTEN = {
    kafka_errors.OutOfOrderSequenceNumber,
    kafka_errors.DuplicateSequenceNumber,
    kafka_errors.UnknownProducerId,
    kafka_errors.InvalidProducerIdMapping,
    kafka_errors.InvalidProducerEpoch,
}


class ProducerForgotten(Exception):
    """The broker does not know this producer's earlier batches any more. Nothing of the batch is written."""


class KafkaClient:
    """Requests to the brokers that `access` leads to. Connects when first asked, and anew after it has given up."""

    def __init__(self, access: KafkaAccess, *, within_s: float) -> None:
        self.access = access
        self._within_s = within_s
        self._admin: AIOKafkaAdminClient | None = None
        self._connecting = asyncio.Lock()
        damp(name for name in logging.root.manager.loggerDict if name.split(".")[0] == "aiokafka")

    async def close(self) -> None:
        """Let go of all connections."""
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.close()

    async def persist(self, attempt: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
        """Return what `attempt` does; it is repeated after errors that pass.

        Raises:
            LogUnreachable: it has not worked within the time.
            UnknownPartition: Kafka has no such partition.
            LogError: Kafka refuses this.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        last: BaseException | None = None
        try:
            async with asyncio.timeout(self._within_s):
                while True:
                    try:
                        return await attempt(await self._connected())
                    except (KafkaError, OSError) as error:
                        last = error
                        if not _passes(error):
                            raise self._refused(error) from error
                        unknown = isinstance(error, kafka_errors.UnknownTopicOrPartitionError)
                        if unknown and loop.time() - begun > UNKNOWN_FOR_S:
                            raise UnknownPartition(f"{self.access.bootstrap}: {error}") from error
                    await asyncio.sleep(BACKOFF_S)
                    if self._admin is not None:
                        await self._admin._client.force_metadata_update()
        except TimeoutError:
            await self.close()
            raise LogUnreachable(
                f"{self.access.bootstrap}: no broker has done this within {self._within_s:.0f} s ({last!r})"
            ) from last

    async def _connected(self) -> AIOKafkaAdminClient:
        async with self._connecting:
            if self._admin is None:
                options = self.access.client_options()
                admin = AIOKafkaAdminClient(client_id="wardwatch", request_timeout_ms=REQUEST_MS, **options)
                try:
                    await admin.start()
                except BaseException as error:
                    await admin.close()
                    if isinstance(error, KafkaError):
                        await self._say_why(options)
                    raise
                self._admin = admin
            return self._admin

    async def _say_why(self, options: Mapping[str, Any]) -> None:
        """Raise what keeps us from connecting to the first broker; aiokafka only logs it."""
        options = {name: value for name, value in options.items() if name != "bootstrap_servers"}
        host, port, _ = collect_hosts(self.access.bootstrap)[0]
        connection = await create_conn(host, port, client_id="wardwatch", request_timeout_ms=REQUEST_MS, **options)
        connection.close()

    def _refused(self, error: BaseException) -> LogError:
        return LogError(f"{self.access.bootstrap}: {type(error).__name__}: {error}")

    async def new_producer(self) -> tuple[int, int]:
        """Return the id and epoch of a producer that nobody has used."""

        async def attempt(admin: AIOKafkaAdminClient) -> tuple[int, int]:
            client = admin._client
            response = await client.send(client.get_random_node(), InitProducerIdRequest(None, 2**31 - 1))
            _check(response.error_code, "a producer's id")
            return response.producer_id, response.producer_epoch

        return await self.persist(attempt)

    async def produce(self, tp: TopicPartition, batch: bytes) -> int:
        """Have all replicas in sync write a batch; return its first offset. The same bytes are never written twice.

        Raises:
            ProducerForgotten: the batch is not written, and its producer can write no more.
        """

        async def attempt(admin: AIOKafkaAdminClient) -> int:
            # The broker gives up waiting for its replicas before we do.
            request = ProduceRequest(None, -1, REQUEST_MS * 3 // 4, [(tp.topic, [(tp.partition, batch)])])
            response = await admin._client.send(_leader(admin._client, tp), request)
            _partition, code, offset, *_ = response.topics[0][1][0]
            if for_code(code) in _FORGOTTEN:
                raise ProducerForgotten(for_code(code).__name__)
            _check(code, f"{tp.topic}/{tp.partition}")
            return int(offset)

        return await self.persist(attempt)

    async def offsets(self, places: Sequence[TopicPartition], at_ms: int) -> dict[TopicPartition, int]:
        """Return each partition's first offset of `at_ms` or later (-1: none is so late), or `EARLIEST`, or `END`."""

        async def attempt(admin: AIOKafkaAdminClient) -> dict[TopicPartition, int]:
            asked: dict[int, dict[str, list[tuple[int, int]]]] = {}
            for tp in places:
                topics = asked.setdefault(_leader(admin._client, tp), {})
                topics.setdefault(tp.topic, []).append((tp.partition, at_ms))
            found: dict[TopicPartition, int] = {}
            for node, topics in asked.items():
                response = await admin._client.send(node, OffsetRequest(-1, 0, list(topics.items())))
                for topic, partitions in response.topics:
                    for partition, code, _timestamp, offset in partitions:
                        _check(code, f"{topic}/{partition}")
                        found[TopicPartition(topic, partition)] = offset
            return found

        return await self.persist(attempt)

    async def fetch(self, tp: TopicPartition, offset: int, max_bytes: int) -> list[Record]:
        """Return whole batches from the one that holds `offset` on; the first may be larger than `max_bytes`."""

        async def attempt(admin: AIOKafkaAdminClient) -> list[Record] | None:
            request = FetchRequest(0, 0, max_bytes, 0, [(tp.topic, [(tp.partition, offset, max_bytes)])])
            response = await admin._client.send(_leader(admin._client, tp), request)
            _partition, code, *_, data = response.topics[0][1][0]
            if for_code(code) is kafka_errors.OffsetOutOfRangeError:
                return None
            _check(code, f"{tp.topic}/{tp.partition}")
            return _records(data, offset)

        found = await self.persist(attempt)
        if found is None:
            start, end = (await self.offsets([tp], EARLIEST))[tp], (await self.offsets([tp], END))[tp]
            raise OffsetOutOfRange(tp.topic, tp.partition, offset, start, end)
        return found

    async def committed(self, group: str) -> dict[TopicPartition, int]:
        """Return the next offsets that a consumer group has noted."""

        async def attempt(admin: AIOKafkaAdminClient) -> dict[TopicPartition, int]:
            found = await admin.list_consumer_group_offsets(group)
            return {tp: noted.offset for tp, noted in found.items() if noted.offset >= 0}

        return await self.persist(attempt)

    async def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Note a group's next offsets; refused while the group has a member, which does this itself."""
        topics: dict[str, list[tuple[int, int, str]]] = {}
        for tp, offset in offsets.items():
            topics.setdefault(tp.topic, []).append((tp.partition, offset, ""))

        async def attempt(admin: AIOKafkaAdminClient) -> None:
            request = OffsetCommitRequest(group, -1, "", -1, list(topics.items()))
            response = await admin._client.send(await admin.find_coordinator(group), request)
            for topic, partitions in response.topics:
                for partition, code in partitions:
                    _check(code, f"{group} in {topic}/{partition}")

        await self.persist(attempt)

    async def delete(self, befores: Mapping[TopicPartition, int]) -> None:
        """Delete the records before these offsets."""
        wanted = {tp: RecordsToDelete(before) for tp, before in befores.items()}
        await self.persist(lambda admin: admin.delete_records(wanted))


def _passes(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, KafkaError):
        return bool(error.retriable) or type(error) is kafka_errors.UnknownError
    return not isinstance(error, ssl.SSLCertVerificationError)


def _check(code: int, about: str) -> None:
    kind = for_code(code)
    if kind is not kafka_errors.NoError:
        raise kind(about)


def _leader(client: AIOKafkaClient, tp: TopicPartition) -> int:
    leader = client.cluster.leader_for_partition(tp)
    if leader is None:
        raise kafka_errors.UnknownTopicOrPartitionError(f"{tp.topic}/{tp.partition}")
    if leader < 0:
        raise kafka_errors.LeaderNotAvailableError(f"{tp.topic}/{tp.partition}")
    return int(leader)


def _records(data: bytes, offset: int) -> list[Record]:
    """The records of whole batches from `offset` on."""
    found: list[Record] = []
    batches = MemoryRecords(data)
    while (batch := batches.next_batch()) is not None:
        if not batch.is_control_batch:
            found += (Record(each.offset, each.value, each.timestamp) for each in batch if each.offset >= offset)
    return found
