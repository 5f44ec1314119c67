"""Broker and database on this machine: where they come from, what they promise, how they end."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import psycopg
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from wardwatch.local import DataFolderBusyError, FetchError, LocalParts, NotOursError, PartUnavailableError, local_parts
from wardwatch.local.account import service_account, within_reach
from wardwatch.local.aptsources import Source, deb822, machine_sources, one_line
from wardwatch.local.process import free_port, processes, wait_until
from wardwatch.local.timescale import buffers_mb, has_timescale, wal_compression
from wardwatch.local.unpacked import unpacked

ROOT = Path(__file__).resolve().parents[1]


def test_a_line_of_a_source_list_keeps_its_options_and_loses_its_comment() -> None:
    text = (
        "deb [arch=amd64 signed-by=/k.gpg] http://a.org/debian bookworm main contrib # theirs\n#deb http://b.org x y\n"
    )
    assert [str(source) for source in one_line(text)] == [
        "deb [arch=amd64 signed-by=/k.gpg] http://a.org/debian bookworm main contrib"
    ]


def test_a_paragraph_of_sources_becomes_a_line_for_each_suite(tmp_path: Path) -> None:
    suites = "Suites: bookworm\n bookworm-updates\n"
    text = f"Types: deb deb-src\nURIs: http://a.org/debian\n{suites}Components: main\nSigned-By: /k.gpg\n"
    assert [str(source) for source in deb822(text, tmp_path / "key")] == [
        "deb [signed-by=/k.gpg] http://a.org/debian bookworm main",
        "deb [signed-by=/k.gpg] http://a.org/debian bookworm-updates main",
    ]


def test_a_disabled_paragraph_gives_no_source(tmp_path: Path) -> None:
    text = "Enabled: no\nTypes: deb\nURIs: http://a.org\nSuites: bookworm\nComponents: main\n"
    assert list(deb822(text, tmp_path / "key")) == []


def test_a_key_written_inside_a_source_is_put_into_a_file(tmp_path: Path) -> None:
    key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEZ\n -----END PGP PUBLIC KEY BLOCK-----"
    text = f"Types: deb\nURIs: http://a.org\nSuites: noble\nComponents: main\nSigned-By:\n {key}\n"
    (source,) = deb822(text, tmp_path / "ubuntu")
    assert source.options == (("signed-by", str(tmp_path / "ubuntu-0.asc")),)
    assert (tmp_path / "ubuntu-0.asc").read_text() == key.replace("\n .", "\n").replace("\n ", "\n") + "\n"


def test_only_sources_of_the_distribution_are_used(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.org/debian bookworm main\ndeb http://b.org cloud-sdk main\n")
    (tmp_path / "sources.list.d" / "x.list").write_text("deb http://a.org/debian-security bookworm-security main\n")
    found = machine_sources(tmp_path, "bookworm", tmp_path)
    assert [source.suite for source in found] == ["bookworm", "bookworm-security"]


def test_a_source_of_a_later_release_keeps_what_the_suite_is_for() -> None:
    source = Source("http://a.org/debian-security", "bookworm-security", ("main",))
    assert source.of_release("trixie").suite == "trixie-security"


@pytest.mark.parametrize("share", ["usr/share/postgresql/17", "usr/lib/postgresql/17/share"])
def test_a_postgresql_counts_only_with_the_extension(tmp_path: Path, share: str) -> None:
    programs = tmp_path / "usr/lib/postgresql/17/bin"
    extension = tmp_path / share / "extension"
    extension.mkdir(parents=True)
    assert not has_timescale(programs)
    (extension / "timescaledb.control").touch()
    assert has_timescale(programs)


def test_without_apt_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match="no apt"):
        unpacked("mosquitto", tmp_path, "mosquitto", "(?!)", "usr/sbin/mosquitto", lambda _: None)


def test_the_message_for_a_missing_part_names_the_choices() -> None:
    message = str(PartUnavailableError("MQTT broker", "WARDWATCH_MQTT_URL", "Mosquitto 2", "no apt"))
    assert all(choice in message for choice in ("WARDWATCH_MQTT_URL", "Mosquitto 2", "PATH", "Debian", "no apt"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's services run as another user")
def test_a_folder_that_root_alone_may_enter_gets_a_stand_in_with_the_same_name_each_time(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    account = service_account()
    stand_in = within_reach(tmp_path, account, lambda _: None)
    try:
        assert stand_in != tmp_path
        assert account.reaches(stand_in)
        assert within_reach(tmp_path, account, lambda _: None) == stand_in
    finally:
        stand_in.rmdir()


def test_the_earlier_port_is_taken_again_unless_somebody_listens_on_it() -> None:
    port = free_port()
    assert free_port(port) == port
    with socket.create_server(("127.0.0.1", port)):
        assert free_port(port) != port


def test_the_database_is_durable_private_and_quiet(parts: LocalParts) -> None:
    with psycopg.connect(parts.database_url) as connection:
        shown = {
            name: connection.execute(f"SHOW {name}").fetchone()[0]  # type: ignore[index]
            for name in ("fsync", "full_page_writes", "synchronous_commit", "listen_addresses",
                         "timescaledb.telemetry_level", "timezone")
        }  # fmt: skip
    assert shown == {
        "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "listen_addresses": "127.0.0.1",
        "timescaledb.telemetry_level": "off", "timezone": "UTC",
    }  # fmt: skip


def test_pages_that_are_written_whole_are_compressed_by_lz4_where_the_server_can(
    parts: LocalParts, tmp_path: Path
) -> None:
    with psycopg.connect(parts.database_url) as connection:
        query = "SELECT setting, enumvals FROM pg_settings WHERE name = 'wal_compression'"
        setting, possible = connection.execute(query).fetchone()  # type: ignore[misc] # there is that setting
    assert setting == ("lz4" if "lz4" in possible else "pglz")
    (tmp_path / "postgres").write_text("#!/bin/sh\necho 'invalid value for parameter' >&2; exit 1\n", "utf-8")
    (tmp_path / "postgres").chmod(0o755)
    assert wal_compression(tmp_path, tmp_path) == "on"


@pytest.mark.parametrize(("memory_gb", "expected"), [(1, 128), (4, 256), (64, 1024)])
def test_the_database_takes_a_small_part_of_the_memory_for_its_buffers(memory_gb: int, expected: int) -> None:
    assert buffers_mb(memory_gb << 30) == expected


def test_a_wrong_password_is_refused(parts: LocalParts) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(parts.database_url, password="guess")


def test_the_database_makes_hypertables(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE readings (at timestamptz NOT NULL, value bigint)")
        connection.execute("SELECT create_hypertable('readings', by_range('at'))")
        connection.execute(
            "INSERT INTO readings SELECT at, 1 FROM generate_series(now() - '90 d'::interval, now(), '1 d') at"
        )
        assert connection.execute("SELECT sum(value) FROM readings").fetchone() == (91,)


def test_services_do_not_run_as_root(parts: LocalParts) -> None:
    for pid in (parts.broker_pid, parts.database_pid):
        status = Path(f"/proc/{pid}/status").read_text()
        (uids,) = (line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
        assert "0" not in uids


def _client(parts: LocalParts, name: str, *, session: bool = False) -> mqtt.Client:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(65535)
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 3600 if session else 0
    properties.ReceiveMaximum = 65535
    address = urlsplit(parts.mqtt_url)
    client.connect(str(address.hostname), int(address.port or 0), clean_start=not session, properties=properties)
    return client


@contextmanager
def _subscriber(parts: LocalParts) -> Iterator[queue.SimpleQueue[bytes]]:
    """The payloads that one persistent session gets, from before the subscription is confirmed."""
    received: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    subscribed: queue.SimpleQueue[None] = queue.SimpleQueue()
    client = _client(parts, "local-parts-subscriber", session=True)
    client.on_message = lambda _client, _data, message: received.put(bytes(message.payload))
    client.on_subscribe = lambda *_: subscribed.put(None)
    client.loop_start()
    client.subscribe("local-parts/#", qos=1)
    subscribed.get(timeout=10)
    yield received
    client.disconnect()
    client.loop_stop()


def _publish(parts: LocalParts, payloads: list[bytes]) -> None:
    publisher = _client(parts, "local-parts-publisher")
    publisher.loop_start()
    for sent in [publisher.publish("local-parts/x", payload, qos=1) for payload in payloads]:
        sent.wait_for_publish(20)
    publisher.disconnect()
    publisher.loop_stop()


def test_a_message_of_10_mb_reaches_its_subscriber(parts: LocalParts) -> None:
    noise = os.urandom(10_000_000)
    with _subscriber(parts) as received:
        _publish(parts, [noise])
        assert received.get(timeout=20) == noise


def test_messages_for_a_session_that_is_away_are_all_kept(parts: LocalParts) -> None:
    payloads = [b"%d" % number for number in range(3000)]
    with _subscriber(parts):
        pass
    _publish(parts, payloads)
    with _subscriber(parts) as received:
        assert [received.get(timeout=20) for _ in payloads] == payloads


def test_a_data_folder_has_one_owner(parts: LocalParts) -> None:
    with pytest.raises(DataFolderBusyError, match="in use"), local_parts(parts.data):
        pass


def test_a_given_address_is_used_and_not_stopped(tmp_path: Path) -> None:
    with local_parts(tmp_path, mqtt_url="mqtt://broker:1883", database_url="postgresql://db/x") as given:
        assert (given.mqtt_url, given.database_url) == ("mqtt://broker:1883", "postgresql://db/x")
        with pytest.raises(NotOursError):
            given.kill_database()


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, parts: LocalParts) -> Path:
    """A data folder that the services' user reaches, as pytest's own are open to their owner alone."""
    folder = parts.data / tmp_path_factory.mktemp("data").name
    folder.mkdir()
    return folder


def test_what_was_committed_outlives_a_crash_of_the_database_and_the_end_of_its_owner(folder: Path) -> None:
    with local_parts(folder, mqtt_url="mqtt://unused") as first:
        with psycopg.connect(first.database_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
        first.kill_database()
        first.start_database()
        left_open = psycopg.connect(first.database_url)
        assert left_open.execute("SELECT value FROM kept").fetchone() == (7,)
        stopping_at = time.monotonic()
    assert time.monotonic() - stopping_at < 10
    left_open.close()
    with local_parts(folder, mqtt_url="mqtt://unused") as second:
        assert second.database_url == first.database_url
        with psycopg.connect(second.database_url) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (7,)


OWNER = """
    import sys
    from pathlib import Path
    from wardwatch.local import local_parts
    with local_parts(Path(sys.argv[1])) as parts:
        print(parts.broker_pid, parts.database_pid, flush=True)
        sys.stdin.read()
