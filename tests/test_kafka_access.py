"""Who we are to a Kafka that asks, and whom we trust: TLS and passwords, by the log and by Faust alike."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from certificates import self_signed
from faust.transport.drivers import aiokafka as driver
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from faust.utils.urls import urllist
from fix_kafka import running_kafka

from streams.logs.file import LogError
from streams.logs.kafka import KafkaLog
from streams.logs.kafka_access import KafkaAccess
from wardwatch.local.kafka import Node
from wardwatch.local.process import free_port

USER, PASSWORD = "wardwatch", "only-for-this-test"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`server.pem` for 127.0.0.1, and its `server.key`."""
    folder = tmp_path_factory.mktemp("tls")
    self_signed(folder, "server", "IP:127.0.0.1")
    return folder


@pytest.fixture(scope="module")
def guarded(certificate: Path) -> Iterator[KafkaAccess]:
    """A broker with a further listener that speaks TLS and knows one user."""
    port = free_port()
    key, chain = ((certificate / name).read_text().replace("\n", "\\n") for name in ("server.key", "server.pem"))

    def further(node: Node) -> str:
        of_clients = f"PLAINTEXT://127.0.0.1:{node.port},GUARDED://127.0.0.1:{port}"
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        return f"""
listeners={of_clients},CONTROLLER://127.0.0.1:{node.controller_port}
advertised.listeners={of_clients}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,GUARDED:SASL_SSL
listener.name.guarded.sasl.enabled.mechanisms=PLAIN
listener.name.guarded.plain.sasl.jaas.config={module} required user_{USER}="{PASSWORD}";
listener.name.guarded.ssl.keystore.type=PEM
listener.name.guarded.ssl.keystore.key={key}
listener.name.guarded.ssl.keystore.certificate.chain={chain}
"""

    with running_kafka(1, further):
        yield KafkaAccess(
            f"127.0.0.1:{port}", "sasl_ssl", username=USER, password=PASSWORD, ca_file=certificate / "server.pem"
        )


def test_a_broker_with_tls_and_passwords_is_used_by_the_log_and_by_faust(
    guarded: KafkaAccess, kafka_topic: str
) -> None:
    with KafkaLog(guarded) as log:
        log.create_topic(kafka_topic, 1)
        log.append([(kafka_topic, 0, b"secret")])
        assert [record.value for record in log.read(kafka_topic, 0, 0)] == [b"secret"]
    credentials = credentials_to_aiokafka_auth(guarded.faust_credentials())

    async def look() -> set[str]:
        consumer = AIOKafkaConsumer(bootstrap_servers=guarded.bootstrap, **credentials)
        await consumer.start()
        try:
            topics: set[str] = await consumer.topics()
            return topics
        finally:
            await consumer.stop()

    assert kafka_topic in asyncio.run(look())


LEFT_OPEN = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""aiokafka leaves the socket of a refused connection to the garbage collector, which complains whenever it comes by."""


@LEFT_OPEN
def test_a_wrong_password_is_said_at_once_and_not_repeated_in_any_text(guarded: KafkaAccess) -> None:
    wrong = replace(guarded, password="open-sesame")
    assert "open-sesame" not in repr(wrong)
    with KafkaLog(wrong, within_s=60) as log, pytest.raises(LogError, match="Authentication failed") as refused:
        log.create_topic("telemetry", 1)
    assert "open-sesame" not in str(refused.value)
    gc.collect()


@LEFT_OPEN
def test_a_broker_with_a_certificate_of_a_stranger_is_refused_at_once(guarded: KafkaAccess) -> None:
    with (
        KafkaLog(replace(guarded, ca_file=None), within_s=60) as log,
        pytest.raises(LogError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        log.create_topic("telemetry", 1)
    gc.collect()


def test_several_brokers_are_one_url_for_faust() -> None:
    assert KafkaAccess("a:1, b:2").broker_url == "kafka://a:1;kafka://b:2"
    servers = driver.server_list(urllist(KafkaAccess("a:1, b:2").broker_url), 9092)
    assert servers == ["a:1", "b:2"]
