"""A Kafka for the length of a benchmark, and topics there that hold rounds of readings."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.rounds import Shape, rounds
from wardwatch.local import default_parts
from wardwatch.local.account import service_account, within_reach
from wardwatch.local.kafka import Node, find, service
from wardwatch.local.process import LOOPBACK, free_port

BATCH_BYTES = 1 << 19


@contextmanager
def kafka_at(given: str | None) -> Iterator[str]:
    """Yield HOST:PORT of the Kafka that is given, or of one on this machine whose store goes with it.

    Raises:
        KafkaUnavailableError: none is given and none can run here.
    """
    if given is not None:
        yield given
        return
    account, node = service_account(), Node.on(free_port())
    jars = find(within_reach(default_parts(), account, print), print)
    folder = Path(tempfile.mkdtemp(prefix="wardwatch-bench-kafka-"))
    folder.chmod(0o755)
    try:
        with ThreadPoolExecutor(1) as spawner:
            broker = service(jars, folder / "kafka", folder / "kafka.log", account, node, spawner)
            try:
                broker.start()
                yield f"{LOOPBACK}:{node.port}"
            finally:
                broker.stop(5.0)
    finally:
        shutil.rmtree(folder)


@asynccontextmanager
async def filled(kafka: str, shape: Shape, many: int) -> AsyncIterator[str]:
    """Yield the name of a topic of one partition that holds the rounds, and is deleted afterwards."""
    topic = f"wardwatch-bench-{shape}-{os.getpid()}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
        await _fill(kafka, topic, shape, many)
        yield topic
        await admin.delete_topics([topic])
    finally:
        await admin.close()


async def _fill(kafka: str, topic: str, shape: Shape, many: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, max_batch_size=BATCH_BYTES, acks="all")
    await producer.start()
    try:
        sent: list[asyncio.Future[Any]] = []
        batch = producer.create_batch()
        for record in chain.from_iterable(rounds(shape, many)):
            if batch.append(key=None, value=record, timestamp=None) is None:
                sent.append(await producer.send_batch(batch, topic, partition=0))
                batch = producer.create_batch()
                batch.append(key=None, value=record, timestamp=None)
        sent.append(await producer.send_batch(batch, topic, partition=0))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
