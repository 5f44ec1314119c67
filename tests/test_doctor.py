"""The doctor: what is well is said to be, what is not is named with what to do, and nothing holds it up."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from fix_kafka import Broker
from owner_help import CATALOGUE, owner
from test_grafana_apply import DATABASE, TOKEN, grafana_server

from grafana.publish import apply
from schema.migrate import migrate
from schema.record import Tick, encode_tick
from schema.topics import REFUSED, TELEMETRY
from streams.logs.embedded import EmbeddedLog
from streams.logs.kafka import KafkaLog
from streams.logs.kafka_access import KafkaAccess
from streams.logs.kafka_topics import SIZE
from streams.processor import LogRecord
from wardwatch.doctor import Check, diagnose
from wardwatch.doctor.journal import kafka
from wardwatch.local import LocalParts
from wardwatch.local.process import free_port

SECRET = "geheim-0815"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def site(database: str, mqtt_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a log that has just ticked, a migrated database, a broker; its settings are variables."""
    migrate(database, CATALOGUE)
    parts = psycopg.conninfo.conninfo_to_dict(database)
    url = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**parts)
    for name, value in {"DATA": str(tmp_path), "MQTT_URL": mqtt_url, "DATABASE_URL": url, "PARTITIONS": "1"}.items():
        monkeypatch.setenv(f"WARDWATCH_{name}", value)
    (tmp_path / "log.sqlite").touch(mode=0o600)
    with EmbeddedLog(tmp_path / "log.sqlite") as log:
        log.create_topic(TELEMETRY, 1)
        log.create_topic(REFUSED, 1)
    tick(tmp_path)
    return tmp_path


def tick(site: Path, ago_s: float = 0.0) -> list[LogRecord]:
    """Append a tick as if some time ago; return what the log holds."""
    now_ms = int((time.time() - ago_s) * 1000)
    with EmbeddedLog(site / "log.sqlite", clock_ms=lambda: now_ms) as log:
        log.append([(TELEMETRY, 0, encode_tick(Tick("bridge", now_ms)))])
        return [LogRecord(record.offset, record.value) for record in log.read(TELEMETRY, 0, 0)]


async def work(database: str, records: list[LogRecord]) -> None:
    worker = owner(database)
    start = await worker.take_over(0, None)
    await worker.process(0, records[start:])
    await worker.give_up(0, orderly=True)


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


async def test_where_all_is_well_nothing_fails(site: Path, database: str) -> None:
    await work(database, tick(site))
    found = by_name(diagnose())
    assert {name: check for name, check in found.items() if check.state == "fail"} == {}
    assert "mosquitto version 2" in found["broker"].says
    assert "0 records behind, epoch 1" in found["worker, partition 0"].says
    assert found["TimescaleDB"].says.endswith("licence apache")
    assert found["rights"].state == "warn"  # the tests' role may do everything
    assert "partitions = 1 (WARDWATCH_PARTITIONS)" in found["settings"].says
    assert all(check.advice for check in found.values() if check.state != "ok")


