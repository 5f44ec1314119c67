"""What every log promises, on each of them: the embedded one and Kafka."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schema.record import Tick, encode_tick
from schema.topics import TELEMETRY
from streams.logs import Log
from streams.logs.embedded import EmbeddedLog
from streams.logs.file import OffsetOutOfRange, PartitionsDiffer, UnknownPartition
from streams.logs.kafka import KafkaLog
from streams.logs.kafka_access import KafkaAccess
from wardwatch.bridging import LOOK_BACK, last_ticks

ANY_SIZE = 10**12

_numbers = count(1)


class Clock:
    """The wall clock of those who append; stands still unless set."""

    def __init__(self) -> None:
        self.now_ms = 1_764_000_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def log(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Log]:
    opened: Log
    if request.param == "embedded":
        opened = EmbeddedLog(tmp_path / "log.sqlite", clock_ms=clock)
    else:
        opened = KafkaLog(KafkaAccess(request.getfixturevalue("kafka_broker").bootstrap), clock_ms=clock)
    with opened:
        yield opened


@pytest.fixture
def new_topic(log: Log) -> Callable[[int], str]:
    def create(partitions: int) -> str:
        topic = f"logs-{os.getpid()}-{next(_numbers)}"
        log.create_topic(topic, partitions)
        return topic

    return create


@pytest.fixture
def topic(new_topic: Callable[[int], str]) -> str:
    return new_topic(2)


def values(log: Log, topic: str, partition: int = 0, offset: int = 0) -> list[bytes]:
    found: list[bytes] = []
    while records := log.read(topic, partition, offset + len(found)):
        assert [record.offset for record in records] == [
            *range(offset + len(found), offset + len(found) + len(records))
        ], "offsets are dense"
        found += [record.value for record in records]
    return found


def test_offsets_count_from_zero_in_each_partition(log: Log, topic: str) -> None:
    assert log.append([(topic, 0, b"a"), (topic, 1, b"b"), (topic, 0, b"c")]) == [0, 0, 1]
    assert log.append([(topic, 0, b"d")]) == [2]
    assert values(log, topic, 0) == [b"a", b"c", b"d"]
    assert values(log, topic, 1) == [b"b"]
    assert log.end_offsets() == {(topic, 0): 3, (topic, 1): 1}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    appends=st.lists(st.lists(st.tuples(st.integers(0, 1), st.binary(max_size=300)), max_size=5), max_size=8),
    max_bytes=st.integers(0, 400),
    max_records=st.integers(1, 5),
)
def test_what_was_appended_is_read_in_order_under_any_limits(
    log: Log, topic: str, appends: list[list[tuple[int, bytes]]], max_bytes: int, max_records: int
) -> None:
    begins = {partition: log.end_offset(topic, partition) for partition in (0, 1)}
    for entries in appends:
        log.append([(topic, partition, value) for partition, value in entries])
    for partition, begin in begins.items():
        found: list[bytes] = []
        limits = {"max_bytes": max_bytes, "max_records": max_records}
        while records := log.read(topic, partition, begin + len(found), **limits):
            assert len(records) <= max_records
            assert len(records) == 1 or sum(len(record.value) for record in records) <= max_bytes
            found += [record.value for record in records]
        assert found == [value for entries in appends for to, value in entries if to == partition]


def test_the_newest_records_can_be_asked_for(log: Log, topic: str) -> None:
    log.append([(topic, 0, b"%d" % number) for number in range(5)])
    assert [(record.offset, record.value) for record in log.last(topic, 0, 2)] == [(3, b"3"), (4, b"4")]
    assert len(log.last(topic, 0, 9)) == 5
    assert log.last(topic, 1) == []


def test_a_record_knows_when_it_was_appended(log: Log, topic: str, clock: Clock) -> None:
    log.append([(topic, 0, b"a")])
    assert log.last(topic, 0)[0].appended_ms == clock.now_ms


def test_records_of_many_sizes_are_carried_whole(log: Log, topic: str) -> None:
    sizes = (0, 1, 40_000, 999_999, 1_000_001, 3_000_000, 7)
    log.append([(topic, 0, bytes(size)) for size in sizes])
    assert [len(value) for value in values(log, topic)] == [*sizes]


def test_an_offset_that_the_log_does_not_hold_is_out_of_range(log: Log, topic: str, clock: Clock) -> None:
    log.append([(topic, 0, b"a"), (topic, 0, b"b")])
    clock.now_ms += 2
    log.retain(max_bytes=ANY_SIZE, max_age_ms=1, floor={(topic, 0): 1})
    assert log.read(topic, 0, 2) == []
    for offset in (0, 3):
        with pytest.raises(OffsetOutOfRange, match=r"\[1, 2\)"):
            log.read(topic, 0, offset)


def test_a_topic_may_be_created_again_with_as_many_partitions_only(log: Log, topic: str) -> None:
    log.append([(topic, 1, b"a")])
    log.create_topic(topic, 2)
    assert values(log, topic, 1) == [b"a"]
    for other in (1, 3):
        with pytest.raises(PartitionsDiffer):
            log.create_topic(topic, other)


def test_an_unknown_partition_is_named(log: Log, topic: str) -> None:
    with pytest.raises(UnknownPartition, match=f"{topic}/7"):
        log.append([(topic, 7, b"a")])
    with pytest.raises(UnknownPartition, match=f"{topic}/7"):
        log.end_offset(topic, 7)


def test_a_reader_may_note_how_far_it_is(log: Log, topic: str) -> None:
    reader = f"reader-{topic}"
    log.append([(topic, number % 2, b"x") for number in range(12)])
    log.commit(reader, {(topic, 0): 3})
    log.commit(reader, {(topic, 0): 5, (topic, 1): 1})
    assert log.committed(reader) == {(topic, 0): 5, (topic, 1): 1}
    assert log.committed("nobody") == {}


def test_retention_by_age_takes_what_is_older(log: Log, topic: str, clock: Clock) -> None:
    for _ in range(3):
        clock.now_ms += 1000
        log.append([(topic, 0, b"x")])
    assert log.retain(max_bytes=ANY_SIZE, max_age_ms=1000, floor={(topic, 0): 3}) == 1
    assert [record.offset for record in log.read(topic, 0, 1)] == [1, 2]


def test_retention_never_reaches_the_floor_and_offsets_are_never_used_again(
    log: Log, topic: str, clock: Clock
) -> None:
    log.append([(topic, number % 2, bytes(10)) for number in range(5000)])
    clock.now_ms += 1000
    old = {"max_bytes": ANY_SIZE, "max_age_ms": 500}
    assert log.retain(**old, floor={(topic, 0): 2400}) == 2400
    assert (log.start_offset(topic, 0), log.start_offset(topic, 1)) == (2400, 0)
    log.retain(**old, floor={(topic, 0): 2500})
    assert (log.start_offset(topic, 0), log.end_offset(topic, 0)) == (2500, 2500)
    assert log.append([(topic, 0, b"next")]) == [2500]


def test_the_last_tick_of_a_source_is_found_among_others_and_not_searched_for_without_end(tmp_path: Path) -> None:
    with EmbeddedLog(tmp_path / "log.sqlite") as log:
        log.create_topic(TELEMETRY, 3)
        mine = [encode_tick(Tick("me", at_ms)) for at_ms in (1000, 2000)]
        others = [encode_tick(Tick("other", 9000))] * 100
        log.append([(TELEMETRY, 0, value) for value in [*mine, *others]])
        log.append([(TELEMETRY, 1, value) for value in [mine[0], *others * (LOOK_BACK // 100)]])
        assert last_ticks(log, "me", 3) == {0: 2000}
