"""Fixtures: a real broker and a real TimescaleDB, started once for all tests; a database of its own for each test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

from wardwatch.local import LocalParts, local_parts

_numbers = count(1)


@pytest.fixture(scope="session")
def parts() -> Iterator[LocalParts]:
    """Broker and database below a folder that is removed at the end; the programs come from the shared folder.

    The tests fail, with what to do about it, when they cannot be had: without them nothing here is tested.
    """
    data = Path(tempfile.mkdtemp(prefix="wardwatch-tests-"))
    data.chmod(0o755)
    try:
        with local_parts(
            data,
            mqtt_url=os.environ.get("WARDWATCH_MQTT_URL"),
            database_url=os.environ.get("WARDWATCH_DATABASE_URL"),
        ) as started:
            yield started
    finally:
        shutil.rmtree(data)


@pytest.fixture(scope="session")
def mqtt_url(parts: LocalParts) -> str:
    """Address of the broker that all tests share: use topics and client names of your own."""
    return parts.mqtt_url


@pytest.fixture(scope="session")
def _template(parts: LocalParts) -> Iterator[str]:
    name = f"test_{os.getpid()}_template"
    with psycopg.connect(parts.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        with psycopg.connect(parts.database_url, dbname=name, autocommit=True) as fresh:
            fresh.execute("CREATE EXTENSION timescaledb")
        # A template must have no connections; TimescaleDB's own workers would come back.
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
    yield name
    with psycopg.connect(parts.database_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def _new_database(parts: LocalParts, template: str) -> Iterator[str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(parts.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield psycopg.conninfo.make_conninfo(parts.database_url, dbname=name)
    with psycopg.connect(parts.database_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(parts: LocalParts, _template: str) -> Iterator[str]:
    """Address of an empty database with TimescaleDB, of this test alone; dropped afterwards, connected or not."""
    with _new_database(parts, _template) as url:
        yield url


@pytest.fixture
def second_database(parts: LocalParts, _template: str) -> Iterator[str]:
    """Address of another empty database, to compare with."""
    with _new_database(parts, _template) as url:
        yield url


