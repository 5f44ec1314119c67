"""A Kafka on this machine: it serves on loopback, keeps what it has, ends with its owner, and says what it lacks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_kafka import Broker

from streams.logs.file import UnknownPartition
from streams.logs.kafka import KafkaLog
from streams.logs.kafka_access import KafkaAccess
from wardwatch.local import LocalPartsError, local_parts
from wardwatch.local import kafka as local_kafka
from wardwatch.local.errors import KafkaUnavailableError
from wardwatch.local.process import free_port, wait_until

ROOT = Path(__file__).resolve().parents[1]
LOOPBACK_HEX = {"0100007F", "0000000000000000FFFF00000100007F"}


def test_it_listens_on_loopback_only(kafka_broker: Broker) -> None:
    sockets = [str(each.readlink()) for each in Path(f"/proc/{kafka_broker.pid}/fd").iterdir()]
    inodes = {found[1] for each in sockets if (found := re.fullmatch(r"socket:\[(\d+)\]", each))}
    listening = [
        fields[1].split(":")[0]
        for table in ("tcp", "tcp6")
        for fields in (line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == "0A" and fields[9] in inodes
    ]
    assert len(listening) == 2
    assert set(listening) <= LOOPBACK_HEX


def test_it_does_not_run_as_root(kafka_broker: Broker) -> None:
    status = Path(f"/proc/{kafka_broker.pid}/status").read_text()
    (uids,) = (line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
    assert "0" not in uids


def test_a_topic_that_nobody_has_made_is_not_there(kafka_broker: Broker, kafka_topic: str) -> None:
    with KafkaLog(KafkaAccess(kafka_broker.bootstrap)) as log, pytest.raises(UnknownPartition):
        log.append([(kafka_topic, 0, b"x")])


def test_it_does_not_serve_where_nobody_listens() -> None:
    assert not local_kafka.serves(free_port())


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder that the services' user reaches, as pytest's own are open to their owner alone."""
    with tempfile.TemporaryDirectory(prefix="wardwatch-tests-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.kafka
def test_what_it_was_given_outlives_the_end_of_its_owner_and_a_server_left_behind_is_stopped(folder: Path) -> None:
    parts = {"mqtt_url": "mqtt://unused", "database_url": "postgresql://unused", "kafka": "local"}
    with local_parts(folder, **parts) as first:
        assert first.kafka is not None
        with KafkaLog(KafkaAccess(first.kafka)) as log:
            log.create_topic("telemetry", 1)
            log.append([("telemetry", 0, b"kept")])
        (service,) = first.services
        stopping_at = time.monotonic()
    assert time.monotonic() - stopping_at < 10
    account = service.account
    who = {} if account.uid < 0 else {"user": account.uid, "group": account.gid, "extra_groups": []}
    with (folder / "log" / "left.log").open("wb") as output:
        left = subprocess.Popen(service.command, cwd=service.folder, stdout=output, stderr=output, **who)  # type: ignore[call-overload]
    with left:
        assert wait_until(lambda: local_kafka.serves(int(str(first.kafka).split(":")[1])), 60)
        with local_parts(folder, **parts) as second:
            assert left.wait(10) is not None
            assert second.kafka is not None
            with KafkaLog(KafkaAccess(second.kafka)) as log:
                assert [record.value for record in log.read("telemetry", 0, 0)] == [b"kept"]


def test_without_java_the_choices_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(LocalPartsError) as refused:
        local_kafka.find(folder, lambda _: None)
    assert all(choice in str(refused.value) for choice in ("no Java", "WARDWATCH_KAFKA", "Maven", "leave"))


def test_without_java_nothing_else_is_looked_for_or_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    said: list[str] = []
    refused = pytest.raises(KafkaUnavailableError, match="no Java")
    with refused, local_parts(folder / "data", kafka="local", parts=folder, on_progress=said.append):
        pass
    assert said == []


def test_without_maven_the_programs_are_used_if_they_are_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "java").write_text("#!/bin/sh\necho 'openjdk version \"21.0.1\"' >&2\n")
    (folder / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    assert "Maven" in str(local_kafka.missing(folder))
    (folder / local_kafka.FOLDER).mkdir()
    assert local_kafka.find(folder, lambda _: None) == folder / local_kafka.FOLDER


def test_a_java_that_is_too_old_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "java").write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    (folder / "java").chmod(0o755)
    (folder / local_kafka.FOLDER).mkdir()
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(LocalPartsError, match=r"not version 17 or later.*11\.0\.2"):
        local_kafka.find(folder, lambda _: None)


@pytest.mark.parametrize("in_ci", [False, True])
def test_tests_that_need_kafka_are_left_out_with_one_line_but_fail_in_ci(tmp_path: Path, in_ci: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment |= {"PATH": str(tmp_path), "WARDWATCH_PARTS": str(tmp_path)} | ({"CI": "true"} if in_ci else {})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/test_logs.py", "-k", "offsets_count", "-p", "no:cacheprovider"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = re.findall(r"^Kafka: .*$", done.stdout, re.MULTILINE)
    if in_ci:
        assert (done.returncode, said) == (1, [])
        assert "KafkaUnavailableError" in done.stdout
    else:
        assert done.returncode == 0
        assert said == ["Kafka: 1 tests were not run: no Java on PATH (version 17 or later is needed)"]
