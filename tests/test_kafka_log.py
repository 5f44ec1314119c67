"""Kafka as the log: in order and once through outages, and topics that keep what they have."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from fix_kafka import Broker, Cluster

from streams.logs.file import LogError, LogUnreachable, LogUnusable, UnknownPartition
from streams.logs.kafka import BATCH_BYTES, KafkaLog
from streams.logs.kafka_access import KafkaAccess
from wardwatch.local.process import free_port, wait_until


@pytest.fixture
def log(kafka_broker: Broker, kafka_topic: str) -> Iterator[KafkaLog]:
    with KafkaLog(KafkaAccess(kafka_broker.bootstrap)) as log:
        log.create_topic(kafka_topic, 2)
        yield log


def values(log: KafkaLog, topic: str, partition: int = 0) -> list[bytes]:
    found: list[bytes] = []
    while records := log.read(topic, partition, len(found)):
        assert [record.offset for record in records] == [*range(len(found), len(found) + len(records))]
        found += [record.value for record in records]
    return found


def admin(access: KafkaAccess, work: Callable[[AIOKafkaAdminClient], object]) -> None:
    async def run() -> None:
        client = AIOKafkaAdminClient(**access.client_options())
        await client.start()
        try:
            await work(client)  # type: ignore[misc]
        finally:
            await client.close()

    asyncio.run(run())


class Appender(threading.Thread):
    """Appends numbered groups one after the other, each again until it is confirmed, as the bridge does."""

    def __init__(self, log: KafkaLog, topic: str, partitions: int = 2) -> None:
        super().__init__()
        self.log, self.topic, self.partitions = log, topic, partitions
        self.confirmed = self.failures = 0
        self.stop = threading.Event()

    def group(self, number: int) -> list[tuple[str, int, bytes]]:
        padding = bytes(BATCH_BYTES // 3)
        return [(self.topic, at % self.partitions, b"%d %d " % (number, at) + padding) for at in range(12)]

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self.log.append(self.group(self.confirmed))
            except LogUnreachable:
                self.failures += 1
            else:
                self.confirmed += 1

    def wait_for(self, confirmed: int) -> None:
        deadline = time.monotonic() + 60
        while self.confirmed < confirmed:
            assert self.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def assert_each_is_there_once_and_in_order(self) -> None:
        for partition in range(self.partitions):
            heads = [value.split(b" ")[:2] for value in values(self.log, self.topic, partition)]
            found = [(int(number), int(at)) for number, at in heads]
            assert found == [(n, at) for n in range(self.confirmed) for at in range(partition, 12, self.partitions)]


# --- through outages ---


def test_what_is_appended_while_the_broker_is_killed_is_there_once_and_in_order(
    kafka_to_break: Broker, log: KafkaLog, kafka_topic: str
) -> None:
    appender = Appender(log, kafka_topic)
    appender.start()
    appender.wait_for(10)
    kafka_to_break.kill()
    kafka_to_break.start()
    appender.wait_for(appender.confirmed + 5)
    appender.stop.set()
    appender.join()
    appender.assert_each_is_there_once_and_in_order()


def test_an_append_during_a_long_outage_gives_up_in_time_and_repeated_is_there_once(
    kafka_to_break: Broker, kafka_topic: str
) -> None:
    with KafkaLog(KafkaAccess(kafka_to_break.bootstrap), within_s=0.5) as log:
        log.create_topic(kafka_topic, 2)
        appender = Appender(log, kafka_topic)
        appender.start()
        appender.wait_for(5)
        kafka_to_break.kill()
        deadline = time.monotonic() + 20
        while appender.failures < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        kafka_to_break.start()
        appender.wait_for(appender.confirmed + 5)
        appender.stop.set()
        appender.join()
        assert appender.failures >= 3
        appender.assert_each_is_there_once_and_in_order()


def test_what_was_written_without_an_answer_is_not_written_again(kafka_to_break: Broker, kafka_topic: str) -> None:
    pid = kafka_to_break.pid
    assert pid is not None
    with KafkaLog(KafkaAccess(kafka_to_break.bootstrap), within_s=1.0) as log:
        log.create_topic(kafka_topic, 1)
        log.append([(kafka_topic, 0, b"a")])
        os.kill(pid, signal.SIGSTOP)  # what is sent now is written when it goes on, and nobody hears of it
        try:
            with pytest.raises(LogUnreachable):
                log.append([(kafka_topic, 0, b"b")])
        finally:
            os.kill(pid, signal.SIGCONT)
        assert wait_until(lambda: reached(log, kafka_topic, 2), 20)
        assert log.append([(kafka_topic, 0, b"b")]) == [1]
        assert log.append([(kafka_topic, 0, b"b")]) == [2]
        assert values(log, kafka_topic) == [b"a", b"b", b"b"]


def reached(log: KafkaLog, topic: str, end: int) -> bool:
    with suppress(LogUnreachable):
        return log.end_offset(topic, 0) == end
    return False


def test_a_call_that_failed_in_one_partition_does_not_write_the_others_again(log: KafkaLog, kafka_topic: str) -> None:
    entries = [(kafka_topic, 0, b"small"), (kafka_topic, 1, bytes(9 << 20))]
    for _ in range(3):
        with pytest.raises(LogError, match="MessageSizeTooLarge"):
            log.append(entries)
    assert values(log, kafka_topic) == [b"small"]


def test_a_silent_broker_is_unreachable(kafka_topic: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        access = KafkaAccess(f"127.0.0.1:{silent.getsockname()[1]}")
        with KafkaLog(access, within_s=0.3) as log, pytest.raises(LogUnreachable, match=access.bootstrap):
            log.append([(kafka_topic, 0, b"x")])


def test_without_a_broker_the_error_says_why() -> None:
    with (
        KafkaLog(KafkaAccess(f"127.0.0.1:{free_port()}"), within_s=0.3) as log,
        pytest.raises(LogUnreachable, match="ConnectionRefused"),
    ):
        log.create_topic("telemetry", 2)


def test_with_one_of_three_brokers_killed_nothing_confirmed_is_lost(kafka_cluster: Cluster, kafka_topic: str) -> None:
    with KafkaLog(KafkaAccess(kafka_cluster.bootstrap)) as log:
        log.create_topic(kafka_topic, 3)  # each broker leads one
        appender = Appender(log, kafka_topic, 3)
        appender.start()
        appender.wait_for(5)
        kafka_cluster.brokers[0].kill()
        try:
            appender.wait_for(appender.confirmed + 5)
            appender.stop.set()
            appender.join()
            appender.assert_each_is_there_once_and_in_order()
        finally:
            kafka_cluster.start()


# --- appending and looking ---


def test_a_record_larger_than_a_batch_goes_alone(log: KafkaLog, kafka_topic: str) -> None:
    large = bytes(4 * BATCH_BYTES)
    assert log.append([(kafka_topic, 0, b"a"), (kafka_topic, 0, large), (kafka_topic, 0, b"b")]) == [0, 1, 2]
    assert values(log, kafka_topic) == [b"a", large, b"b"]


def test_a_record_that_the_topic_does_not_take_is_an_error_and_no_outage(log: KafkaLog, kafka_topic: str) -> None:
    with pytest.raises(LogError, match="MessageSizeTooLarge") as refused:
        log.append([(kafka_topic, 0, bytes(9 << 20))])
    assert not isinstance(refused.value, LogUnreachable)
    assert log.append([(kafka_topic, 0, b"next")]) == [0]


def test_appends_of_many_threads_keep_each_ones_order(log: KafkaLog, kafka_topic: str) -> None:
    def append(name: int) -> None:
        for number in range(20):
            log.append([(kafka_topic, at % 2, b"%d %d %d" % (name, number, at)) for at in range(4)])

    threads = [threading.Thread(target=append, args=(name,)) for name in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for partition in (0, 1):
        found = [tuple(map(int, value.split())) for value in values(log, kafka_topic, partition)]
        for name in range(5):
            mine = [(number, at) for who, number, at in found if who == name]
            assert mine == [(number, at) for number in range(20) for at in range(partition, 4, 2)]


def test_an_unknown_partition_is_named(log: KafkaLog, kafka_topic: str) -> None:
    with pytest.raises(UnknownPartition, match=f"{kafka_topic}/7"):
        log.append([(kafka_topic, 7, b"a")])


def test_a_closed_handle_says_so(log: KafkaLog, kafka_topic: str) -> None:
    log.close()
    log.close()
    with pytest.raises(LogError, match="closed"):
        log.append([(kafka_topic, 0, b"a")])


# --- topics ---


def test_a_new_topic_loses_nothing_by_itself(kafka_cluster: Cluster, kafka_topic: str) -> None:
    access = KafkaAccess(kafka_cluster.bootstrap)
    found: dict[str, str] = {}
    with KafkaLog(access) as log:
        log.create_topic(kafka_topic, 2)

    async def describe(client: AIOKafkaAdminClient) -> None:
        topic = (await client.describe_topics([kafka_topic]))[0]
        found["copies"] = str({len(partition["replicas"]) for partition in topic["partitions"]})
        responses = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, kafka_topic)])
        found.update({name: value for name, value, *_ in responses[0].resources[0][4]})

    admin(access, describe)
    assert found["copies"] == "{3}"
    wanted = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete", "min.insync.replicas": "2"}
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("retention.ms", "604800000"),
        ("retention.bytes", "1000000"),
        ("cleanup.policy", "compact"),
        ("max.message.bytes", "1048588"),
    ],
)
def test_a_topic_that_would_lose_or_refuse_records_is_not_taken_and_what_to_set_is_said(
    kafka_broker: Broker, kafka_topic: str, setting: str, value: str
) -> None:
    access = KafkaAccess(kafka_broker.bootstrap)
    settings = {"retention.ms": "-1", "max.message.bytes": "8388608", setting: value}
    admin(access, lambda client: client.create_topics([NewTopic(kafka_topic, 2, 1, topic_configs=settings)]))
    with KafkaLog(access) as log, pytest.raises(LogUnusable, match=f"{setting}={value}.*Set {setting}="):
        log.create_topic(kafka_topic, 2)


def test_a_topic_with_fewer_copies_than_asked_for_is_refused(kafka_cluster: Cluster, kafka_topic: str) -> None:
    access = KafkaAccess(kafka_cluster.bootstrap)
    with KafkaLog(access, replication=2) as log:
        log.create_topic(kafka_topic, 2)
    with KafkaLog(access, replication=3) as log, pytest.raises(LogUnusable, match="2 copies"):
        log.create_topic(kafka_topic, 2)


def test_handles_that_create_a_topic_at_once_agree(kafka_broker: Broker, kafka_topic: str) -> None:
    failures: list[Exception] = []

    def create() -> None:
        try:
            with KafkaLog(KafkaAccess(kafka_broker.bootstrap)) as log:
                log.create_topic(kafka_topic, 3)
                log.append([(kafka_topic, partition, b"x") for partition in range(3)])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_more_copies_than_brokers_are_refused_with_what_to_do(kafka_broker: Broker, kafka_topic: str) -> None:
    with (
        KafkaLog(KafkaAccess(kafka_broker.bootstrap), replication=2) as log,
        pytest.raises(LogUnusable, match="WARDWATCH_KAFKA_REPLICATION"),
    ):
        log.create_topic(kafka_topic, 2)
