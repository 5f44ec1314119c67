"""A partition's promises: cuts, interleaving and restarts do not show, in state, scores or effects."""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from detectors.announcement import FleetAnnouncements
from schema.catalogue import Metric, load_catalogue
from schema.messages import Fault, Message, Reading
from schema.record import Tick, decode, encode_registry, encode_telemetry, encode_tick
from schema.registry import Customer, Device, Site
from schema.rows import AlertRow
from simulator.offline import messages
from simulator.scenario import CLOCK_MS, Scenario
from streams import snapshot
from streams.effects import Effects
from streams.pane_rows import HOUR_MS, NEVER
from streams.partition import Partition

CATALOGUE = load_catalogue()
SCENARIO = Scenario(11, devices=8, customers=2, days=4)

Interval = tuple[int, tuple[Message, ...]]


@cache
def intervals() -> tuple[Interval, ...]:
    """What the fleet sends between two ticks, with the tick's time."""
    return tuple(
        (receive_ms + CLOCK_MS, tuple(group))
        for receive_ms, group in groupby(messages(SCENARIO), lambda m: m.receive_ms)
    )


@cache
def registry() -> bytes:
    """The fleet, as one record."""
    known = SCENARIO.registry
    entries = (*known.technicians, *known.parts, *known.calendars, *known.customers, *known.sites, *known.devices)
    return encode_registry(entries, source="test", receive_ms=0)


def records(order: Iterator[Interval], sizes: Iterator[int]) -> Iterator[bytes]:
    """The log of one partition, its messages cut into records of these sizes."""
    yield registry()
    yield encode_tick(Tick("bridge", SCENARIO.start_ms, "joined"))
    for tick_ms, sent in order:
        rest = list(sent)
        while rest:
            size = next(sizes)
            yield encode_telemetry(rest[:size], source="bridge", receive_ms=rest[0].receive_ms)
            rest = rest[size:]
        yield encode_tick(Tick("bridge", tick_ms))


class Database:
    """Keeps effects as tables would, and the newest cut."""

    def __init__(self) -> None:
        self.readings: Counter[Any] = Counter()
        self.closed: Counter[Any] = Counter()
        self.faults: Counter[Any] = Counter()
        self.rows: dict[Any, Any] = {}
        self.cut: dict[str, bytes] = {}

    def write(self, partition: Partition) -> None:
        effects: Effects = partition.effects
        names = {number: device_id for device_id, number in partition._numbers.items()}
        for raw in effects.readings:
            columns = zip(raw.slots.tolist(), raw.ts_ms.tolist(), raw.n.tolist(), strict=True)
            self.readings.update((names[raw.device], raw.boot, *row) for row in columns)
        for row in effects.closed[: effects.filled].tolist():
            self.closed[names[row[0]], *row[1:]] += 1
        self.faults.update(
            (device, msgspec.structs.astuple(fault), boot, seq) for device, fault, boot, seq in effects.faults
        )
        self.rows.update({key: msgspec.to_builtins(row) for key, row in effects.rows.items()})
        effects.clear()

    def content(self) -> list[Any]:
        return [self.readings, self.closed, self.faults, self.rows]


def run(log: Iterator[bytes]) -> tuple[Database, Any]:
    """Process a log without interruption; return what is stored and the state."""
    database, partition = Database(), Partition(0, CATALOGUE)
    for value in log:
        partition.apply(decode(value))
        database.write(partition)
    return database, partition.dump()


@cache
def undisturbed() -> tuple[Database, Any]:
    """One record an interval, in the order of sending."""
    return run(records(iter(intervals()), iter(lambda: 10_000, 0)))


def test_the_scenario_leads_to_alerts_and_orders() -> None:
    tables = {key[0] for key in undisturbed()[0].rows}
    assert {"alerts", "alert_events", "work_orders", "customer_health", "outbox"} <= tables


slow = settings(
    max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
# Shrinking would run for minutes and cannot make an interleaving of hundreds of messages readable.


@slow
@given(st.data())
def test_the_cut_of_records_and_the_order_between_two_ticks_do_not_show(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=20))
    shuffle = data.draw(st.randoms(use_true_random=False))

    def shuffled() -> Iterator[Interval]:
        for tick_ms, sent in intervals():
            order = list(sent)
            shuffle.shuffle(order)
            yield tick_ms, tuple(order)

    def cycle() -> Iterator[int]:
        while True:
            yield from sizes

    database, state = run(records(shuffled(), cycle()))
    assert database.content() == undisturbed()[0].content()
    assert state == undisturbed()[1]


