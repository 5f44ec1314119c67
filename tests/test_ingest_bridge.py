"""The bridge with a real broker: the whole way in, redelivery, and what keeps the ticks honest."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from ingest_help import PATIENCE_S, STEP_MS, T0, Peer, forget_session, running

from ingest.batch import Entry
from ingest.bridge import Bridge
from ingest.directory import DeviceDirectory
from ingest.settings import BridgeConfig
from schema.catalogue import load_catalogue
from schema.messages import Message, Refused
from schema.record import TelemetryRecord, Tick, decode
from schema.registry import Device
from schema.topics import CLOCK_CONFIRMED_TOPIC, CLOCK_TOPIC, REFUSED, state_topic, telemetry_topic
from wardwatch.local import LocalParts

CATALOGUE = load_catalogue()
SOURCE = "bridge-1"
PARTITIONS = 4
DAY_MS = 86_400_000
DEVICES = [
    Device(device_id=f"mri-{i}", model="mri", site_id="s", customer_id=f"hospital-{i}", installed_ms=0)
    for i in range(20)
]


class MemoryLog:
    """A log in a list; `broken` makes it fail."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.broken = False
        self.attempts = 0
        self._changed = threading.Condition()

    def append(self, entries: Sequence[Entry]) -> list[int]:
        with self._changed:
            self.attempts += 1
            self._changed.notify_all()
            if self.broken:
                raise OSError("no space left")
            self.entries += entries
            return list(range(len(self.entries) - len(entries), len(self.entries)))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_S)

    def messages(self) -> list[Message]:
        records = [decode(value) for _, _, value in self.entries]
        return [message for record in records if isinstance(record, TelemetryRecord) for message in record]

    def refused(self) -> list[Refused]:
        records = [decode(value) for topic, _, value in self.entries if topic == REFUSED]
        return [entry for record in records if isinstance(record, tuple) for entry in record]  # type: ignore[misc]

    def ticks(self, partition: int = 0) -> list[Tick]:
        records = [decode(value) for _, number, value in self.entries if number == partition]
        return [record for record in records if isinstance(record, Tick)]


@pytest.fixture
def peer(parts: LocalParts) -> Iterator[Peer]:
    peer = Peer(parts, CLOCK_CONFIRMED_TOPIC, "wardwatch/v1/+/confirmed")
    yield peer
    peer.close()


@pytest.fixture(autouse=True)
def no_session(parts: LocalParts) -> Iterator[None]:
    """Start without a session of an earlier bridge, and leave none: the broker would keep on queueing for it."""
    forget_session(parts, SOURCE)
    yield
    forget_session(parts, SOURCE)


@contextmanager
def bridge(parts: LocalParts, log: MemoryLog, **settings: Any) -> Iterator[Bridge]:
    last_ticks = {p: log.ticks(p)[-1].at_ms for p in range(PARTITIONS) if log.ticks(p)}
    config = BridgeConfig(
        mqtt_url=parts.mqtt_url, source=SOURCE, partitions=PARTITIONS, **({"clock": "simulated"} | settings)
    )
    directory = DeviceDirectory(PARTITIONS, DEVICES)
    made = Bridge(config, catalogue=CATALOGUE, directory=directory, append=log.append, last_ticks=last_ticks)
    with running(made):
        yield made


def body(number: int, seq: int, **changes: Any) -> dict[str, Any]:
    series = {"exams": [[T0, seq]]}
    return {"device": f"mri-{number}", "boot": T0 - DAY_MS, "seq": seq, "sent": T0, "series": series} | changes


def test_each_bad_message_is_quarantined_with_its_own_reason_and_the_valid_one_behind_them_arrives(
    parts: LocalParts, peer: Peer
) -> None:
    log = MemoryLog()
    topic = telemetry_topic("mri-7")
    with bridge(parts, log):
        peer.clock(0)
        peer.publish(telemetry_topic("stranger"), body(7, 1, device="stranger"))
        peer.publish(topic, body(8, 1))
        peer.publish(topic, body(7, 1, series={"exams": [[T0 + DAY_MS, 1]]}))
        peer.publish(topic, body(7, 2, series={"coldhead_k": [[T0, 1000.0]]}))
        peer.publish(topic, b'{"device": "mri-7", ')
        peer.publish(topic, random.Random(7).randbytes(10_000_000))
        peer.publish(topic, body(7, 3))
        peer.clock(1)
        peer.wait_for(CLOCK_CONFIRMED_TOPIC, {"at": T0 + STEP_MS, "source": SOURCE})
    assert [entry.reason for entry in log.refused()] == [
        "unknown_device",
        "topic_mismatch",
        "timestamp_ahead",
        "out_of_range",
        "invalid_json",
        "too_large",
    ]
    assert log.refused()[-1].length == 10_000_000
    assert [(message.device_id, message.seq, message.receive_ms) for message in log.messages()] == [("mri-7", 3, T0)]
    for partition in range(PARTITIONS):
        assert [(tick.state, tick.at_ms - T0) for tick in log.ticks(partition)] == [
            ("joined", 0),
            ("tick", 0),
            ("tick", STEP_MS),
            ("left", STEP_MS),
        ]


