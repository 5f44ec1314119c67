"""Late and out of order, through the real database: however a device's messages come, the tables say the same.

A history is what one device sent: boots, counters that wrap and are reset, gauges, numbers missing. It is delivered in
any order, at any lateness, some messages more than once, with ticks in between; then the rollups of all three
resolutions are compared with what the readings say when they are looked at in order, by arithmetic of this file's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schema.catalogue import Catalogue, parse_model
from schema.messages import Fault, Message, Reading
from schema.migrate import migrate
from schema.record import Tick, decode, encode_registry, encode_telemetry, encode_tick
from schema.registry import Customer, Device, Site
from streams import snapshot
from streams.owner import TelemetryOwner
from streams.partition import Partition
from streams.processor import LogRecord
from streams.sequence import BOOTS_KEPT

WRAP = 1000
CATALOGUE: Catalogue = {
    "pump": parse_model(
        "pump.toml",
        f"""
        model = "pump"
        name = "Pump"
        name_zh = "泵"
        skill = "pump"
        service_interval_days = 180
        message_interval_s = 600
        [metrics.doses]
        kind = "counter"
        unit = "{{dose}}"
        min = 0
        max = {WRAP}
        wrap = {WRAP}
        usage = true
        [metrics.motor]
        kind = "gauge"
        unit = "Cel"
        min = -50
        max = 150
        resolution = 0.1
        [faults]
        [parts]
        """,
    )
}
START_MS = 1_767_571_200_000
SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1_000, 60_000, 3_600_000, 86_400_000
ROLLUPS = {"rollup_1m": MINUTE_MS, "rollup_1h": HOUR_MS, "rollup_1d": DAY_MS}
END_MS = START_MS + 4 * DAY_MS

Row = tuple[str, int, int, float, float, float, float | None]
"""Metric, bucket, count, sum, minimum, maximum, increase."""


def of_device(device_id: str, boot: int, seq: int, at_ms: int, *readings: Reading) -> Message:
    return Message(device_id, "telemetry", boot, seq, at_ms, at_ms, readings)


@st.composite
def histories(draw: st.DrawFn) -> list[Message]:
    """What one device sends in up to two days, in its own order; a boot may find the clock set back by minutes."""
    at_ms, dose, messages = START_MS, draw(st.integers(0, WRAP - 1)), []
    for _ in range(draw(st.integers(1, 3))):
        boot = at_ms
        if draw(st.booleans()):
            dose = 0
        for seq in range(1, draw(st.integers(2, 7))):
            readings = []
            for _ in range(draw(st.integers(1, 4))):
                at_ms += draw(st.sampled_from([1, 20, 61, 600, 3_700, 20_000])) * SECOND_MS
                dose = (dose + draw(st.sampled_from([0, 1, 7, 60]))) % WRAP
                readings += [Reading(at_ms, "doses", dose), Reading(at_ms, "motor", draw(st.integers(-500, 1500)))]
            messages.append(of_device("p", boot, seq, at_ms, *readings))
        at_ms = max(boot + SECOND_MS, at_ms + draw(st.sampled_from([1, 7_000, -90, -500])) * SECOND_MS)
    return messages


@st.composite
def deliveries(draw: st.DrawFn, history: Sequence[Message]) -> list[list[Message]]:
    """The messages in any order and cut, some twice; a tick is behind each group."""
    sent = draw(st.permutations([*history, *draw(st.lists(st.sampled_from(history), max_size=3))]))
    cuts = sorted(draw(st.sets(st.integers(1, len(sent)), max_size=5)) | {0, len(sent)})
    return [list(sent[first:stop]) for first, stop in pairwise(cuts)]


def step(before: Reading, after: Reading, same_boot: bool) -> int:
    if after.n >= before.n:
        return after.n - before.n
    wraps = same_boot and before.n > 0.9 * WRAP and after.n < 0.1 * WRAP
    return after.n + WRAP - before.n if wraps else after.n


def told(history: Sequence[Message], length_ms: int) -> list[Row]:
    """Rollups of what was read, by (boot, time)."""
    rows = []
    for metric, steps in (("doses", 1), ("motor", 10)):
        read = [(m.boot, each) for m in sorted(history, key=lambda m: (m.boot, m.seq)) for each in m.readings]
        series = [(boot, each) for boot, each in read if each.metric == metric]
        buckets: dict[int, list[int]] = defaultdict(list)
        increase: dict[int, int] = defaultdict(int)
        for _, each in series:
            buckets[each.ts_ms // length_ms * length_ms].append(each.n)
        for (boot, before), (next_boot, after) in pairwise(series):
            increase[after.ts_ms // length_ms * length_ms] += step(before, after, boot == next_boot)
        rows += [
            (metric, at, len(n), sum(n) / steps, min(n) / steps, max(n) / steps, increase[at] if steps == 1 else None)
            for at, n in buckets.items()
        ]
    return sorted(rows)


@dataclass
class Engine:
    """The owner of a partition, and a new device for each example."""

    url: str
    owner: TelemetryOwner
    offset: int = 0
    devices: int = 0
    now_ms: int = START_MS

    async def take(self, *values: bytes) -> None:
        records = [LogRecord(self.offset + i, value) for i, value in enumerate(values)]
        self.offset += len(values)
        await self.owner.process(0, records)

    async def new_device(self) -> str:
        self.devices += 1
        device = Device(device_id=f"p{self.devices}", model="pump", site_id="s", customer_id="c", installed_ms=0)
        await self.take(encode_registry([device], source="test", receive_ms=0))
        return device.device_id

    async def deliver(self, device_id: str, groups: Sequence[Sequence[Message]]) -> None:
        for group in groups:
            messages = [replace(m, device_id=device_id, receive_ms=self.now_ms) for m in group]
            await self.take(encode_telemetry(messages, source="test", receive_ms=self.now_ms), self.tick())
        end = of_device(device_id, END_MS, 1, END_MS, Reading(END_MS, "doses", 0), Reading(END_MS, "motor", 0))
        await self.take(encode_telemetry([end], source="test", receive_ms=self.now_ms), self.tick())

    def tick(self) -> bytes:
        self.now_ms += SECOND_MS
        return encode_tick(Tick("test", self.now_ms))

    def rollups(self, device_id: str, table: str) -> list[Row]:
        with psycopg.connect(self.url) as connection:
            return sorted(
                connection.execute(
                    "SELECT metric, (extract(epoch FROM bucket) * 1000)::bigint, count, sum, min, max, increase"
                    f" FROM {table} WHERE device_id = %s AND bucket < %s".encode(),
                    (device_id, datetime.fromtimestamp(END_MS / 1000, UTC)),
                )
            )

    @property
    def counts(self) -> dict[str, int]:
        return self.owner._owned[0].partition.shared.counts


@pytest.fixture
async def engine(database: str) -> AsyncIterator[Engine]:
    migrate(database, CATALOGUE)
    owner = TelemetryOwner(database, CATALOGUE, version="test", snapshot_every_s=1e9)
    await owner.take_over(0, None)
    started = Engine(database, owner, now_ms=END_MS)
    known = (Customer(customer_id="c", name="c"), Site(site_id="s", customer_id="c", name="s"))
    ticks = encode_tick(Tick("test", END_MS, "joined")), encode_tick(Tick("test", END_MS))
    await started.take(encode_registry(known, source="test", receive_ms=0), *ticks)
    try:
        yield started
    finally:
        await owner.give_up(0, orderly=False)


real = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


async def test_any_order_and_any_lateness_gives_the_same_rollups(engine: Engine) -> None:
    examples = []

    @real
    @given(st.data())
    def collect(data: st.DataObject) -> None:
        history = data.draw(histories())
        examples.append((history, data.draw(deliveries(history))))

    collect()
    revised = 0
    for history, groups in examples:
        device_id = await engine.new_device()
        await engine.deliver(device_id, groups)
        for table, length_ms in ROLLUPS.items():
            assert engine.rollups(device_id, table) == told(history, length_ms), (table, groups)
    with psycopg.connect(engine.url) as connection:
        row = connection.execute("SELECT sum(revisions) FROM rollup_1d").fetchone()
        revised = row[0] if row is not None else 0
    assert 0 < revised <= engine.counts["revision"]
    assert engine.counts["late_reading"] > 0


def partition() -> Partition:
    """A partition with the device `p`, its time at END_MS."""
    known = Partition(0, CATALOGUE)
    customer, site = Customer(customer_id="c", name="c"), Site(site_id="s", customer_id="c", name="s")
    known.apply((customer, site, Device(device_id="p", model="pump", site_id="s", customer_id="c", installed_ms=0)))
    known.apply(Tick("test", END_MS, "joined"))
    known.apply(Tick("test", END_MS))
    return known


def send(known: Partition, *messages: Message) -> list[int]:
    """Messages and the tick behind them; the values that were taken in."""
    known.effects.clear()
    known.apply(decode(encode_telemetry(messages, source="test", receive_ms=END_MS)))
    known.apply(Tick("test", known.shared.now_ms + SECOND_MS))
    return [n for raw in known.effects.readings for n in raw.n.tolist()]


def motor(boot: int, seq: int, value: int, at_ms: int = START_MS) -> Message:
    at_ms += seq * MINUTE_MS
    return of_device("p", boot, seq, at_ms, Reading(at_ms, "motor", value))


def test_a_device_that_begins_again_under_the_same_boot_loses_nothing() -> None:
    known = partition()
    first = [motor(1, seq, seq) for seq in range(1, 6)]
    again = [motor(1, seq, 100 + seq, START_MS - 7 * SECOND_MS) for seq in range(1, 8)]
    assert send(known, *first) == [1, 2, 3, 4, 5]
    assert send(known, *again[:2]) == [101, 102]
    assert send(known, *again[2:]) == [103, 104, 105, 106, 107]
    assert send(known, first[0], again[0], *again[4:]) == []
    assert known.shared.counts["boot_reused"] == 1
    assert known.effects.repeated == 5


def test_a_message_that_comes_again_with_more_readings_is_the_same_message() -> None:
    known = partition()
    at_ms = START_MS + MINUTE_MS
    whole = of_device("p", 1, 1, at_ms, Reading(at_ms, "motor", 5), Reading(at_ms + 1, "motor", 6))
    assert send(known, replace(whole, readings=whole.readings[:1])) == [5]
    assert send(known, whole) == []


def test_what_is_given_up_forgotten_and_ahead_is_counted() -> None:
    known = partition()
    send(known, motor(1, 1, 1), motor(1, 2, 2))
    send(known, motor(1, 5, 5))
    assert known.shared.counts == {"gap": 2}
    send(known, motor(1, 3, 3), replace(motor(1, 6, 6, END_MS + 20 * MINUTE_MS), receive_ms=END_MS))
    assert known.shared.counts == {"gap": 2, "late_reading": 1, "revision": 3, "clamped_ahead": 1}
    for boot in range(2, BOOTS_KEPT + 2):
        send(known, motor(boot, 1, 1, END_MS))
    assert known.shared.counts["boot_forgotten"] == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_gap_that_is_filled_before_the_tick_is_none(order: tuple[int, ...]) -> None:
    known = partition()
    send(known, motor(1, 1, 1))
    messages = [motor(1, seq, seq) for seq in (2, 3, 4)]
    assert send(known, *(messages[i] for i in order)) == [2, 3, 4]
    assert known.shared.counts == {}


def test_what_waits_while_time_stands_still_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.partition.HELD_READINGS", 50)
    known = partition()
    for seq in range(3, 203):  # the second is missing
        known.apply(decode(encode_telemetry([motor(1, seq, seq)], source="test", receive_ms=END_MS)))
        assert len(known.devices["p"].held) <= 51
    assert known.shared.counts["relieved"] >= 1


def test_a_device_that_goes_to_a_customer_elsewhere_is_forgotten_here() -> None:
    known = partition()
    send(known, motor(1, 1, 1, END_MS))
    critical = Fault(END_MS, "X-1", "critical", "drive", "")
    send(known, replace(motor(1, 2, 2, END_MS), faults=(critical,)))
    known.changed.clear()
    known.apply((Device(device_id="p", model="pump", site_id="far", customer_id="other", installed_ms=0),))
    ended = [row.state for row in known.effects.rows.values() if row.TABLE == "alerts"]
    assert ended == ["resolved"]
    assert not [row for row in known.effects.rows.values() if row.TABLE == "devices"]
    assert snapshot.dump(known)["device:p"] == snapshot.GONE
    known.effects.clear()
    known.apply(Tick("test", known.shared.now_ms + 30 * DAY_MS))
    assert not [row for row in known.effects.rows.values() if row.TABLE == "alerts"]
    assert send(known, motor(1, 3, 3)) == []