@slow
@given(st.data())
def test_a_worker_that_stops_after_any_transaction_goes_on_as_if_nothing_had_happened(data: st.DataObject) -> None:
    log = list(records(iter(intervals()), iter(lambda: 10_000, 0)))
    stops = data.draw(st.lists(st.integers(1, len(log) - 1), min_size=1, max_size=3, unique=True).map(sorted))
    every = data.draw(st.integers(3, 200))
    database, partition, cut_at = Database(), Partition(0, CATALOGUE), 0
    offset = 0
    while offset < len(log):
        partition.apply(decode(log[offset]))
        database.write(partition)
        offset += 1
        if offset % every == 0:
            database.cut |= snapshot.dump(partition)
            partition.changed.clear()
            cut_at = offset
        if stops and offset == stops[0]:
            stops.pop(0)
            partition = snapshot.load(0, CATALOGUE, database.cut)
            for value in log[cut_at:offset]:
                partition.apply(decode(value))
                partition.effects.clear()
    assert database.content() == undisturbed()[0].content()
    assert partition.dump() == undisturbed()[1]


def test_a_message_sent_twice_counts_once() -> None:
    twice = ((tick_ms, sent + sent[:3]) for tick_ms, sent in intervals())
    database, state = run(records(twice, iter(lambda: 10_000, 0)))
    assert database.content() == undisturbed()[0].content()
    assert state == undisturbed()[1]


def test_time_is_the_minimum_over_live_sources_and_never_goes_back() -> None:
    partition = Partition(0, CATALOGUE)
    seen = []
    for tick in (
        Tick("a", 1_000, "joined"),
        Tick("b", 2_000, "joined"),
        Tick("b", 9_000),
        Tick("a", 5_000),
        Tick("a", 4_000),
        Tick("a", 6_000, "left"),
        Tick("b", 9_500),
    ):
        partition.apply(tick)
        seen.append(partition.shared.now_ms)
    assert seen == [0, 0, 1_000, 5_000, 5_000, 9_000, 9_500]


def test_messages_of_a_bridge_that_is_ahead_follow_the_tick_that_they_followed_there() -> None:
    partition, hour = one_device(), HOUR_MS
    for at_ms in (hour, 2 * hour, 3 * hour):
        partition.apply(Tick("fast", at_ms))
    ahead = telemetry("d", 1, 1, 3 * hour)
    partition.apply(decode(encode_telemetry([ahead], source="fast", receive_ms=3 * hour)))
    partition.apply(Tick("bridge", 2 * hour))
    assert partition.shared.waiting == set()
    partition.apply(Tick("bridge", 3 * hour))
    assert partition.shared.waiting == {"d"}


def test_in_real_time_nothing_waits_for_a_bridge_that_is_seconds_behind() -> None:
    partition, hour = one_device(), HOUR_MS
    partition.apply(Tick("fast", hour + 5_000))
    ahead = telemetry("d", 1, 1, hour + 5_000, Fault(hour + 5_000, "XR-900", "critical", "tube", ""))
    partition.apply(decode(encode_telemetry([ahead], source="fast", receive_ms=hour + 5_000)))
    partition.apply(decode(encode_telemetry([ahead], source="fast", receive_ms=hour + 5_000)))
    assert partition.shared.ahead == []
    assert partition.shared.waiting == {"d"}


@pytest.mark.parametrize("unknown", ["ghost-1"])
def test_a_message_of_a_device_that_the_partition_does_not_know_is_counted(unknown: str) -> None:
    partition = Partition(0, CATALOGUE)
    message = Message(unknown, "telemetry", 1, 1, 0, 0)
    partition.apply(decode(encode_telemetry([message], source="s", receive_ms=0)))
    assert partition.shared.counts == {"unknown_device": 1}


def telemetry(device_id: str, boot: int, seq: int, receive_ms: int, *faults: Fault) -> Message:
    reading = Reading(receive_ms, "scans", seq)
    return Message(device_id, "telemetry", boot, seq, receive_ms, receive_ms, (reading,), faults)


