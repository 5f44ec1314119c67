"""The small parts of the bridge: batches, ticks, confirmations, the queue, the directory."""

import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.batch import REFUSED_RECORD_BYTES, Batch, Entry
from ingest.confirm import BOOTS_KEPT, BOOTS_OF_OTHERS_KEPT, STRETCHES_KEPT, Confirmation, Confirmations
from ingest.connection import address, without_password
from ingest.directory import REFRESH_INTERVAL_MS, DeviceDirectory
from ingest.intake import Arrival, Intake
from ingest.settings import BridgeConfig
from ingest.ticks import Ticks
from schema.messages import Message, Reading, Refused
from schema.record import TelemetryRecord, Tick, decode
from schema.registry import Device
from schema.topics import REFUSED, TELEMETRY, partition_of

NOW_MS = 1_764_000_000_000


def message(seq: int, readings: int, device_id: str = "mri-7") -> Message:
    return Message(
        device_id, "telemetry", 1, seq, NOW_MS, NOW_MS, tuple(Reading(NOW_MS, "exams", n) for n in range(readings))
    )


def messages_of(entries: list[Entry], partition: int) -> list[Message]:
    found: list[Message] = []
    for topic, number, value in entries:
        record = decode(value)
        if topic == TELEMETRY and number == partition and isinstance(record, TelemetryRecord):
            found += record
    return found


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 130)), max_size=60), st.integers(50, 200))
def test_records_hold_whole_messages_in_order_and_no_more_readings_than_allowed(
    sizes: list[tuple[int, int]], max_readings: int
) -> None:
    batch = Batch(source="b", max_readings=max_readings)
    sent: dict[int, list[Message]] = {partition: [] for partition in range(4)}
    for seq, (partition, readings) in enumerate(sizes, 1):
        one = message(seq, readings)
        sent[partition].append(one)
        batch.add(partition, one)
    entries = batch.drain()
    assert {partition: messages_of(entries, partition) for partition in range(4)} == sent
    for _, _, value in entries:
        record = decode(value)
        assert isinstance(record, TelemetryRecord)
        assert len(record.readings) <= max_readings or len(record.messages) == 1
    assert (batch.drain(), batch.approximate_bytes) == ([], 0)


def test_refusals_go_to_their_own_topic_in_records_that_stay_small() -> None:
    batch = Batch(source="b", max_readings=50)
    for number in range(20):
        batch.refuse(Refused("t", str(number), NOW_MS, "invalid_json", "", 65_536, b"x" * 65_536))
    entries = batch.drain()
    assert {(topic, partition) for topic, partition, _ in entries} == {(REFUSED, 0)}
    assert all(len(value) < 2 * REFUSED_RECORD_BYTES for _, _, value in entries)
    records = [decode(value) for _, _, value in entries]
    refused = [entry for record in records if isinstance(record, tuple) for entry in record]
    assert [entry.sha256 for entry in refused if isinstance(entry, Refused)] == [str(number) for number in range(20)]


def test_ticks_join_where_the_log_ends_and_never_go_back() -> None:
    ticks = Ticks("b", 3, {0: 100, 1: 200, 7: 999})

    def decoded(entries: list[Entry]) -> list[tuple[int, object]]:
        return [(partition, decode(value)) for _, partition, value in entries]

    assert decoded(ticks.joined(None)) == [(0, Tick("b", 100, "joined")), (1, Tick("b", 200, "joined"))]
    assert decoded(ticks.joined(150)) == [(2, Tick("b", 150, "joined"))]
    assert ticks.joined(160) == []
    assert decoded(ticks.tick(150)) == [(0, Tick("b", 150)), (2, Tick("b", 150))]
    assert ticks.tick(150) == []
    assert (ticks.last_ms(0), ticks.last_ms(1), ticks.newest_ms()) == (150, 200, 200)
    assert decoded(ticks.left()) == [
        (0, Tick("b", 150, "left")),
        (1, Tick("b", 200, "left")),
        (2, Tick("b", 150, "left")),
    ]


