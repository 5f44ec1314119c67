"""What the bridge does when others cannot: workers behind, a registry that cannot be read, a broker that drops."""

import multiprocessing
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ingest_help import PATIENCE_S, T0, Peer, connected, forget_session, running
from test_ingest_bridge import CATALOGUE, DEVICES, PARTITIONS, MemoryLog, body
from test_ingest_several import until

from ingest.backlog import Backlog
from ingest.bridge import Bridge
from ingest.directory import DeviceDirectory
from ingest.drops import QUIET_MS, Drops
from ingest.pressure import Pressure
from ingest.settings import BridgeConfig
from schema.messages import Message
from schema.notices import Notice
from schema.record import TelemetryRecord, Tick, decode, encode_telemetry, encode_tick
from schema.registry import Device
from schema.topics import OVERFLOW, REFUSED, TELEMETRY, alive_topic, telemetry_topic
from streams.logs.embedded import EmbeddedLog
from wardwatch.bridging import OverflowTopic, lag_of, last_ticks, other_sources, overflow_floor, record_bytes
from wardwatch.local import LocalParts
from wardwatch.local.mosquitto import find
from wardwatch.local.parts import default_parts
from wardwatch.local.process import free_port

SOURCE = "pressed"
MESSAGES = 300
PADDING = "x" * 200_000
"""What a message is larger than its readings: 60 MB that must not pile up in memory."""
QUEUE_BYTES = 4 << 20


@pytest.fixture(autouse=True)
def no_session(parts: LocalParts) -> Iterator[None]:
    forget_session(parts, SOURCE)
    yield
    forget_session(parts, SOURCE)
    cleaner = connected(parts.mqtt_url, "cleaner")
    cleaner.publish(alive_topic(SOURCE), b"", 1, retain=True).wait_for_publish(PATIENCE_S)
    cleaner.disconnect()
    cleaner.loop_stop()


@contextmanager
def bridge(
    url: str,
    append: Callable[[Sequence[Any]], list[int]],
    directory: DeviceDirectory,
    overflow: OverflowTopic | None = None,
    **settings: Any,
) -> Iterator[Bridge]:
    config = BridgeConfig(mqtt_url=url, source=SOURCE, partitions=PARTITIONS, **settings)
    made = Bridge(
        config, catalogue=CATALOGUE, directory=directory, append=append, last_ticks={}, overflow=overflow
    )
    with running(made):
        yield made


def new_log(folder: Path) -> EmbeddedLog:
    log = EmbeddedLog(folder / "log.sqlite")
    for topic, partitions in ((TELEMETRY, PARTITIONS), (REFUSED, 1), (OVERFLOW, 1)):
        log.create_topic(topic, partitions)
    return log


def bridge_process(url: str, path: Path) -> None:
    """Run a bridge into the log at `path` that bears a backlog of one kilobyte, until it is killed."""
    with EmbeddedLog(path) as log:
        config = BridgeConfig(
            mqtt_url=url, source=SOURCE, partitions=PARTITIONS, max_lag_bytes=1000, queue_bytes=QUEUE_BYTES
        )
        directory = DeviceDirectory(PARTITIONS, DEVICES)
        Bridge(
            config,
            catalogue=CATALOGUE,
            directory=directory,
            append=log.append,
            last_ticks={},
            backlog=Backlog(lag_of(log), record_bytes(log, PARTITIONS)),
        ).run(threading.Event())


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def seqs(log: EmbeddedLog) -> set[int]:
    found: list[Any] = []
    for partition in range(PARTITIONS):
        offset = 0
        while some := log.read(TELEMETRY, partition, offset):
            offset = some[-1].offset + 1
            found += [decode(record.value) for record in some]
    return {message.seq for record in found if isinstance(record, TelemetryRecord) for message in record}


def ticks(log: EmbeddedLog) -> int:
    return sum(isinstance(decode(record.value), Tick) for record in log.last(TELEMETRY, 0, 10_000))


def test_while_the_workers_are_behind_the_broker_keeps_everything_and_the_bridge_stays_small(
    parts: LocalParts, tmp_path: Path
) -> None:
    peer = Peer(parts, "wardwatch/v1/+/confirmed")
    with new_log(tmp_path) as log:
        process = multiprocessing.get_context("spawn").Process(
            target=bridge_process, args=(parts.mqtt_url, log.path), daemon=True
        )
        process.start()
        assert process.pid is not None
        lag = lag_of(log)
        until(lambda: sum(map(len, lag().values())) > 10, 30)  # ticks that nobody works off: more than a kilobyte
        time.sleep(2.0)
        stood_at, before_mb = ticks(log), resident_mb(process.pid)
        for seq in range(1, MESSAGES + 1):
            peer.publish(telemetry_topic("mri-7"), body(7, seq, pad=PADDING))
        time.sleep(0.5)
        grown_mb = resident_mb(process.pid) - before_mb
        assert (seqs(log), ticks(log), peer.heard) == (set(), stood_at, [])
        assert grown_mb < 30
        log.commit("wardwatch", {place: end for place, end in log.end_offsets().items() if place[0] == TELEMETRY})
        until(lambda: bool(seqs(log)))

        def catch_up() -> bool:
            log.commit("wardwatch", {place: end for place, end in log.end_offsets().items() if place[0] == TELEMETRY})
            return seqs(log) == set(range(1, MESSAGES + 1))

        until(catch_up, 30)
        assert resident_mb(process.pid) - before_mb < 60
        process.kill()
        process.join()
    peer.close()


