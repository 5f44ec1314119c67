"""Fixtures: worlds of a log and workers, see `streaming_world`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_kafka import Broker
from streaming_world import World, new_world, prepare

from schema.migrate import migrate


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A world of each kind of log in turn."""
    bootstrap = request.getfixturevalue("kafka_broker").bootstrap if request.param == "kafka" else None
    with new_world(tmp_path, bootstrap) as world:
        yield world


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def entering(tmp_path: Path, database: str, request: pytest.FixtureRequest) -> Iterator[World]:
    """A world of each kind of log in turn, whose records clerks enter into the database."""
    bootstrap = request.getfixturevalue("kafka_broker").bootstrap if request.param == "kafka" else None
    migrate(database, {})
    prepare(database)
    with new_world(tmp_path, bootstrap, database_url=database) as world:
        yield world


@pytest.fixture
def shared(tmp_path: Path, kafka_broker: Broker, database: str) -> Iterator[World]:
    """Six partitions on Kafka whose records clerks enter into the database."""
    migrate(database, {})
    prepare(database)
    with new_world(tmp_path, kafka_broker.bootstrap, database_url=database, partitions=6) as world:
        yield world


@pytest.fixture
def embedded_world(tmp_path: Path) -> Iterator[World]:
    """A world of the embedded log, for what only it does."""
    with new_world(tmp_path) as world:
        yield world


@pytest.fixture
def kafka_world(tmp_path: Path, kafka_broker: Broker) -> Iterator[World]:
    """A world of Kafka, for what only it does."""
    with new_world(tmp_path, kafka_broker.bootstrap) as world:
        yield world
