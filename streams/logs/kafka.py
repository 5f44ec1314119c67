"""Kafka as the log: for those who append, and for those who look. The worker reads it through Faust.

A partition's entries go out in batches, one batch at a time: the next one leaves when all replicas in sync have the one
before. So none is in the log without those before it, through whatever outage. Each partition has a producer id of its
own, and a batch that was not answered keeps its sequence numbers, so that the broker knows it again. A call that has
failed and is repeated with the same entries goes on from where it got to: they are in the log once, as long as this
process lives and nobody else of it writes to that partition in between.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streams.logs import Record, wall_clock_ms
from streams.logs.file import LogError
from streams.logs.kafka_access import KafkaAccess
from streams.logs.kafka_client import EARLIEST, END, KafkaClient, ProducerForgotten
from streams.logs.kafka_topics import ensure_topic

BATCH_BYTES = 1_000_000
"""Below the limit of a topic as Kafka makes it; a larger record is a batch of its own."""
BATCH_OVERHEAD = 100
"""Of a batch's header, and at most of each record's."""
FAILED_CALLS = 4
"""So many threads may be about to repeat a call that has failed."""
LAST_SEQUENCE = 2**31 - 1
CLOSE_WITHIN_S = 2.0

T = TypeVar("T")


@dataclass(slots=True)
class _Writer:
    """A partition's producer, and the batch whose fate is not known."""

    tp: TopicPartition
    producer: tuple[int, int] | None = None
    sequence: int = 0
    pending: Sequence[bytes] | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class _Call:
    """What an `append` writes to each partition, and the offsets of what is written: the first of those values."""

    values: dict[TopicPartition, list[bytes]]
    offsets: dict[TopicPartition, list[int]]