@pytest.mark.usefixtures("site")
def test_it_says_so_by_its_exit_status_and_to_programs() -> None:
    command = [sys.executable, "-m", "wardwatch.cli", "doctor", "--json"]
    environment = os.environ | {"WARDWATCH_DATABASE_URL": f"postgresql://w:{SECRET}@127.0.0.1:{free_port()}/w"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    found = {each["name"]: each for each in json.loads(done.stdout)}
    assert found["log"]["state"] == "ok"
    assert found["database"]["state"] == "fail"
    assert SECRET not in done.stdout + done.stderr


async def test_what_wants_attention_is_named_with_what_to_do(
    site: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDWATCH_MQTTURL", "x")
    await work(database, tick(site, ago_s=3600))
    tick(site, ago_s=3000)
    (site / "log.sqlite").chmod(0o644)
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE partition_progress SET updated_at = now() - interval '1 hour'")
        connection.execute("UPDATE schema_migrations SET checksum = 'other' WHERE version = 1")
        connection.execute(
            "INSERT INTO quarantine SELECT gen_random_uuid(), 't', n::text, now() - n * interval '20 hours',"
            " 'invalid_json', '', 1, '' FROM generate_series(1, 2) n"
        )
        connection.execute(
            "INSERT INTO outbox (outbox_id, created_at, audience, kind, subject, body, payload, attempts, last_error)"
            " VALUES (gen_random_uuid(), now(), 'service', 'k', 's', 'b', '{}', 5, 'no such host')"
        )
    checks = diagnose()
    found = by_name(checks)
    assert "WARDWATCH_MQTTURL" in next(each for each in checks if each.state == "warn" and each.name == "settings").says
    assert "log.sqlite" in found["permissions"].advice
    assert found["bridge"].state == "fail"
    assert "wardwatch ingest" in found["bridge"].advice
    assert found["worker, partition 0"].says.startswith("stands still: 1 records behind")
    assert found["migrations"].says == "applied with another text: 001_registry.sql"
    assert found["quarantine"].says == "within a day 1 invalid_json; 2 in all"
    assert "no such host" in found["outbox"].says


async def test_a_log_that_does_not_belong_to_the_database_is_noticed(site: Path, database: str) -> None:
    await work(database, [*tick(site), LogRecord(2, encode_tick(Tick("bridge", 5)))])
    assert by_name(diagnose())["worker, partition 0"].says == "the database is 1 records ahead of the log"


@pytest.mark.usefixtures("site")
def test_a_database_without_tables_and_a_log_without_partitions_are_noticed(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("DROP TABLE schema_migrations, partition_progress")
    monkeypatch.setenv("WARDWATCH_PARTITIONS", "3")
    found = by_name(diagnose())
    assert found["migrations"].advice == "wardwatch migrate"
    assert "telemetry with 1" in found["log"].says


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(20)
        yield listener.getsockname()[1]


def test_parts_that_do_not_answer_hold_nobody_up(site: Path, deaf: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "log.sqlite").unlink()
    monkeypatch.setenv("WARDWATCH_DATABASE_URL", f"postgresql://w:{SECRET}@127.0.0.1:{deaf}/w")
    monkeypatch.setenv("WARDWATCH_MQTT_URL", f"mqtt://u:{SECRET}@127.0.0.1:{deaf}")
    monkeypatch.setenv("WARDWATCH_GRAFANA_URL", f"http://127.0.0.1:{deaf}")
    monkeypatch.setenv("WARDWATCH_GRAFANA_TOKEN", SECRET)
    begun_s = time.monotonic()
    checks = diagnose()
    assert time.monotonic() - begun_s < 8
    failing = {check.name for check in checks if check.state == "fail"}
    assert failing >= {"log", "database", "broker", "Grafana"}
    assert SECRET not in repr(checks)


def test_a_setting_that_cannot_be_used_is_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDWATCH_PARTITIONS", "many")
    (check,) = diagnose()
    assert check.state == "fail"
    assert "WARDWATCH_PARTITIONS" in check.says


def test_a_folder_in_which_nothing_ran_is_said_to_be_one() -> None:
    assert "wardwatch up" in by_name(diagnose())["settings"].says


@pytest.mark.usefixtures("site")
def test_boards_of_another_version_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with grafana_server() as server:
        monkeypatch.setenv("WARDWATCH_GRAFANA_URL", server.url)
        monkeypatch.setenv("WARDWATCH_GRAFANA_TOKEN", TOKEN)
        assert "Fleet" in by_name(diagnose())["Grafana"].says
        apply(server.url, TOKEN, DATABASE)
        assert by_name(diagnose())["Grafana"].state == "ok"


@pytest.mark.usefixtures("site")
def test_where_all_is_given_by_address_no_folder_is_missed_and_no_library_complains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WARDWATCH_DATA", "nowhere")
    monkeypatch.setenv("WARDWATCH_KAFKA", f"127.0.0.1:{free_port()}")
    command = [sys.executable, "-m", "wardwatch.cli", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = {each["name"]: each for each in json.loads(done.stdout)}
    assert found["data folder"]["state"] == "ok"
    assert found["log"]["state"] == "fail"
    assert done.stderr == ""


@pytest.mark.kafka
def test_a_topic_of_kafka_that_would_refuse_records_fails_with_what_to_set(
    kafka_broker: Broker, kafka_topic: str
) -> None:
    access = KafkaAccess(kafka_broker.bootstrap)
    asyncio.run(make_topic(access, kafka_topic, {SIZE: "1048576"}))
    _, check = kafka(access, {kafka_topic: 1})
    assert (check.state, "max.message.bytes=1048576" in check.says) == ("fail", True)
    assert "max.message.bytes=8388608" in check.advice


@pytest.mark.kafka
@pytest.mark.usefixtures("site")
def test_each_topic_that_is_needed_is_looked_at(kafka_broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDWATCH_KAFKA", kafka_broker.bootstrap)
    assert {"topic telemetry", "topic refused", "topic overflow"} <= by_name(diagnose()).keys()


async def make_topic(access: KafkaAccess, name: str, settings: dict[str, str]) -> None:
    admin = AIOKafkaAdminClient(**access.client_options())
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1, topic_configs=settings)])
    finally:
        await admin.close()


@pytest.mark.kafka
def test_topics_of_kafka_are_looked_at(kafka_broker: Broker, kafka_topic: str) -> None:
    access = KafkaAccess(kafka_broker.bootstrap)
    with KafkaLog(access) as log:
        log.create_topic(kafka_topic, 2)
    assert [check.state for check in kafka(access, {kafka_topic: 2})] == ["ok", "ok"]
    _, differs, missing = kafka(access, {kafka_topic: 3, f"{kafka_topic}-not": 1})
    assert "2 partitions, 1 copies, the settings say 3" in differs.says
    assert missing.says == "is not there"


def test_a_kafka_that_is_not_there_fails_soon() -> None:
    begun_s = time.monotonic()
    (check,) = kafka(KafkaAccess(f"127.0.0.1:{free_port()}"), {TELEMETRY: 1})
    assert check.state == "fail"
    assert time.monotonic() - begun_s < 4


@pytest.mark.usefixtures("site")
def test_the_database_of_a_worker_with_no_more_rights_than_needed_is_well(
    parts: LocalParts, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    host = psycopg.conninfo.conninfo_to_dict(parts.database_url)
    with psycopg.connect(database) as connection:
        connection.execute(f"CREATE ROLE w_{name} LOGIN PASSWORD '{SECRET}' IN ROLE wardwatch_writer".encode())
    try:
        url = f"postgresql://w_{name}:{SECRET}@{host['host']}:{host['port']}/{name}"
        monkeypatch.setenv("WARDWATCH_DATABASE_URL", url)
        found = by_name(diagnose())
        assert (found["rights"].state, found["rights"].says) == ("ok", f"w_{name} may write")
        assert found["migrations"].state == "ok"
    finally:
        with psycopg.connect(database) as connection:
            connection.execute(f"DROP ROLE w_{name}".encode())
