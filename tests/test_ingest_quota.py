"""Quotas: what is ordinary passes, what floods waits and comes back in order, and people hear of it."""

from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import msgspec
import pytest
from test_ingest_writer import CATALOGUE, DEVICES, DIRECTORY, PARTITIONS, STEP_MS, T0, A, B, Bench, clock

from ingest.intake import Arrival
from ingest.overflow import INDEXED, Overflow
from ingest.quota import Quota
from ingest.settings import BridgeConfig, BridgeStats
from schema.messages import Message, Refused
from schema.notices import Notice
from schema.record import TelemetryRecord, Tick, decode, encode_tick
from schema.registry import Customer, Site
from schema.rows import AlertRow
from schema.topics import OVERFLOW, REFUSED, TELEMETRY
from streams.partition import Partition

HOUR_MS = 3_600_000
BURST = 48
"""What a device that sends each half hour may send at once: a day."""
FACTOR = 10.0
PER_STEP = 5 * 60 / 180
"""Tokens that come back between two clocks: ten times a message in half an hour."""


@dataclass
class Store:
    """The overflow topic in a list, with the positions that were noted."""

    records: list[bytes] = field(default_factory=list)
    positions: dict[str, int] = field(default_factory=dict)

    def read(self, offset: int, count: int) -> list[tuple[int, bytes]]:
        return list(enumerate(self.records))[offset : offset + count]

    def position(self, source: str) -> int:
        return self.positions.get(source, 0)

    def note(self, source: str, offset: int) -> None:
        self.positions[source] = offset


@dataclass
class QuotaBench(Bench):
    """A writer with quotas and an overflow; `log` leaves notices out."""

    store: Store = field(default_factory=Store)

    def __post_init__(self) -> None:
        self.settings = {"quota_factor": FACTOR} | self.settings
        self.overflow = Overflow(config("b"), self.store, self.stats)
        super().__post_init__()

    def _append(self, entries: Any) -> list[int]:
        offsets = []
        for topic, _, value in entries:
            if topic == OVERFLOW:
                self.store.records.append(value)
            offsets.append(len(self.store.records) - 1)
        super()._append(entries)
        return offsets

    def notices(self) -> list[Notice]:
        found: list[Any] = []
        for topic, _, value in chain.from_iterable(self.appends):
            record = decode(value) if topic == TELEMETRY else None
            found += record if isinstance(record, tuple) else ()
        return [each for each in found if isinstance(each, Notice)]

    def seqs(self, device: int) -> list[int]:
        words = self.log(0) + self.log(1)
        return [int(word.partition("/")[2].partition("@")[0]) for word in words if word.startswith(f"mri-{device}/")]


def config(source: str) -> BridgeConfig:
    return BridgeConfig(mqtt_url="mqtt://nowhere", source=source, partitions=PARTITIONS, quota_factor=FACTOR)


def message(device: int, seq: int, sent_ms: int = T0) -> Arrival:
    body = {"device": f"mri-{device}", "boot": T0 - 40 * 24 * HOUR_MS, "seq": seq, "sent": sent_ms}
    return Arrival(f"wardwatch/v1/mri-{device}/telemetry", msgspec.json.encode(body), packet_id=seq)


def spend(quota: Quota, at_ms: int, times: int, sent_ms: int | None = None) -> int:
    sent_ms = at_ms if sent_ms is None else sent_ms
    return sum(quota.spend("d", "mri", 12, receive_ms=at_ms, sent_ms=sent_ms) for _ in range(times))


def test_how_far_the_overflow_is_admitted_again_is_noted_at_the_start_and_again_before_kafka_forgets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = QuotaBench()
    assert bench.store.positions == {"b": 0}
    bench.run(clock(0), *(message(A, seq) for seq in range(1, BURST + 3)))
    for step in range(1, 4):
        bench.run(clock(step))
    noted = dict(bench.store.positions)
    assert noted == {"b": len(bench.store.records)}
    bench.store.positions.clear()
    bench.run(clock(4))
    assert bench.store.positions == {}
    monkeypatch.setattr("ingest.writer.NOTE_EVERY_S", 0.0)
    bench.run(clock(5))
    assert bench.store.positions == noted