def told(confirmations: Confirmations, now_ms: int = 0) -> list[Confirmation]:
    return confirmations.tell(now_ms)


@given(st.permutations(range(1, 40)))
def test_whatever_the_order_everything_is_confirmed_in_the_end_and_nothing_too_early(order: list[int]) -> None:
    confirmations = Confirmations(interval_ms=0)
    written: set[int] = set()
    for seq in order:
        confirmations.written("mri-7", 1, seq)
        written.add(seq)
        (confirmation,) = told(confirmations)
        assert set(range(confirmation.first, confirmation.last + 1)) <= written
        assert confirmation.first == min(written)
    assert confirmation == Confirmation("mri-7", 1, 1, 39)


def test_a_gap_is_not_passed_until_it_is_closed() -> None:
    confirmations = Confirmations(interval_ms=0)
    for seq in (1, 2, 5, 6):
        confirmations.written("mri-7", 1, seq)
    assert told(confirmations) == [Confirmation("mri-7", 1, 1, 2)]
    for seq in (3, 4):
        confirmations.written("mri-7", 1, seq)
    assert told(confirmations) == [Confirmation("mri-7", 1, 1, 6)]


def test_gaps_that_nobody_closes_do_not_grow_without_bound() -> None:
    confirmations = Confirmations(interval_ms=0)
    for seq in range(1, 4 * STRETCHES_KEPT, 2):
        confirmations.written("mri-7", 1, seq)
    (confirmation,) = told(confirmations)
    assert confirmation.first == confirmation.last == 2 * STRETCHES_KEPT + 1


def test_each_boot_is_confirmed_on_its_own_and_a_repeated_message_again() -> None:
    confirmations = Confirmations(interval_ms=1000)
    confirmations.written("mri-7", 1, 9)
    confirmations.written("mri-7", 2, 1)
    assert confirmations.due(5000)
    assert told(confirmations, 5000) == [Confirmation("mri-7", 1, 9, 9), Confirmation("mri-7", 2, 1, 1)]
    assert not confirmations.due(9000)
    confirmations.written("mri-7", 2, 1)
    assert not confirmations.due(5999)
    assert confirmations.due(6000)
    assert told(confirmations, 6000) == [Confirmation("mri-7", 2, 1, 1)]


@given(st.integers(1, 200), st.data())
def test_all_boots_of_a_backlog_are_confirmed_whatever_their_order(count: int, data: st.DataObject) -> None:
    confirmations = Confirmations(interval_ms=0)
    for boot in data.draw(st.permutations(range(count))):
        confirmations.written("mri-7", boot, 1, 5)
    assert {each.boot for each in told(confirmations)} == set(range(count))
    assert told(confirmations) == []


def test_a_boot_is_forgotten_only_when_it_is_told_and_the_one_written_longest_ago_first() -> None:
    confirmations = Confirmations(interval_ms=0)
    for boot in range(2 * BOOTS_KEPT):
        confirmations.written("mri-7", boot, 1)
    confirmations.written("mri-7", 0, 2)
    told(confirmations)
    confirmations.written("mri-7", 0, 3)
    confirmations.written("mri-7", 1, 2)
    assert told(confirmations) == [Confirmation("mri-7", 0, 1, 3), Confirmation("mri-7", 1, 2, 2)]
    assert len(known(confirmations)) == BOOTS_KEPT


def test_what_another_bridge_tells_is_remembered_but_not_without_bound() -> None:
    confirmations = Confirmations(interval_ms=0)
    for boot in range(2 * BOOTS_OF_OTHERS_KEPT):
        confirmations.written("mri-7", boot, 1)
    assert confirmations.tell(0, lambda _: False) == []
    assert len(known(confirmations)) == len(told(confirmations)) == BOOTS_OF_OTHERS_KEPT


def known(confirmations: Confirmations) -> list[list[object]]:
    return [each for payload in confirmations.known() for each in msgspec.msgpack.decode(payload)]


