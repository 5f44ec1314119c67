"""What bridges that are gone have left: nothing of it is lost, whoever adopts it and however often."""

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest
from ingest_help import PATIENCE_S, T0, Peer, connected, running
from test_ingest_quota import Store, config
from test_ingest_several import CATALOGUE, PARTITIONS, SOURCES, TIMEOUT_MS, body, log, no_sessions, seqs, until

from ingest.bridge import Bridge
from ingest.directory import DeviceDirectory
from ingest.neighbours import SHARES
from ingest.overflow import INDEXED, Overflow
from ingest.peerline import Heard, Heartbeat, heartbeat_of
from ingest.settings import BridgeConfig, BridgeStats
from schema.messages import Message
from schema.record import TelemetryRecord, decode, encode_telemetry
from schema.registry import Device
from schema.topics import OVERFLOW, alive_topic, mark_topic, telemetry_topic
from streams.logs.embedded import EmbeddedLog
from wardwatch.bridging import OverflowTopic
from wardwatch.local import LocalParts

__all__ = ["log", "no_sessions"]
DEVICE = Device(device_id="mri-7", model="mri", site_id="s", customer_id="h", installed_ms=0)
HEIR, DEAD = SOURCES
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect paho's clients, which leave a pair of sockets to the garbage collector, while that may be."""
    yield
    gc.collect()


class FailingStore(Store):
    """Fails once, at `fail_at`."""

    fail_at: int | None = None

    def read(self, offset: int, count: int) -> list[tuple[int, bytes]]:
        if self.fail_at is not None and offset >= self.fail_at:
            self.fail_at = None
            raise OSError("the log is away")
        return super().read(offset, count)


def overflow_of(source: str, store: Store) -> Overflow:
    return Overflow(config(source), store, BridgeStats())


def overflows(overflow: Overflow, store: Store, device_id: str, *seqs: int) -> None:
    """Let messages wait, each in a record of its own."""
    for seq in seqs:
        overflow.add(Message(device_id, "telemetry", 1, seq, T0, T0))
        values = [value for _, _, value in overflow.drain()]
        overflow.appended(range(len(store.records), len(store.records) + len(values)))
        store.records += values


def all_of(overflow: Overflow, device_id: str) -> Iterator[int]:
    while (found := overflow.next(device_id)) is not None:
        record = decode(found[0])
        assert isinstance(record, TelemetryRecord)
        yield from (message.seq for message in record)


def bridge(parts: LocalParts, log: EmbeddedLog, directory: DeviceDirectory) -> Bridge:
    return Bridge(
        BridgeConfig(mqtt_url=parts.mqtt_url, source=HEIR, partitions=PARTITIONS, peer_timeout_ms=TIMEOUT_MS),
        catalogue=CATALOGUE,
        directory=directory,
        append=log.append,
        last_ticks={},
        overflow=OverflowTopic(log),
    )


def test_an_adopted_session_lasts_while_a_message_of_it_waits_for_the_registry(
    parts: LocalParts, log: EmbeddedLog
) -> None:
    away = threading.Event()
    away.set()

    def read() -> list[Device]:
        if away.is_set():
            raise OSError("the database is away")
        return [DEVICE]

    dead = connected(parts.mqtt_url, DEAD, SHARES, session_s=60)
    until(lambda: dead.is_connected())
    time.sleep(0.2)  # it has subscribed
    dead.disconnect()
    dead.loop_stop()
    with closing(Peer(parts, mark_topic(DEAD))) as peer:
        peer.publish(telemetry_topic("mri-7"), body(7, 1))
        beat = msgspec.to_builtins(Heartbeat(DEAD, 1, stopped=True))
        sayer = connected(parts.mqtt_url, "sayer")
        sayer.publish(alive_topic(DEAD), msgspec.json.encode(beat), 1, retain=True).wait_for_publish(PATIENCE_S)
        sayer.disconnect()
        sayer.loop_stop()
        with running(bridge(parts, log, DeviceDirectory(PARTITIONS, refresh=read))) as heir:
            peer.wait_until(lambda: any(topic == mark_topic(DEAD) for topic, _ in peer.heard))
            until(lambda: heir.stats.strangers == 1)
            time.sleep(0.3)  # it has seen the mark
            assert heir.stats.sessions_taken_over == 0
            away.clear()
            until(lambda: heir.stats.sessions_taken_over == 1)
            assert seqs(log, 7) == [1]


def test_whose_messages_wait_is_adopted_though_nobody_has_ever_heard_of_it(parts: LocalParts, log: EmbeddedLog) -> None:
    message = Message("mri-7", "telemetry", T0, 1, T0, T0)
    log.append([(OVERFLOW, 0, encode_telemetry([message], source=DEAD, receive_ms=T0))])
    with running(bridge(parts, log, DeviceDirectory(PARTITIONS, [DEVICE]))) as heir:
        until(lambda: seqs(log, 7) == [1])
        assert heir.stats.sessions_taken_over == 1


def test_what_a_dead_bridge_left_outlives_its_heir() -> None:
    store = Store()
    dead = overflow_of("a", store)
    overflows(dead, store, "x", *range(1, 11))
    heir = overflow_of("b", store)
    heir.restore(T0)
    assert heir.others == {"a"}
    heir.take_over("a", T0)
    assert heir.others == set()
    assert heir.next("x") is not None
    heir.note()
    for later in ("b", "c"):
        again = overflow_of(later, store)
        again.restore(T0)
        assert again.others == {"a"}
        again.take_over("a", T0)
        assert list(all_of(again, "x")) == list(range(2, 11))


def test_an_heir_never_notes_more_of_another_bridge_than_it_found_of_it() -> None:
    store = Store()
    back, heir = overflow_of("a", store), overflow_of("b", store)
    overflows(back, store, "x", 1)
    heir.take_over("a", T0)
    overflows(back, store, "x", 2, 3)
    overflows(heir, store, "y", 1)
    assert list(all_of(heir, "x")) == [1]
    assert list(all_of(heir, "y")) == [1]
    heir.note()
    assert store.positions == {"a": 1, "b": 4}


def test_what_is_taken_over_comes_before_what_has_waited_for_less_long() -> None:
    store = Store()
    dead, heir = overflow_of("a", store), overflow_of("b", store)
    overflows(dead, store, "x", 1, 2)
    overflows(heir, store, "x", *range(3, INDEXED + 10))
    overflows(dead, store, "x", INDEXED + 10)
    heir.take_over("a", T0)
    heir.note()
    assert store.positions == {"a": 0, "b": 0}
    assert list(all_of(heir, "x")) == list(range(1, INDEXED + 11))
    assert heir.facts("x")[1] == 0


def test_a_search_that_fails_half_way_has_found_nothing() -> None:
    store = FailingStore()
    overflows(overflow_of("a", store), store, "x", *range(1, 301))
    again = overflow_of("a", store)
    store.fail_at = 200
    with pytest.raises(OSError, match="away"):
        again.restore(T0)
    assert again.devices() == []
    again.restore(T0)
    assert again.facts("x")[1] == 300
    assert list(all_of(again, "x")) == list(range(1, 301))


@pytest.mark.parametrize(("source", "counts"), [("twin-b", True), ("twin-c", False), ("a/b", False), ("", False)])
def test_a_heartbeat_counts_only_on_the_topic_of_the_bridge_that_it_names(source: str, counts: bool) -> None:
    beat = Heartbeat(source, 1)
    topic = alive_topic(source if "/" in source or not source else "twin-b")
    assert heartbeat_of(Heard(topic, msgspec.json.encode(beat))) == (beat if counts else None)