def test_the_first_clock_gets_through_however_much_comes_before_it(
    parts: LocalParts, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.connection.RECEIVE_MAXIMUM", 50)
    monkeypatch.setattr("ingest.early.WAITING_AT_MOST", 20)
    log = MemoryLog()
    with bridge(parts, log):
        for seq in range(1, 201):
            peer.publish(telemetry_topic("mri-7"), body(7, seq), wait=False)
        for step in range(2):
            peer.clock(step)
            peer.wait_for(CLOCK_CONFIRMED_TOPIC, {"at": T0 + step * STEP_MS, "source": SOURCE})
    assert [(message.seq, message.receive_ms) for message in log.messages()] == [(seq, T0) for seq in range(1, 201)]


def test_births_wills_and_messagepack_come_the_same_way(parts: LocalParts, peer: Peer) -> None:
    log = MemoryLog()
    with bridge(parts, log):
        peer.clock(0)
        peer.publish(state_topic("mri-7"), {"device": "mri-7", "state": "online", "boot": T0})
        peer.publish(telemetry_topic("mri-7"), msgspec.msgpack.encode(body(7, 1)), "application/msgpack")
        peer.publish(state_topic("mri-7"), {"device": "mri-7", "state": "offline", "boot": T0})
        peer.clock(1)
        peer.wait_for(CLOCK_CONFIRMED_TOPIC, {"at": T0 + STEP_MS, "source": SOURCE})
    assert [message.kind for message in log.messages()] == ["birth", "telemetry", "will"]
    assert log.refused() == []


def test_what_the_log_did_not_take_comes_again_in_order_after_a_restart(parts: LocalParts, peer: Peer) -> None:
    log = MemoryLog()
    with bridge(parts, log):
        peer.clock(0)
        peer.wait_for(CLOCK_CONFIRMED_TOPIC, {"at": T0, "source": SOURCE})
        log.broken = True
        for seq in range(1, 51):
            peer.publish(telemetry_topic(f"mri-{seq % 20}"), body(seq % 20, seq))
        peer.clock(1)
        before = log.attempts
        log.wait_for(lambda: log.attempts > before + 1)
    assert log.messages() == []
    for seq in range(51, 61):  # while nobody is there
        peer.publish(telemetry_topic(f"mri-{seq % 20}"), body(seq % 20, seq))
    peer.clock(2)
    log.broken = False
    with bridge(parts, log):
        peer.wait_for(CLOCK_CONFIRMED_TOPIC, {"at": T0 + 2 * STEP_MS, "source": SOURCE})
    assert sorted(message.seq for message in log.messages()) == list(range(1, 61))
    for message in log.messages():
        assert message.receive_ms == T0 + (STEP_MS if message.seq > 50 else 0)
    steps = [(tick.state, (tick.at_ms - T0) // STEP_MS) for tick in log.ticks()]
    assert steps == [("joined", 0), ("tick", 0), ("joined", 0), ("tick", 1), ("tick", 2), ("left", 2)]


def test_what_was_written_while_the_broker_was_away_comes_again_and_is_then_acknowledged(
    parts: LocalParts, peer: Peer
) -> None:
    log = MemoryLog()
    with bridge(parts, log):
        peer.clock(0)
        peer.wait_for(CLOCK_CONFIRMED_TOPIC, {"at": T0, "source": SOURCE})
        log.broken = True
        for seq in range(1, 21):
            peer.publish(telemetry_topic("mri-7"), body(7, seq))
        peer.clock(1)
        before = log.attempts
        log.wait_for(lambda: log.attempts > before)
        parts.stop_broker()
        log.broken = False
        log.wait_for(lambda: len(log.messages()) == 20)
        parts.start_broker()
        peer.publish(CLOCK_TOPIC, {"at": T0 + STEP_MS}, wait=False)  # as the first answer may come before it is back
        peer.wait_for(CLOCK_CONFIRMED_TOPIC, {"at": T0 + STEP_MS, "source": SOURCE})
        peer.clock(2)
        peer.wait_for(CLOCK_CONFIRMED_TOPIC, {"at": T0 + 2 * STEP_MS, "source": SOURCE})
    seqs = [message.seq for message in log.messages()]
    assert seqs == [*range(1, 21), *range(1, 21)]
    with bridge(parts, log):
        peer.clock(3)
        peer.wait_for(CLOCK_CONFIRMED_TOPIC, {"at": T0 + 3 * STEP_MS, "source": SOURCE})
    assert len(log.messages()) == 40


def test_a_device_hears_how_far_it_is_written(parts: LocalParts, peer: Peer) -> None:
    log = MemoryLog()
    with bridge(parts, log, clock="wall", confirm_interval_ms=50):
        for seq in (1, 2, 4):
            peer.publish(telemetry_topic("mri-7"), body(7, seq))
        told = {"boot": T0 - DAY_MS, "from": 1}
        peer.wait_for("wardwatch/v1/mri-7/confirmed", told | {"seq": 2})
        peer.publish(telemetry_topic("mri-7"), body(7, 3))
        peer.wait_for("wardwatch/v1/mri-7/confirmed", told | {"seq": 4})


def test_a_small_queue_slows_the_broker_down_and_drops_nothing(parts: LocalParts, peer: Peer) -> None:
    log = MemoryLog()
    with bridge(parts, log, queue_count=2, queue_bytes=1000):
        peer.clock(0)
        for seq in range(1, 301):
            peer.publish(telemetry_topic("mri-7"), body(7, seq))
        peer.clock(1)
        peer.wait_for(CLOCK_CONFIRMED_TOPIC, {"at": T0 + STEP_MS, "source": SOURCE})
    assert [message.seq for message in log.messages()] == list(range(1, 301))


def test_in_wall_clock_time_the_backlog_comes_before_the_first_tick(parts: LocalParts, peer: Peer) -> None:
    log = MemoryLog()
    with bridge(parts, log, clock="wall"):
        log.wait_for(lambda: len(log.ticks()) >= 2)
    ticks_before = len(log.ticks())
    for seq in range(1, 501):
        peer.publish(telemetry_topic("mri-7"), body(7, seq))
    with bridge(parts, log, clock="wall"):
        log.wait_for(lambda: len(log.ticks()) >= ticks_before + 2)
    partition = next(p for topic, p, value in log.entries if isinstance(decode(value), TelemetryRecord))
    records = [decode(value) for _, p, value in log.entries if p == partition]
    kinds = ["messages" if isinstance(record, TelemetryRecord) else record.state for record in records]  # type: ignore[union-attr]
    end = kinds.index("left")
    assert kinds[:2] == ["joined", "tick"]
    assert kinds[end:].index("joined") > max(i for i, kind in enumerate(kinds[end:]) if kind == "messages")
    times = [record.at_ms for record in records if isinstance(record, Tick)]
    assert times == sorted(times)
    assert len(log.messages()) == 500


def test_without_a_broker_the_bridge_waits_and_still_stops_in_time() -> None:
    log = MemoryLog()
    config = BridgeConfig(mqtt_url="mqtt://127.0.0.1:1", source=SOURCE, partitions=1)
    lonely = Bridge(config, catalogue=CATALOGUE, directory=DeviceDirectory(1), append=log.append, last_ticks={0: T0})
    stop = threading.Event()
    thread = threading.Thread(target=lonely.run, args=(stop,))
    thread.start()
    thread.join(0.5)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert log.entries == []


@pytest.mark.parametrize("url", ["http://localhost", "localhost:1883", "mqtt://", "mqtt://user:secret@"])
def test_an_address_that_is_none_is_named_without_its_password(url: str) -> None:
    config = BridgeConfig(mqtt_url=url, source=SOURCE, partitions=1)
    with pytest.raises(ValueError, match="mqtt_url") as raised:
        Bridge(config, catalogue=CATALOGUE, directory=DeviceDirectory(1), append=print, last_ticks={})
    assert "secret" not in str(raised.value)