def test_a_full_queue_makes_the_sender_wait_and_a_large_payload_passes_alone() -> None:
    intake = Intake(max_count=2, max_bytes=10)
    passed = []

    def send() -> None:
        for size in (4, 4, 4, 100, 1):
            intake.put(Arrival("t", b"x" * size))
            passed.append(size)

    sender = threading.Thread(target=send)
    sender.start()
    received: list[int] = []
    while len(received) < 5:
        taken = intake.take(10, timeout_s=5)
        assert len(taken) <= 2
        assert len(taken) == 1 or sum(len(arrival.payload) for arrival in taken) <= 10
        received += [len(arrival.payload) for arrival in taken]
    sender.join()
    assert received == passed == [4, 4, 4, 100, 1]


def test_closing_lets_a_waiting_sender_go() -> None:
    intake = Intake(max_count=1, max_bytes=10)
    intake.put(Arrival("t", b""))
    sender = threading.Thread(target=intake.put, args=(Arrival("t", b""),))
    sender.start()
    intake.close()
    sender.join(5)
    assert not sender.is_alive()
    assert intake.take(10, timeout_s=0) == []


def device(device_id: str, customer_id: str = "hospital-1") -> Device:
    return Device(device_id=device_id, model="mri", site_id="s", customer_id=customer_id, installed_ms=0)


def test_the_registry_is_read_again_before_a_device_is_unknown_but_not_for_each() -> None:
    registry = [device("mri-7")]
    reads: list[int] = []

    def refresh() -> list[Device]:
        reads.append(len(registry))
        return registry

    directory = DeviceDirectory(8, registry, refresh=refresh)
    known = directory.find("mri-7", receive_ms=NOW_MS)
    assert known is not None
    assert known.partition == partition_of("hospital-1", 8)
    assert reads == []
    assert directory.find("mri-8", receive_ms=NOW_MS) is None
    registry.append(device("mri-8"))
    assert directory.find("mri-8", receive_ms=NOW_MS + REFRESH_INTERVAL_MS - 1) is None
    assert directory.find("mri-8", receive_ms=NOW_MS + REFRESH_INTERVAL_MS) is not None
    assert reads == [1, 2]


def test_the_directory_follows_what_it_is_told() -> None:
    directory = DeviceDirectory(8, [device("mri-7"), device("mri-8")])
    directory.put(device("mri-7", "hospital-2"))
    moved = directory.find("mri-7", receive_ms=NOW_MS)
    assert moved is not None
    assert (moved.customer_id, moved.partition) == ("hospital-2", partition_of("hospital-2", 8))
    directory.replace([device("mri-9")])
    assert directory.find("mri-7", receive_ms=NOW_MS) is None
    assert len(directory) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("source", "a/b"), ("source", ""), ("max_readings", 0), ("partitions", 0), ("queue_bytes", 0), ("flush_ms", 0)],
)
def test_a_bad_setting_is_named(name: str, value: object) -> None:
    settings: dict[str, object] = {"mqtt_url": "mqtt://localhost", "source": "b", "partitions": 1}
    with pytest.raises(ValueError, match=name):
        BridgeConfig(**(settings | {name: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://user:se/cret@host",
        "mqtt://user:12/cret@host",
        "mqtt://user:se?cret@host",
        "mqtt://user:se#cret@host:1883",
        "mqtt://user:se@x/cret@host:1883",
        "mqtt://user:se@host:cret",
        "mqtt://[user:secret@host",
        "mqtt://user:se\u2100cret@host",
    ],
)
def test_no_part_of_a_password_is_in_an_error_or_in_what_is_logged(url: str) -> None:
    with pytest.raises(ValueError, match="mqtt_url: expected mqtt://") as raised:
        address(url)
    for said in (str(raised.value), without_password(url)):
        assert not any(part in said for part in ("se/", "se?", "se#", "se@", "12", "secret", "cret@", "x/")), said
    assert raised.value.__context__ is None or raised.value.__suppress_context__