def one_device(model: str = "ct") -> Partition:
    partition = Partition(0, CATALOGUE)
    partition.apply(
        (
            Customer(customer_id="c", name="c"),
            Site(site_id="s", customer_id="c", name="s"),
            Device(device_id="d", model=model, site_id="s", customer_id="c", installed_ms=0),
        )
    )
    partition.apply(Tick("bridge", HOUR_MS))
    return partition


def send(partition: Partition, *messages: Message) -> None:
    """Messages, and the tick behind them."""
    partition.apply(decode(encode_telemetry(messages, source="bridge", receive_ms=messages[-1].receive_ms)))
    partition.apply(Tick("bridge", messages[-1].receive_ms + CLOCK_MS))


def test_a_hard_failure_that_is_told_after_the_next_boot_does_not_blind_the_device() -> None:
    partition, hour = one_device(), HOUR_MS
    send(partition, telemetry("d", 1, 1, hour))
    send(partition, telemetry("d", 9 * hour, 1, 9 * hour))
    failure = Fault(2 * hour, "XR-900", "critical", "tube", "")
    send(partition, telemetry("d", 1, 2, 10 * hour, failure))
    assert partition.devices["d"].down_since_ms is None
    assert partition.devices["d"].was_down(2 * hour, 3 * hour)


def test_a_will_begins_no_boot() -> None:
    partition, hour = one_device(), HOUR_MS
    send(partition, telemetry("d", 1, 1, hour, Fault(hour, "XR-900", "critical", "tube", "")))
    send(partition, Message("d", "will", 5 * hour, 0, 5 * hour, 5 * hour))
    assert partition.devices["d"].down_since_ms == hour
    send(partition, telemetry("d", 5 * hour, 1, 6 * hour))
    assert partition.devices["d"].down_since_ms is None


def test_a_device_that_becomes_another_model_begins_a_new_life() -> None:
    partition = one_device()
    send(partition, telemetry("d", 1, 1, HOUR_MS))
    partition.apply((Device(device_id="d", model="mri", site_id="s", customer_id="c", installed_ms=0),))
    for hour in range(2, 8):
        partition.apply(Tick("bridge", hour * HOUR_MS))
    assert len(partition.devices["d"].last) == len(CATALOGUE["mri"].metrics)


def test_a_device_that_becomes_another_model_leaves_its_alerts_behind() -> None:
    partition = one_device()
    send(partition, telemetry("d", 1, 1, HOUR_MS, Fault(HOUR_MS, "XR-900", "critical", "tube", "")))
    partition.effects.clear()
    partition.apply((Device(device_id="d", model="mri", site_id="s", customer_id="c", installed_ms=0),))
    alerts = [row for row in partition.effects.rows.values() if isinstance(row, AlertRow)]
    assert {(row.detector, row.state) for row in alerts} == {("fault_rule", "resolved")}
    assert not partition.shared.desk._alerts.is_failed("d")


def test_nothing_is_kept_of_a_device_that_has_left() -> None:
    partition = one_device()
    assert "'d'" in repr(partition.dump())
    send(partition, telemetry("d", 1, 1, HOUR_MS, Fault(HOUR_MS, "XR-101", "warning", "tube", "")))
    partition.shared.fleet.of(FleetAnnouncements, "").observe(("d", "tube"), HOUR_MS, 5.0)
    partition.shared.floods["d"] = frozenset({"bridge"})
    partition.apply((Device(device_id="d", model="ct", site_id="s", customer_id="elsewhere", installed_ms=0),))
    assert "'d'" not in repr(partition.dump())


def test_a_cut_goes_on_under_another_catalogue_with_the_slots_by_name() -> None:
    partition = one_device()
    send(partition, telemetry("d", 1, 1, HOUR_MS))
    metrics = CATALOGUE["ct"].metrics
    added = {"humidity_pct": Metric(kind="gauge", unit="%", min=0, max=100)} | metrics
    loaded = snapshot.load(0, CATALOGUE | {"ct": replace(CATALOGUE["ct"], metrics=added)}, snapshot.dump(partition))
    before, after = partition.devices["d"], loaded.devices["d"]
    assert after.last[1:].tolist() == before.last.tolist()
    assert after.panes[1:].tolist() == before.panes.tolist()
    assert after.last[0]["ts_ms"] == NEVER