class KafkaLog:
    """A process's handle of a Kafka; fulfils `streams.logs.Log`. Threads may share it: they wait for each other only
    where they append to the same partition.

    Nothing is asked before the first call. A call that needs a broker and finds none raises `LogUnreachable` after
    `within_s`; of an `append`, each batch has so long. `replication` is the number of copies of a new topic, by default
    three, or as many as there are brokers at that moment; given, a topic with fewer is refused.
    """

    def __init__(
        self,
        access: KafkaAccess,
        *,
        replication: int | None = None,
        within_s: float = 10.0,
        clock_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self.access = access
        self._clock_ms = clock_ms
        self._replication = replication
        self._topics: dict[str, int] = {}
        self._writers: dict[TopicPartition, _Writer] = {}
        self._failed: deque[_Call] = deque(maxlen=FAILED_CALLS)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kafka-log", daemon=True)
        self._thread.start()
        self._client = self._call(self._make_client(within_s))

    async def _make_client(self, within_s: float) -> KafkaClient:
        return KafkaClient(self.access, within_s=within_s)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            work.close()
            raise LogError(f"{self.access.bootstrap}: this handle is closed")
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except CancelledError as error:
            raise LogError(f"{self.access.bootstrap}: this handle was closed by another thread") from error

    @property
    def broker_url(self) -> str:
        """See `streams.logs.Log`."""
        return self.access.broker_url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the brokers; calls of other threads that are under way fail."""
        if self._loop.is_closed():
            return
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _shut(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await self._client.close()
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=CLOSE_WITHIN_S)

    def create_topic(self, topic: str, partitions: int) -> None:
        """Make sure that `topic` has `partitions` partitions and keeps what it has until `retain` deletes it.

        Raises:
            PartitionsDiffer: it has another number of partitions.
            LogUnusable: it would lose records by itself; the message says what to set.
        """
        self._call(self._client.persist(lambda admin: ensure_topic(admin, topic, partitions, self._replication)))
        self._topics[topic] = partitions

    def append(self, entries: Sequence[tuple[str, int, bytes]]) -> list[int]:
        """See `streams.logs.Log`; partitions are written at the same time. Offsets are known when the call returns.

        Raises:
            LogUnreachable: some of it may be written; a call with the same entries writes the rest.
            UnknownPartition: entries of other partitions may be written.
        """
        return self._call(self._append(entries))

    async def _append(self, entries: Sequence[tuple[str, int, bytes]]) -> list[int]:
        call = self._call_of(entries)
        failures = await asyncio.gather(*(self._write(tp, call) for tp in call.values), return_exceptions=True)
        for failure in failures:
            if failure is not None:
                self._failed.append(call)
                raise failure
        offsets = {tp: iter(found) for tp, found in call.offsets.items()}
        return [next(offsets[TopicPartition(topic, partition)]) for topic, partition, _ in entries]

    def _call_of(self, entries: Sequence[tuple[str, int, bytes]]) -> _Call:
        """The failed call that is repeated by these entries, which goes on from where it got to; else a new one."""
        values: dict[TopicPartition, list[bytes]] = {}
        for topic, partition, value in entries:
            values.setdefault(TopicPartition(topic, partition), []).append(value)
        for call in self._failed:
            if call.values == values:
                self._failed.remove(call)
                return call
        return _Call(values, {tp: [] for tp in values})

    async def _write(self, tp: TopicPartition, call: _Call) -> None:
        writer = self._writers.setdefault(tp, _Writer(tp))
        values, offsets = call.values[tp], call.offsets[tp]
        async with writer.turn:
            for batch in _cut(values[len(offsets) :]):
                first = await self._write_batch(writer, batch)
                offsets += range(first, first + len(batch))

    async def _write_batch(self, writer: _Writer, values: Sequence[bytes]) -> int:
        if writer.sequence + len(values) > LAST_SEQUENCE or writer.pending not in (None, values):
            writer.producer = None
        try:
            return await self._write_as(writer, values)
        except ProducerForgotten:
            writer.producer = None
        try:
            return await self._write_as(writer, values)
        except ProducerForgotten as error:
            raise LogError(f"{self.access.bootstrap}: a new producer is refused: {error}") from error

    async def _write_as(self, writer: _Writer, values: Sequence[bytes]) -> int:
        if writer.producer is None:
            writer.producer, writer.sequence = await self._client.new_producer(), 0
        writer.pending = values
        batch = _encoded(values, *writer.producer, writer.sequence, self._clock_ms())
        first = await self._client.produce(writer.tp, batch)
        writer.pending = None
        writer.sequence += len(values)
        return first

    def read(
        self, topic: str, partition: int, offset: int, *, max_bytes: int = 1 << 20, max_records: int = 1000
    ) -> list[Record]:
        """See `streams.logs.Log`."""
        found = self._call(self._client.fetch(TopicPartition(topic, partition), offset, max(1, max_bytes)))
        size = 0
        for count, record in enumerate(found[:max_records]):
            size += len(record.value)
            if count and size > max_bytes:
                return found[:count]
        return found[:max_records]

    def last(self, topic: str, partition: int, count: int = 1) -> list[Record]:
        """See `streams.logs.Log`. Costs two questions and what it returns."""
        end = self.end_offset(topic, partition)
        at = max(self.start_offset(topic, partition), end - count)
        found: list[Record] = []
        while at < end:
            records = self.read(topic, partition, at, max_records=end - at)
            if not records:
                break
            found += records
            at = records[-1].offset + 1
        return found

    def start_offset(self, topic: str, partition: int) -> int:
        """See `streams.logs.Log`."""
        tp = TopicPartition(topic, partition)
        return self._call(self._client.offsets([tp], EARLIEST))[tp]

    def end_offset(self, topic: str, partition: int) -> int:
        """See `streams.logs.Log`."""
        tp = TopicPartition(topic, partition)
        return self._call(self._client.offsets([tp], END))[tp]

    def end_offsets(self) -> dict[tuple[str, int], int]:
        """Every partition's end offset, of the topics that this handle was told to create."""
        places = [TopicPartition(topic, number) for topic, count in self._topics.items() for number in range(count)]
        return {(tp.topic, tp.partition): at for tp, at in self._call(self._client.offsets(places, END)).items()}

    def commit(self, reader: str, offsets: Mapping[tuple[str, int], int]) -> None:
        """Note the next offsets of the consumer group `reader`. Kafka refuses it while a worker is in that group."""
        self._call(self._client.commit(reader, {TopicPartition(*place): at for place, at in offsets.items()}))

    def committed(self, reader: str) -> dict[tuple[str, int], int]:
        """See `streams.logs.Log`; `reader` is a consumer group."""
        return {(tp.topic, tp.partition): at for tp, at in self._call(self._client.committed(reader)).items()}

    def retain(self, *, max_bytes: int, max_age_ms: int, floor: Mapping[tuple[str, int], int]) -> int:  # noqa: ARG002
        """Delete records older than `max_age_ms` below their partition's floor; return how many went.

        Kafka deletes whole files of its log a while later, and does not tell its size: `max_bytes` has no effect.
        """
        return self._call(self._retain(self._clock_ms() - max_age_ms, floor))

    async def _retain(self, oldest_ms: int, floor: Mapping[tuple[str, int], int]) -> int:
        places = [TopicPartition(*place) for place in floor]
        starts = await self._client.offsets(places, EARLIEST)
        ends = await self._client.offsets(places, END)
        young = await self._client.offsets(places, oldest_ms)
        befores = {tp: min(floor[tp], ends[tp] if young[tp] < 0 else young[tp]) for tp in places}
        befores = {tp: before for tp, before in befores.items() if before > starts[tp]}
        if befores:
            await self._client.delete(befores)
        return sum(before - starts[tp] for tp, before in befores.items())


def _cut(values: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut into runs that fit into a batch; the same values are always cut in the same places."""
    first, size = 0, BATCH_OVERHEAD
    for at, value in enumerate(values):
        size += len(value) + BATCH_OVERHEAD
        if at > first and size > BATCH_BYTES:
            yield values[first:at]
            first, size = at, 2 * BATCH_OVERHEAD + len(value)
    if first < len(values):
        yield values[first:]


def _encoded(values: Sequence[bytes], producer_id: int, epoch: int, sequence: int, now_ms: int) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=producer_id, producer_epoch=epoch,
        base_sequence=sequence, batch_size=2**31 - 1,
    )  # fmt: skip
    for at, value in enumerate(values):
        builder.append(at, now_ms, None, value, [])
    return bytes(builder.build())
