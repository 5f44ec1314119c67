"""Several bridges on one broker: shared messages are confirmed, the dead are given up and their sessions taken over."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from ingest_help import PATIENCE_S, STEP_MS, T0, Peer, connected, forget_session, running
from test_ingest_bridge import MemoryLog
from test_partition import run as apply_log

from ingest.bridge import Bridge
from ingest.confirm import Confirmations, told_to_bridges
from ingest.directory import DeviceDirectory
from ingest.peers import Peers
from ingest.settings import BridgeConfig
from schema.catalogue import load_catalogue
from schema.record import TelemetryRecord, Tick, decode, encode_registry
from schema.registry import Device, RegistryEntry
from schema.topics import CLOCK_CONFIRMED_TOPIC, OVERFLOW, REFUSED, TELEMETRY, alive_topic, telemetry_topic
from simulator.publisher import play
from simulator.scenario import Scenario
from streams.logs.embedded import EmbeddedLog
from streams.partition import Partition
from wardwatch.local import LocalParts

CATALOGUE = load_catalogue()
PARTITIONS = 2
SOURCES = ("twin-a", "twin-b")
DEVICES = tuple(
    Device(device_id=f"mri-{i}", model="mri", site_id="s", customer_id=f"h-{i}", installed_ms=0) for i in range(8)
)
TIMEOUT_MS = 1000


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    with EmbeddedLog(tmp_path / "log.sqlite") as opened:
        opened.create_topic(TELEMETRY, PARTITIONS)
        opened.create_topic(REFUSED, 1)
        opened.create_topic(OVERFLOW, 1)
        yield opened


@pytest.fixture
def peer(parts: LocalParts) -> Iterator[Peer]:
    peer = Peer(parts, CLOCK_CONFIRMED_TOPIC, "wardwatch/v1/+/confirmed")
    yield peer
    peer.close()


@pytest.fixture(autouse=True)
def no_sessions(parts: LocalParts) -> Iterator[None]:
    yield
    cleaner = connected(parts.mqtt_url, "cleaner")
    for source in SOURCES:
        forget_session(parts, source)
        cleaner.publish(alive_topic(source), b"", 1, retain=True).wait_for_publish(PATIENCE_S)
    cleaner.disconnect()
    cleaner.loop_stop()


def make(url: str, log: EmbeddedLog, source: str, **settings: Any) -> Bridge:
    config = BridgeConfig(
        mqtt_url=url, source=source, partitions=PARTITIONS, peer_timeout_ms=TIMEOUT_MS, **({"clock": "wall"} | settings)
    )
    directory = DeviceDirectory(PARTITIONS, DEVICES)
    return Bridge(config, catalogue=CATALOGUE, directory=directory, append=log.append, last_ticks={})


@contextmanager
def bridge(parts: LocalParts, log: EmbeddedLog, source: str, **settings: Any) -> Iterator[Bridge]:
    with running(make(parts.mqtt_url, log, source, **settings)) as made:
        yield made


@contextmanager
def twins(parts: LocalParts, log: EmbeddedLog, **settings: Any) -> Iterator[list[Bridge]]:
    with ExitStack() as stack:
        both = [stack.enter_context(bridge(parts, log, source, **settings)) for source in SOURCES]
        until(lambda: all(each.stats.bridges == 2 for each in both))
        yield both


def bridge_process(url: str, path: Path, source: str) -> None:
    """Run a bridge into the log at `path` until it is killed."""
    with EmbeddedLog(path) as log:
        make(url, log, source).run(threading.Event())


def start_process(parts: LocalParts, log: EmbeddedLog, source: str) -> BaseProcess:
    process = multiprocessing.get_context("spawn").Process(
        target=bridge_process, args=(parts.mqtt_url, log.path, source), daemon=True
    )
    process.start()
    return process


def until(condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def body(number: int, seq: int) -> dict[str, Any]:
    return {"device": f"mri-{number}", "boot": T0, "seq": seq, "sent": T0, "series": {"exams": [[T0, seq]]}}


def records(log: EmbeddedLog, partition: int) -> list[Any]:
    found: list[Any] = []
    offset = 0
    while some := log.read(TELEMETRY, partition, offset):
        offset = some[-1].offset + 1
        found += [decode(record.value) for record in some]
    return found


def seqs(log: EmbeddedLog, device: int) -> list[int]:
    every = [record for partition in range(PARTITIONS) for record in records(log, partition)]
    messages = [message for record in every if isinstance(record, TelemetryRecord) for message in record]
    return sorted(message.seq for message in messages if message.device_id == f"mri-{device}")


def ticks(log: EmbeddedLog, source: str, state: str) -> list[Tick]:
    return [each for each in records(log, 0) if isinstance(each, Tick) and (each.source, each.state) == (source, state)]


def test_messages_that_two_bridges_share_are_confirmed_without_gaps(
    parts: LocalParts, log: EmbeddedLog, peer: Peer
) -> None:
    with twins(parts, log, confirm_interval_ms=50) as both:
        for seq in range(1, 41):
            peer.publish(telemetry_topic("mri-7"), body(7, seq), wait=False)
            peer.publish(telemetry_topic("mri-3"), body(3, seq), wait=False)
        for device in (3, 7):
            peer.wait_for(f"wardwatch/v1/mri-{device}/confirmed", {"boot": T0, "from": 1, "seq": 40})
        assert all(each.stats.messages for each in both)


def test_a_bridge_that_comes_later_confirms_what_was_written_before_it_came(
    parts: LocalParts, log: EmbeddedLog, peer: Peer
) -> None:
    with bridge(parts, log, SOURCES[0], confirm_interval_ms=50) as first:
        for seq in range(1, 11):
            peer.publish(telemetry_topic("mri-7"), body(7, seq))
        until(lambda: first.stats.messages == 10)
        with bridge(parts, log, SOURCES[1], confirm_interval_ms=50) as second:
            until(lambda: first.stats.bridges == second.stats.bridges == 2)
            for seq in range(11, 31):
                for device in (7, 6, 5, 4):
                    peer.publish(telemetry_topic(f"mri-{device}"), body(device, seq - (0 if device == 7 else 10)))
            peer.wait_for("wardwatch/v1/mri-7/confirmed", {"boot": T0, "from": 1, "seq": 30})
            for device in (6, 5, 4):
                peer.wait_for(f"wardwatch/v1/mri-{device}/confirmed", {"boot": T0, "from": 1, "seq": 20})


def test_time_waits_for_both_bridges_and_each_message_has_the_clock_before_it(
    parts: LocalParts, log: EmbeddedLog, peer: Peer
) -> None:
    clocks = 12
    with twins(parts, log, clock="simulated"):
        for step in range(clocks):
            peer.clock(step)
            for device in range(8):
                peer.publish(telemetry_topic(f"mri-{device}"), body(device, step + 1))
        peer.clock(clocks)
        for source in SOURCES:
            peer.wait_for(CLOCK_CONFIRMED_TOPIC, {"at": T0 + clocks * STEP_MS, "source": source})
    for number in range(PARTITIONS):
        partition = Partition(number, CATALOGUE)
        for record in records(log, number):
            if isinstance(record, Tick) and record.state != "left":
                partition.apply(record)
            elif isinstance(record, TelemetryRecord):
                for message in record:
                    assert message.receive_ms == T0 + (message.seq - 1) * STEP_MS
                    assert partition.shared.now_ms <= message.receive_ms
        assert partition.shared.now_ms == T0 + clocks * STEP_MS
    assert all(seqs(log, device) == list(range(1, clocks + 1)) for device in range(8))


def test_a_scenario_that_two_bridges_share_has_the_same_effects_as_through_one(parts: LocalParts) -> None:
    scenario = Scenario(11, devices=8, customers=2, days=2)
    known = scenario.registry
    entries: list[RegistryEntry] = [*known.technicians, *known.parts, *known.calendars]
    entries += [*known.customers, *known.sites, *known.devices]

    def effects(sources: Sequence[str]) -> Any:
        log = MemoryLog()
        with ExitStack() as stack:
            for source in sources:
                config = BridgeConfig(mqtt_url=parts.mqtt_url, source=source, partitions=1, clock="simulated")
                directory = DeviceDirectory(1, known.devices)
                made = Bridge(
                    config, catalogue=CATALOGUE, directory=directory, append=log.append, last_ticks={}
                )
                stack.enter_context(running(made))
            play(scenario, parts.mqtt_url, bridges=len(sources))
            written = [value for topic, _, value in log.entries if topic == TELEMETRY]
        for source in sources:
            forget_session(parts, source)

        def in_order() -> Iterator[bytes]:
            yield encode_registry(entries, source="test", receive_ms=0)
            yield from written

        return apply_log(in_order())[0].content()

    assert effects(SOURCES) == effects(SOURCES[:1])


def test_of_a_killed_bridge_nothing_is_lost_and_time_goes_on_without_it(
    parts: LocalParts, log: EmbeddedLog, peer: Peer
) -> None:
    with bridge(parts, log, SOURCES[0]) as alive:
        dead = start_process(parts, log, SOURCES[1])
        until(lambda: alive.stats.bridges == 2)
        assert dead.pid is not None
        os.kill(dead.pid, signal.SIGSTOP)
        for seq in range(1, 101):
            peer.publish(telemetry_topic("mri-7"), body(7, seq))
        os.kill(dead.pid, signal.SIGKILL)
        until(lambda: alive.stats.given_up > 0)
        until(lambda: alive.stats.sessions_taken_over >= 1)
        for seq in range(101, 141):
            peer.publish(telemetry_topic("mri-7"), body(7, seq))
        until(lambda: set(seqs(log, 7)) == set(range(1, 141)))
        assert alive.stats.bridges == 1
    assert ticks(log, SOURCES[1], "left")
    partition, at = Partition(0, CATALOGUE), []
    for record in records(log, 0):
        if isinstance(record, Tick):
            partition.apply(record)
            at.append(partition.shared.now_ms)
    assert at == sorted(at)
    assert at[-1] == ticks(log, SOURCES[0], "tick")[-1].at_ms


def test_a_bridge_that_was_only_asleep_counts_again_and_gets_its_session_back(
    parts: LocalParts, log: EmbeddedLog, peer: Peer
) -> None:
    with bridge(parts, log, SOURCES[0]) as awake:
        sleeper = start_process(parts, log, SOURCES[1])
        until(lambda: awake.stats.bridges == 2)
        until(lambda: bool(ticks(log, SOURCES[1], "tick")))
        assert sleeper.pid is not None
        os.kill(sleeper.pid, signal.SIGSTOP)
        until(lambda: awake.stats.sessions_taken_over == 1)
        os.kill(sleeper.pid, signal.SIGCONT)
        until(lambda: awake.stats.bridges == 2)
        before = awake.stats.messages
        until(lambda: ticks(log, SOURCES[1], "tick")[-1].at_ms > ticks(log, SOURCES[1], "left")[-1].at_ms, 30)
        for seq in range(1, 41):
            peer.publish(telemetry_topic("mri-7"), body(7, seq))
        until(lambda: set(seqs(log, 7)) == set(range(1, 41)))
        assert awake.stats.messages - before < 40
        sleeper.kill()
        sleeper.join()


def test_a_bridge_is_given_up_when_its_time_is_over_and_ever_more_rarely_after() -> None:
    peers = Peers("a", timeout_s=10)
    assert peers.heard("b", 1, 0.0)
    assert not peers.heard("b", 1, 2.0)
    assert peers.alive(11.9) == ["a", "b"]
    assert [at for at in range(60) if peers.given_up(float(at))] == [12, 22, 42]
    assert peers.alive(60.0) == ["a"]
    assert peers.heard("b", 2, 61.0)
    assert peers.given_up(65.0) == []


def test_a_bridge_that_did_not_listen_gives_nobody_up() -> None:
    peers = Peers("a", timeout_s=10)
    peers.heard("b", 1, 0.0)
    peers.resume(100.0)
    assert peers.given_up(109.0) == []
    assert peers.given_up(110.0) == ["b"]


def test_a_bridge_that_stopped_in_order_is_not_given_up_but_its_session_may_be_had() -> None:
    peers = Peers("a", timeout_s=10)
    peers.heard("b", 1, 0.0, stopped=True)
    assert peers.alive(1.0) == ["a"]
    assert (peers.absent(9.0), peers.absent(10.0), peers.given_up(10.0)) == ([], ["b"], [])


def test_each_device_is_told_by_exactly_one_of_the_bridges() -> None:
    alive = ["a", "b", "c"]
    for number in range(50):
        tellers = [name for name in alive if Peers(name, timeout_s=1).is_ours(f"mri-{number}", alive)]
        assert len(tellers) == 1


def test_what_bridges_tell_each_other_closes_each_others_gaps() -> None:
    odd, newcomer = Confirmations(interval_ms=0), Confirmations(interval_ms=0)
    for seq in range(1, 1000, 2):
        odd.written("d", 1, seq)
    odd.merge(b"nonsense")
    for payload in told_to_bridges([("d", 1, seq) for seq in range(2, 1000, 2)]):
        odd.merge(payload)
    for payload in odd.known():
        newcomer.merge(payload)
    for confirmations in (odd, newcomer):
        assert [(told.first, told.last) for told in confirmations.tell(0)] == [(1, 999)]
