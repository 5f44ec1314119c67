"""Fixtures: a real Kafka, started once for all tests that ask for it, and three of them for one file of tests.

Where Java or Maven is missing, tests that need Kafka are left out and one line at the end says so; in CI they fail.
A test whose parameter chooses Kafka carries the mark `kafka`, by which it is found.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from wardwatch.local import default_parts
from wardwatch.local.account import service_account, within_reach
from wardwatch.local.kafka import Node, find, missing, serves, service
from wardwatch.local.process import LOOPBACK, Service, free_port, wait_until

FIXTURES = {"kafka_broker", "kafka_to_break", "kafka_cluster"}
STOP_WITHIN_S = 5.0
_left_out: list[str] = []
_numbers = count(1)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kafka: needs a Kafka, which needs Java and Maven")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out what needs Kafka where it cannot run; in CI it stays, and fails."""
    if os.environ.get("CI") == "true" or missing(default_parts()) is None:
        return
    needs = [item for item in items if item.get_closest_marker("kafka") or FIXTURES & set(_fixtures(item))]
    _left_out.extend(item.nodeid for item in needs)
    items[:] = [item for item in items if item not in needs]
    config.hook.pytest_deselected(items=needs)


def _fixtures(item: pytest.Item) -> list[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _left_out:
        reason = missing(default_parts())
        terminalreporter.write_line(f"Kafka: {len(_left_out)} tests were not run: {reason}", yellow=True)


@dataclass
class Broker:
    """One Kafka process on a port that it keeps; what it was given survives all of the below."""

    bootstrap: str
    """`127.0.0.1:PORT`"""
    service: Service

    def start(self) -> None:
        """Starts it and returns when it serves; nothing happens when it runs."""
        self.service.start()

    def stop(self, patience_s: float = STOP_WITHIN_S) -> None:
        """Stops it in order."""
        self.service.stop(patience_s)

    def kill(self) -> None:
        """Ends it with SIGKILL."""
        self.service.kill()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self.service.pid


@dataclass
class Cluster:
    """Three brokers; each topic may have three copies, and one broker may be gone."""

    brokers: list[Broker]

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:PORT,127.0.0.1:PORT,127.0.0.1:PORT`"""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def start(self) -> None:
        """Starts all at once, as none serves without another one, and returns when each knows of all."""
        with ThreadPoolExecutor(len(self.brokers)) as pool:
            list(pool.map(Broker.start, self.brokers))
        ports = [int(broker.bootstrap.split(":")[1]) for broker in self.brokers]
        assert wait_until(lambda: all(serves(port, brokers=len(ports)) for port in ports), 60.0)

    def stop(self) -> None:
        """Stops all; the last ones by force, as a broker that ends in order first asks the others' leave."""
        with ThreadPoolExecutor(len(self.brokers)) as pool:
            list(pool.map(lambda broker: broker.stop(1.0), self.brokers))


@contextmanager
def running_kafka(size: int, further: Callable[[Node], str] = lambda _: "") -> Iterator[Cluster]:
    """`size` brokers below a folder that is removed in the end; `further` lines end each one's configuration."""
    account = service_account()
    data = Path(tempfile.mkdtemp(prefix="wardwatch-tests-kafka-"))
    data.chmod(0o755)
    try:
        jars = find(within_reach(default_parts(), account, print), print)
        nodes = [Node.on(free_port(), number) for number in range(1, size + 1)]
        with ThreadPoolExecutor(1) as spawner, ThreadPoolExecutor(size) as pool:

            def make(node: Node) -> Service:
                others = [other for other in nodes if other != node]
                folder, log = data / f"kafka-{node.number}", data / f"kafka-{node.number}.log"
                return service(jars, folder, log, account, node, spawner, others=others, further=further(node))

            services = pool.map(make, nodes)
            cluster = Cluster(
                [Broker(f"{LOOPBACK}:{node.port}", each) for node, each in zip(nodes, services, strict=True)]
            )
            try:
                cluster.start()
                yield cluster
            finally:
                cluster.stop()
    finally:
        shutil.rmtree(data)


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[Broker]:
    """The Kafka that all tests share: use topics of your own (`kafka_topic`), and break it only as `kafka_to_break`."""
    with running_kafka(1) as cluster:
        yield cluster.brokers[0]


@pytest.fixture
def kafka_to_break(kafka_broker: Broker) -> Iterator[Broker]:
    """The shared Kafka, for a test that stops or kills it; it runs again afterwards."""
    yield kafka_broker
    kafka_broker.start()


@pytest.fixture(scope="module")
def kafka_cluster() -> Iterator[Cluster]:
    """Three brokers, for this file of tests."""
    with running_kafka(3) as cluster:
        yield cluster


@pytest.fixture
def kafka_topic() -> str:
    """A name that no other test uses."""
    return f"test-{os.getpid()}-{next(_numbers)}"