def test_a_device_may_send_a_day_at_once_and_ten_times_the_usual_for_long() -> None:
    quota = Quota(FACTOR, {"mri": HOUR_MS // 2})
    assert spend(quota, T0, 1000) == BURST
    assert spend(quota, T0 + HOUR_MS, 1000) == 20
    assert spend(quota, T0 + 2 * HOUR_MS, 1000) == 20
    assert quota.per_hour("mri") == 20


def test_a_backlog_of_a_week_is_no_flood_whether_the_bridge_knew_the_device_or_not() -> None:
    week_ms, backlog = 7 * 24 * HOUR_MS, 7 * BURST
    known = Quota(FACTOR, {"mri": HOUR_MS // 2})
    assert spend(known, T0, 1000) == BURST
    assert spend(known, T0 + week_ms, backlog) == backlog
    fresh = Quota(FACTOR, {"mri": HOUR_MS // 2})
    assert spend(fresh, T0 + week_ms, backlog, sent_ms=T0) == backlog


def test_a_backlog_behind_a_birth_or_a_live_message_is_no_flood_to_a_bridge_that_does_not_know_the_device() -> None:
    week, step_ms = 7 * BURST, HOUR_MS // 2
    birth = Arrival(
        f"wardwatch/v1/mri-{A}/state",
        msgspec.json.encode({"device": f"mri-{A}", "boot": T0 - 40 * 24 * HOUR_MS, "state": "online"}),
        packet_id=1,
    )
    for first in (birth, message(A, week + 1)):
        bench = QuotaBench(settings={"quota_factor": 1.5})
        backlog = [message(A, seq, T0 - (week - seq) * step_ms) for seq in range(1, week + 1)]
        bench.run(clock(0), first, *backlog)
        assert bench.stats.overflow_waiting == 0
        assert set(bench.seqs(A)) >= set(range(1, week + 1))


def test_an_absence_is_credited_once() -> None:
    week_ms = 7 * 24 * HOUR_MS
    quota = Quota(1.0, {"mri": HOUR_MS // 2})
    assert spend(quota, T0, 1) == 1
    assert spend(quota, T0, 1000, sent_ms=T0 - week_ms) == 7 * BURST - 1
    assert spend(quota, T0, 1000, sent_ms=T0 - week_ms) == 0
    assert spend(quota, T0, 10_000, sent_ms=T0 - 100 * week_ms) == 23 * BURST


def test_a_hundredfold_flood_is_noticed_within_half_an_hour() -> None:
    quota = Quota(FACTOR, {"mri": HOUR_MS // 2})
    every_ms = HOUR_MS // 200
    refused_ms = next(at for at in range(T0, T0 + HOUR_MS, every_ms) if not spend(quota, at, 1))
    assert refused_ms - T0 < HOUR_MS // 2


def test_what_exceeds_the_quota_waits_and_comes_back_between_two_ticks_in_order() -> None:
    bench = QuotaBench()
    total = BURST + 8
    bench.run(clock(0), *(message(A, seq) for seq in range(1, total + 1)), message(B, 1))
    bench.run(clock(1))
    assert bench.seqs(B) == [1]
    assert bench.seqs(A)[:BURST] == list(range(1, BURST + 1))
    assert sorted(bench.acknowledged)[-1] == total
    for step in range(2, 60):
        bench.run(message(A, total + step - 1), clock(step))
    assert bench.seqs(A) == list(range(1, total + 59))
    words = bench.log((0, 1)[DIRECTORY.find(f"mri-{A}", receive_ms=0).partition])  # type: ignore[union-attr]
    again = next(i for i, word in enumerate(words) if word.startswith(f"mri-{A}/{BURST + 1}@"))
    assert words[again - 1].startswith("tick@")
    assert words[again].split("@")[1] == words[again - 1].split("@")[1]
    assert bench.stats.overflow_waiting == 0
    assert list(dict.fromkeys((notice.active, notice.device_id) for notice in bench.notices())) == [
        (True, f"mri-{A}"),
        (False, f"mri-{A}"),
    ]


def test_while_something_waits_all_that_the_device_sends_waits_behind_it() -> None:
    bench = QuotaBench()
    bench.run(clock(0), *(message(A, seq) for seq in range(1, BURST + 200)))
    for step in range(1, 9):
        bench.run(clock(step), message(A, BURST + 199 + step))
    assert bench.seqs(A) == list(range(1, len(bench.seqs(A)) + 1))
    assert bench.stats.overflow_waiting + len(bench.seqs(A)) == BURST + 207
    assert bench.stats.readmitted <= 8 * PER_STEP + 10


def test_the_same_flood_comes_back_the_same_whichever_clocks_share_an_append() -> None:
    def arrivals() -> list[Arrival]:
        found = []
        for step in range(30):
            found += [message(A, 20 * step + i) for i in range(1, 21)] + [clock(step + 1)]
        return [clock(0), *found]

    singly, together = QuotaBench(), QuotaBench()
    for arrival in arrivals():
        singly.run(arrival)
    together.run(*arrivals())
    assert together.log(0) == singly.log(0)
    assert together.log(1) == singly.log(1)
    assert singly.stats.readmitted > 0


def test_after_a_crash_what_waited_is_found_and_only_repeated_never_lost() -> None:
    before = QuotaBench()
    total = BURST + 400
    before.run(clock(0), *(message(A, seq) for seq in range(1, total + 1)))
    for step in range(1, 100):
        before.run(clock(step))
    assert 0 < before.stats.readmitted < 400
    before.store.positions = {"b": max(0, before.store.positions["b"] - 1)}  # the last note was lost
    after = QuotaBench(store=before.store, last_ticks=dict.fromkeys(range(PARTITIONS), T0 + 99 * STEP_MS))
    assert after.stats.overflow_waiting == 400 - before.stats.readmitted + 10
    assert after.notices()[0].active
    after.run(message(A, total + 1))
    for step in range(100, 400):
        after.run(clock(step))
    assert after.stats.overflow_waiting == 0
    assert sorted({*before.seqs(A), *after.seqs(A)}) == list(range(1, total + 2))
    assert after.seqs(A) == sorted(after.seqs(A))
    assert not after.notices()[-1].active


def test_another_bridge_admits_again_what_a_dead_one_left() -> None:
    dead = QuotaBench()
    dead.run(clock(0), *(message(A, seq) for seq in range(1, BURST + 31)), clock(1))
    waiting = dead.stats.overflow_waiting
    assert waiting == 20
    heir = Overflow(config("c"), dead.store, stats := BridgeStats())
    heir.restore(T0)
    assert stats.overflow_waiting == 0
    heir.take_over("b", T0)
    assert stats.overflow_waiting == waiting
    assert heir.next(f"mri-{A}") is not None
    assert heir.next(f"mri-{A}") is not None
    assert heir.next(f"mri-{A}") is None
    heir.note()
    assert dead.store.positions["b"] == len(dead.store.records)


def spoil(store: Store, offset: int) -> None:
    """The log's disk has changed a byte."""
    value = bytearray(store.records[offset])
    value[-1] ^= 1
    store.records[offset] = bytes(value)


def refusals(bench: QuotaBench) -> list[tuple[str, str, int]]:
    found: list[Any] = []
    for topic, _, value in chain.from_iterable(bench.appends):
        record = decode(value) if topic == REFUSED else None
        found += record if isinstance(record, tuple) else ()
    return [(each.topic, each.reason, each.length) for each in found if isinstance(each, Refused)]


def test_a_record_of_the_overflow_that_is_spoilt_goes_to_the_quarantine_and_holds_up_nothing() -> None:
    bench = QuotaBench()
    bench.run(clock(0), *(message(A, seq) for seq in range(1, BURST + 31)), clock(1))
    place = len(bench.store.records) - 1
    record = decode(bench.store.records[place])
    assert isinstance(record, TelemetryRecord)
    spoil(bench.store, place)
    for step in range(2, 60):
        bench.run(message(A, BURST + 29 + step), clock(step))
    assert set(range(1, BURST + 89)) - set(bench.seqs(A)) == {each.seq for each in record}
    assert (bench.stats.overflow_waiting, bench.stats.failed_attempts) == (0, 0)
    assert refusals(bench) == [(f"log/{OVERFLOW}/{place}", "corrupt_record", len(bench.store.records[place]))]
    assert bench.stats.refused["corrupt_record"] == 1


def test_a_bridge_starts_beside_a_spoilt_record_and_finds_all_others() -> None:
    before = QuotaBench()
    before.run(clock(0), *(message(A, seq) for seq in range(1, BURST + 401)), clock(1))
    before.store.positions = {}
    spoil(before.store, 1)
    after = QuotaBench(store=before.store, last_ticks=dict.fromkeys(range(PARTITIONS), T0 + STEP_MS))
    for step in range(2, 400):
        after.run(clock(step))
    spoilt = set(range(1, BURST + 401)) - {*before.seqs(A), *after.seqs(A)}
    assert (len(spoilt), max(spoilt) - min(spoilt)) == (FACTOR, FACTOR - 1)
    assert [reason for _, reason, _ in refusals(after)] == ["corrupt_record"]


def test_a_record_of_the_overflow_that_the_log_has_deleted_is_not_waited_for() -> None:
    bench = QuotaBench()
    bench.run(clock(0), *(message(A, seq) for seq in range(1, BURST + 31)), clock(1))
    bench.store.records[:] = []
    for step in range(2, 60):
        bench.run(clock(step))
    assert (bench.stats.overflow_waiting, bench.stats.flooding, bench.stats.failed_attempts) == (0, 0, 0)


def test_a_flood_longer_than_the_index_keeps_its_order_and_loses_nothing() -> None:
    store = Store()
    overflow = Overflow(config("b"), store, BridgeStats())
    records = INDEXED + 300
    for seq in range(1, records + 1):
        for device_id in ("d", "e"):
            overflow.add(Message(device_id, "telemetry", 1, seq, T0, T0))
        values = [value for _, _, value in overflow.drain()]
        overflow.appended(range(len(store.records), len(store.records) + len(values)))
        store.records += values
    seen: list[int] = []
    while (found := overflow.next("d")) is not None:
        record = decode(found[0])
        assert isinstance(record, TelemetryRecord)
        seen += [each.seq for each in record]
    assert seen == list(range(1, records + 1))
    assert "d" not in overflow
    assert "e" in overflow


def test_a_flood_is_an_alert_of_its_own_that_ends_with_it() -> None:
    bench = QuotaBench()
    bench.run(clock(0), *(message(A, seq) for seq in range(1, BURST + 200)))
    for step in range(1, 200):
        bench.run(clock(step))
    partition = Partition(0, CATALOGUE)
    customer = DEVICES[A].customer_id
    partition.apply((Customer(customer_id=customer, name="h"), Site(site_id="s", customer_id=customer, name="s")))
    partition.apply((DEVICES[A],))
    states: list[tuple[str, str]] = []
    for topic, number, value in chain.from_iterable(bench.appends):
        if topic == TELEMETRY and number == 0:
            partition.apply(decode(value))
            alerts = [row for row in partition.effects.rows.values() if isinstance(row, AlertRow)]
            states += [(row.detector, row.state) for row in alerts]
            partition.effects.clear()
    assert list(dict.fromkeys(state for state in states if state[1] != "pending"))[:2] == [
        ("flood", "firing"),
        ("flood", "resolved"),
    ]
    assert partition.devices[f"mri-{A}"].sequencer.next_seq == BURST + 200


def test_a_flood_that_two_bridges_see_ends_when_the_second_one_says_so() -> None:
    partition = Partition(0, CATALOGUE)
    customer = DEVICES[0].customer_id
    partition.apply((Customer(customer_id=customer, name="h"), Site(site_id="s", customer_id=customer, name="s")))
    partition.apply((DEVICES[0],))
    seen = []
    for at, (source, active) in enumerate([("a", True), ("b", True), ("a", False), ("b", False)]):
        partition.apply(decode(encode_tick(Tick(source, T0 + at))))
        notice = Notice(
            what="flood", source=source, active=active, at_ms=T0 + at, since_ms=T0, device_id=DEVICES[0].device_id
        )
        partition.apply((notice,))
        alerts = [row for row in partition.effects.rows.values() if isinstance(row, AlertRow)]
        seen.append(alerts[-1].state)
    assert seen == ["firing", "firing", "firing", "resolved"]


def test_dropped_messages_of_the_broker_are_an_alert_of_no_device() -> None:
    partition = Partition(0, CATALOGUE)
    for at, active in enumerate((True, False)):
        notice = Notice(what="broker_drops", source="a", active=active, at_ms=T0 + at, since_ms=T0)
        partition.apply((notice,))
    (alert,) = (row for row in partition.effects.rows.values() if isinstance(row, AlertRow))
    assert (alert.detector, alert.device_id, alert.customer_id, alert.state) == ("broker_drops", "", "", "resolved")