"""


def _working_in(folder: Path) -> list[int]:
    return processes(lambda _, directory: directory is not None and directory.is_relative_to(folder))


def test_a_killed_owner_leaves_nothing_running_and_nothing_in_the_way(folder: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), str(folder)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with owner:
        assert owner.stdout is not None
        assert len(owner.stdout.readline().split()) == 2
        assert len(_working_in(folder)) > 2
        owner.send_signal(signal.SIGKILL)
    assert wait_until(lambda: _working_in(folder) == [], 10)
    with local_parts(folder) as after, psycopg.connect(after.database_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_server_that_outlived_its_owner_is_stopped_by_the_next_one(folder: Path) -> None:
    with local_parts(folder, mqtt_url="mqtt://unused") as first:
        assert first._database is not None
        command, account = first._database.command, first._database.account
    who = {} if account.uid < 0 else {"user": account.uid, "group": account.gid, "extra_groups": []}
    with (folder / "log" / "left.log").open("wb") as log:
        left = subprocess.Popen(command, cwd=folder / "postgres", stdout=log, stderr=log, **who)  # type: ignore[call-overload]
    with left:
        assert wait_until(lambda: (folder / "postgres" / "postmaster.pid").exists(), 20)
        with (
            local_parts(folder, mqtt_url="mqtt://unused") as second,
            psycopg.connect(second.database_url) as connection,
        ):
            assert second.database_pid != left.pid
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert left.wait(10) == 0