def test_a_flood_is_confirmed_at_once_waits_in_the_log_and_returns_after_a_restart_delaying_nobody(
    parts: LocalParts, tmp_path: Path
) -> None:
    peer, directory, flood = Peer(parts, "wardwatch/v1/+/confirmed"), DeviceDirectory(PARTITIONS, DEVICES), 1000
    boot = int(time.time() * 1000)

    def now(number: int, seq: int) -> dict[str, Any]:
        return body(number, seq, boot=boot, sent=boot)

    with new_log(tmp_path) as log:
        with bridge(
            parts.mqtt_url, log.append, directory, overflow=OverflowTopic(log), quota_factor=10.0
        ) as running:
            for seq in range(1, flood + 1):
                peer.publish(telemetry_topic("mri-7"), now(7, seq), wait=False)
            peer.publish(telemetry_topic("mri-3"), now(3, flood + 1))
            peer.wait_for("wardwatch/v1/mri-7/confirmed", {"boot": boot, "from": 1, "seq": flood})
            until(lambda: flood + 1 in seqs(log))
            assert running.stats.overflow_waiting > 900
            assert len(seqs(log)) < 100
        with bridge(
            parts.mqtt_url, log.append, directory, overflow=OverflowTopic(log), quota_factor=3_600_000.0
        ) as running:  # two thousand a second
            until(lambda: seqs(log) == set(range(1, flood + 2)))
            assert running.stats.readmitted > 900
            until(lambda: running.stats.flooding == 0)
            assert overflow_floor(log) == log.end_offset(OVERFLOW, 0)
    peer.close()


def test_pressure_rises_above_the_limit_and_falls_below_half_of_it() -> None:
    lags: Iterator[int | Exception] = iter([0, 100, 101, 60, 51, 49, 80, RuntimeError("who knows"), 200])

    def lag() -> int:
        value = next(lags)
        if isinstance(value, Exception):
            raise value
        return value

    pressure = Pressure(lag, 100)
    seen = []
    for _ in range(9):
        pressure.look()
        seen.append(pressure.high)
    assert seen == [False, False, True, True, True, False, False, False, True]


def test_a_restarted_bridge_takes_the_backlog_for_as_large_as_the_newest_records(tmp_path: Path) -> None:
    with new_log(tmp_path) as log:
        assert record_bytes(log, PARTITIONS) == 0
        log.append([(TELEMETRY, 0, b"x" * 50)] * 200 + [(TELEMETRY, 0, b"x" * 5000)] * 300)
        log.commit("wardwatch", {(TELEMETRY, 0): 200})
        backlog = Backlog(lag_of(log), record_bytes(log, PARTITIONS))
        assert backlog.look() == 300 * 5000
        more = [(TELEMETRY, 0, b"x" * 70)] * 40
        backlog.appended(more, log.append(more))
        assert backlog.look() == 300 * 5000 + 40 * 70
        log.commit("wardwatch", {(TELEMETRY, 0): 530})
        assert backlog.look() == 10 * 70


def test_while_the_registry_cannot_be_read_only_strangers_wait(parts: LocalParts) -> None:
    away = threading.Event()
    away.set()
    newcomer = Device(device_id="mri-new", model="mri", site_id="s", customer_id="h", installed_ms=0)

    def read() -> list[Device]:
        if away.is_set():
            raise OSError("the database is away")
        return [*DEVICES, newcomer]

    peer, log = Peer(parts), MemoryLog()
    directory = DeviceDirectory(PARTITIONS, DEVICES, refresh=read)
    with bridge(parts.mqtt_url, log.append, directory) as running:
        for device, number in (("mri-new", 0), ("mri-gone", 0), ("mri-7", 7)):
            peer.publish(telemetry_topic(device), body(number, 1, device=device))
        log.wait_for(lambda: [message.device_id for message in log.messages()] == ["mri-7"])
        until(lambda: running.stats.strangers == 2)
        away.clear()
        log.wait_for(lambda: [message.device_id for message in log.messages()] == ["mri-7", "mri-new"])
        log.wait_for(lambda: [entry.reason for entry in log.refused()] == ["unknown_device"])
        assert running.stats.strangers == 0
    peer.close()


def test_what_the_broker_drops_is_noticed_through_a_restart_of_the_bridge(tmp_path: Path) -> None:
    port = free_port()
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nsys_interval 1\nmax_queued_messages 5\n"
    )
    program = find(default_parts(), print)
    broker = subprocess.Popen([program, "-c", configuration], stderr=subprocess.DEVNULL)
    url, log = f"mqtt://127.0.0.1:{port}", MemoryLog()
    directory = DeviceDirectory(PARTITIONS, DEVICES)
    try:
        until(lambda: _answers(url))
        with bridge(url, log.append, directory, peer_timeout_ms=500) as running:
            until(lambda: running.stats.bridges == 1 and bool(log.ticks()))
            time.sleep(1.5)  # the broker has told its counter, and this bridge so that it has heard it
        sender = connected(url, "sender")
        for seq in range(1, 101):  # nobody is there to take them
            sender.publish(telemetry_topic("mri-7"), str(body(7, seq)), 1).wait_for_publish(PATIENCE_S)
        time.sleep(1.5)
        with bridge(url, log.append, directory, peer_timeout_ms=500) as running:
            until(lambda: running.stats.broker_dropped > 0)
            log.wait_for(lambda: bool(notices(log)))
        sender.disconnect()
        sender.loop_stop()
    finally:
        broker.terminate()
        broker.wait(PATIENCE_S)
    (notice,) = notices(log)
    assert (notice.what, notice.active, notice.device_id) == ("broker_drops", True, "")
    assert notice.facts["messages"] == running.stats.broker_dropped >= 50


def _answers(url: str) -> bool:
    try:
        client = connected(url, "probe")
    except OSError:
        return False
    client.disconnect()
    client.loop_stop()
    return True


def notices(log: MemoryLog) -> list[Notice]:
    records = [decode(value) for topic, partition, value in log.entries if (topic, partition) == (TELEMETRY, 0)]
    return [entry for record in records if isinstance(record, tuple) for entry in record if isinstance(entry, Notice)]


def test_a_counter_that_begins_anew_counts_from_nothing_and_quiet_ends_it_once() -> None:
    drops = Drops()
    assert [drops.seen(count, T0 + at) for at, count in enumerate((7, 7, 9, 2))] == [0, 0, 2, 2]
    assert (drops.total, drops.since_ms) == (4, T0 + 2)
    assert [drops.over(T0 + 3 + QUIET_MS + at) for at in (-1, 0, 1)] == [False, True, False]
    again = Drops()
    again.restore(2, True, T0)
    assert again.seen(2, T0) == 0
    assert again.over(T0 + QUIET_MS)


def test_a_new_bridge_learns_from_the_log_which_others_count(tmp_path: Path) -> None:
    with new_log(tmp_path) as log:
        for source, state in (("a", "joined"), ("b", "joined"), ("a", "tick"), ("b", "left"), ("me", "tick")):
            log.append([(TELEMETRY, 1, encode_tick(Tick(source, T0, state)))])  # type: ignore[arg-type] # one of three
        log.append([(TELEMETRY, 1, encode_tick(Tick("c", T0, "joined"))[:-1])])
        assert other_sources(log, "me", PARTITIONS) == ["a"]
        assert last_ticks(log, "me", PARTITIONS) == {1: T0}


def test_the_overflow_topic_is_kept_from_the_oldest_that_waits(tmp_path: Path) -> None:
    with new_log(tmp_path) as log:
        topic = OverflowTopic(log)
        for seq, source in enumerate("abab", 1):
            message = Message("d", "telemetry", 1, seq, T0, T0)
            log.append([(OVERFLOW, 0, encode_telemetry([message], source=source, receive_ms=T0))])
        assert [offset for offset, _ in topic.read(1, 2)] == [1, 2]
        assert (topic.read(4, 10), topic.read(5, 10), overflow_floor(log)) == ([], [], 0)
        topic.note("a", 4)
        assert (topic.position("a"), overflow_floor(log)) == (4, 1)
        topic.note("b", 2)
        assert overflow_floor(log) == 3
        topic.note("b", 4)
        assert overflow_floor(log) == 4
        log.append([(OVERFLOW, 0, b"spoilt")])
        assert overflow_floor(log) == 5


def test_records_of_the_overflow_that_lie_together_are_fetched_together(tmp_path: Path) -> None:
    with new_log(tmp_path) as log:
        topic = OverflowTopic(log)
        offsets = log.append([(OVERFLOW, 0, b"%d" % number) for number in range(20)])
        first = topic.read(offsets[0], 1)
    assert first == [(0, b"0")]
    assert [topic.read(offset, 1) for offset in offsets[1:]] == [[(number, b"%d" % number)] for number in range(1, 20)]


def test_what_is_asked_for_and_was_deleted_begins_with_the_oldest_record_that_is_kept(tmp_path: Path) -> None:
    with new_log(tmp_path) as log:
        log.append([(OVERFLOW, 0, b"%d" % number) for number in range(20)])
        assert log.retain(max_bytes=0, max_age_ms=0, floor={(OVERFLOW, 0): 15}) == 15
        assert OverflowTopic(log).read(3, 2) == [(15, b"15"), (16, b"16")]
