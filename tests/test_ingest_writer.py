"""The writer without a broker: order around clocks, ticks, and nothing acknowledged that is not in the log."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ingest.batch import Entry
from ingest.directory import DeviceDirectory
from ingest.insist import GaveUpError
from ingest.intake import Arrival
from ingest.overflow import Overflow
from ingest.settings import BridgeConfig, BridgeStats, Clock
from ingest.ticks import Ticks
from ingest.writer import Writer
from schema.catalogue import load_catalogue
from schema.messages import Refused
from schema.record import TelemetryRecord, Tick, decode
from schema.registry import Device
from schema.topics import CLOCK_CONFIRMED_TOPIC, CLOCK_TOPIC, TELEMETRY

CATALOGUE = load_catalogue()
T0 = 1_764_000_000_000
STEP_MS = 300_000
PARTITIONS = 2
DEVICES = tuple(
    Device(device_id=f"mri-{i}", model="mri", site_id="s", customer_id=f"hospital-{i}", installed_ms=0)
    for i in range(8)
)
DIRECTORY = DeviceDirectory(PARTITIONS, DEVICES)


@dataclass
class Bench:
    """A writer with lists around it."""

    clock: Clock = "simulated"
    last_ticks: dict[int, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    failures: int = 0
    now_ms: int = T0
    appends: list[list[Entry]] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    published: list[tuple[str, Any]] = field(default_factory=list)
    stats: BridgeStats = field(default_factory=BridgeStats)
    stop: threading.Event = field(default_factory=threading.Event)
    overflow: Overflow | None = None

    def __post_init__(self) -> None:
        config = BridgeConfig(
            mqtt_url="mqtt://nowhere", source="b", partitions=PARTITIONS, clock=self.clock, **self.settings
        )
        self.writer = Writer(
            config,
            catalogue=CATALOGUE,
            directory=DIRECTORY,
            append=self._append,
            ticks=Ticks("b", PARTITIONS, self.last_ticks),
            acknowledge=lambda arrivals: self.acknowledged.extend(arrival.packet_id for arrival in arrivals),
            publish=lambda topic, payload, _: self.published.append((topic, msgspec.json.decode(payload))),
            stats=self.stats,
            stop=self.stop,
            overflow=self.overflow,
            now_ms=lambda: self.now_ms,
        )
        self.writer.start()

    def _append(self, entries: Sequence[Entry]) -> list[int]:
        if self.failures:
            self.failures -= 1
            raise OSError("the disk is full")
        self.appends.append(list(entries))
        return [0] * len(entries)

    def run(self, *arrivals: Arrival) -> None:
        for arrival in arrivals:
            self.writer.take(arrival)
        self.writer.act(may_tick=True)

    def log(self, partition: int) -> list[str]:
        """What a partition holds, in order: `tick@1` (so many steps after T0), `mri-3/7@0` (number, receive time)."""
        words: list[str] = []
        for topic, number, value in chain.from_iterable(self.appends):
            if topic != TELEMETRY or number != partition:
                continue
            match decode(value):
                case Tick() as tick:
                    words.append(f"{tick.state}@{(tick.at_ms - T0) // STEP_MS}")
                case TelemetryRecord() as record:
                    words += [f"{m.device_id}/{m.seq}@{(m.receive_ms - T0) // STEP_MS}" for m in record]
        return words


def clock(step: int, packet_id: int = 0) -> Arrival:
    return Arrival(CLOCK_TOPIC, msgspec.json.encode({"at": T0 + step * STEP_MS}), packet_id=packet_id)


def telemetry(device: int, seq: int, packet_id: int = 0) -> Arrival:
    body = {
        "device": f"mri-{device}",
        "boot": T0 - STEP_MS,
        "seq": seq,
        "sent": T0,
        "series": {"exams": [[T0, seq]]},
    }
    return Arrival(f"wardwatch/v1/mri-{device}/telemetry", msgspec.json.encode(body), packet_id=packet_id)


A, B = (next(i for i in range(8) if DIRECTORY.find(f"mri-{i}", receive_ms=0).partition == p) for p in (0, 1))  # type: ignore[union-attr]
"""A device in partition 0 and one in partition 1."""


def test_a_clock_flushes_what_came_before_and_ticks_every_partition_in_one_append() -> None:
    bench = Bench()
    bench.run(clock(0, 1))
    bench.run(telemetry(A, 1, 2), telemetry(B, 1, 3), telemetry(A, 2, 4))
    assert bench.acknowledged == [1]
    bench.run(clock(1, 5))
    bench.run(telemetry(A, 3, 6))
    assert len(bench.appends) == 2
    assert bench.acknowledged == [1, 2, 3, 4, 5]
    assert bench.log(0) == ["joined@0", "tick@0", f"mri-{A}/1@0", f"mri-{A}/2@0", "tick@1"]
    assert bench.log(1) == ["joined@0", "tick@0", f"mri-{B}/1@0", "tick@1"]
    clocks = [told for topic, told in bench.published if topic == CLOCK_CONFIRMED_TOPIC]
    assert clocks == [{"at": T0, "source": "b"}, {"at": T0 + STEP_MS, "source": "b"}]


def test_clocks_that_wait_share_an_append_and_keep_their_order() -> None:
    bench = Bench()
    bench.run(clock(0), telemetry(A, 1), clock(1), telemetry(A, 2), clock(2))
    assert len(bench.appends) == 1
    assert bench.log(0) == ["joined@0", "tick@0", f"mri-{A}/1@0", "tick@1", f"mri-{A}/2@1", "tick@2"]


def test_what_comes_before_the_first_clock_waits_for_it_and_takes_its_time() -> None:
    bench = Bench()
    bench.run(telemetry(A, 1, 1))
    assert (bench.appends, bench.acknowledged) == ([], [])
    bench.run(clock(0, 2))
    assert bench.log(0) == ["joined@0", f"mri-{A}/1@0", "tick@0"]
    assert bench.acknowledged == [1, 2]


def test_that_nothing_more_is_taken_before_a_clock_is_one_line_for_all_that_came_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ingest.early.WAITING_AT_MOST", 3)
    bench = Bench()
    with capture_logs() as lines:
        bench.run(*(telemetry(A, seq, seq) for seq in range(1, 9)))
        bench.run()
        bench.run(telemetry(A, 9, 9))
    assert [line["messages"] for line in lines if line["log_level"] == "warning"] == [8, 9]


def test_when_much_waits_for_the_first_clock_one_heard_elsewhere_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.early.WAITING_AT_MOST", 3)
    bench = Bench()
    bench.run(telemetry(A, 1, 1), telemetry(A, 2, 2))
    bench.writer.hear_clock(clock(1).payload)
    bench.writer.hear_clock(clock(2).payload)
    bench.run()
    assert (bench.writer.stuck, bench.appends) == (False, [])
    bench.writer.take(telemetry(A, 3, 3))
    assert bench.writer.stuck
    bench.run()
    assert not bench.writer.stuck
    bench.run(telemetry(A, 4, 4), clock(0, 5), telemetry(A, 5, 6), clock(1, 7), clock(2, 8))
    assert bench.log(0) == ["joined@1", *(f"mri-{A}/{seq}@1" for seq in range(1, 6)), "tick@1", "tick@2"]
    assert bench.acknowledged == [*range(1, 9)]


def test_what_waits_for_the_first_clock_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(telemetry(A, 1).payload)
    monkeypatch.setattr("ingest.early.WAITING_BYTES", 2 * size)
    bench = Bench()
    bench.run(telemetry(A, 1))
    assert not bench.writer.stuck
    bench.run(telemetry(A, 2))
    assert bench.writer.stuck
    bench.writer.hear_clock(clock(0).payload)
    bench.run()
    assert not bench.writer.stuck


def test_after_a_restart_time_goes_on_where_the_log_ends() -> None:
    bench = Bench(last_ticks={0: T0 + STEP_MS, 1: T0 + STEP_MS})
    assert bench.log(0) == bench.log(1) == ["joined@1"]
    bench.run(telemetry(A, 1, 1), clock(1, 2))  # both sent again: written, but not acknowledged before the crash
    assert bench.log(0) == ["joined@1", f"mri-{A}/1@1"]
    assert bench.acknowledged == [1, 2]
    assert (CLOCK_CONFIRMED_TOPIC, {"at": T0 + STEP_MS, "source": "b"}) in bench.published
    bench.run(clock(2))
    bench.writer.leave()
    assert bench.log(0)[2:] == ["tick@2", "left@2"]


@given(st.lists(st.integers(0, 3), max_size=60), st.data())
def test_a_crash_and_what_the_broker_sends_again_lose_nothing_and_keep_the_order(
    kinds: list[int], data: st.DataObject
) -> None:
    arrivals = [clock(0)]
    for i, kind in enumerate(kinds, 1):
        arrivals.append(clock(i) if kind == 0 else telemetry((A, B, A)[kind - 1], i))
    arrivals.append(clock(len(arrivals)))
    whole = Bench()
    whole.run(*arrivals)

    cut = data.draw(st.integers(0, len(arrivals)))
    written = Bench()
    for arrival in arrivals[:cut]:
        written.run(arrival)
    unacknowledged = data.draw(st.integers(0, len(written.acknowledged)))  # written, the acknowledgement lost
    ends = {p: [w for w in written.log(p) if w.startswith("tick")] for p in range(PARTITIONS)}
    last = {p: T0 + int(ends[p][-1].partition("@")[2]) * STEP_MS for p in ends if ends[p]}
    again = Bench(last_ticks=last)
    for arrival in arrivals[unacknowledged:]:
        again.run(arrival)
    for p in range(PARTITIONS):
        both = [w for w in written.log(p) + again.log(p) if not w.startswith("joined")]
        first: dict[str, str] = {}
        for word in both:
            first.setdefault(word.partition("@")[0] if "/" in word else word, word)
        assert list(first.values()) == [w for w in whole.log(p) if not w.startswith("joined")]


def test_a_clock_that_says_nothing_is_refused() -> None:
    bench = Bench()
    bench.run(clock(0))
    bench.run(Arrival(CLOCK_TOPIC, b"noon"), Arrival(CLOCK_TOPIC, b'{"at": 12}'), clock(1))
    assert bench.stats.refused == {"invalid_payload": 1, "timestamp_implausible": 1}


def test_in_wall_clock_time_a_clock_on_the_wire_moves_nothing() -> None:
    bench = Bench("wall")
    bench.run(clock(50))
    assert bench.log(0) == ["joined@0", "tick@0"]
    assert bench.stats.refused == {"unsupported_topic": 1}


def test_nothing_is_acknowledged_before_the_append_has_returned() -> None:
    bench = Bench()
    bench.run(clock(0, 1))
    bench.failures = 2
    bench.run(telemetry(A, 1, 2), clock(1, 3))
    assert bench.acknowledged == [1, 2, 3]
    assert bench.stats.failed_attempts == 2
    assert bench.log(0) == ["joined@0", "tick@0", f"mri-{A}/1@0", "tick@1"]


def test_a_stop_gives_up_on_a_log_that_fails_and_acknowledges_nothing() -> None:
    bench = Bench()
    bench.run(clock(0, 1))
    bench.failures = 1_000_000
    bench.stop.set()
    with pytest.raises(GaveUpError, match="disk is full"):
        bench.run(telemetry(A, 1, 2), clock(1, 3))
    assert bench.acknowledged == [1]


def test_a_refusal_is_written_before_the_good_readings_of_its_message_and_before_any_tick() -> None:
    bench = Bench()
    bench.run(clock(0))
    plain = msgspec.json.decode(telemetry(A, 1).payload)
    plain["series"]["coffee"] = [[T0, 1]]
    bench.run(Arrival(f"wardwatch/v1/mri-{A}/telemetry", msgspec.json.encode(plain)), clock(1))
    first, second = ([decode(value) for _, _, value in entries] for entries in bench.appends[-2:])
    assert [type(record) for record in second] == [TelemetryRecord, Tick, Tick]
    (refused,) = (entry for record in first if isinstance(record, tuple) for entry in record)
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.received_ms) == ("unknown_metric", T0)


def test_devices_hear_what_is_written_not_more_often_than_set() -> None:
    bench = Bench(settings={"confirm_interval_ms": 2 * STEP_MS})
    bench.run(clock(0), telemetry(A, 1), telemetry(A, 2))
    topic = f"wardwatch/v1/mri-{A}/confirmed"
    assert [told for name, told in bench.published if name == topic] == [{"boot": T0 - STEP_MS, "from": 1, "seq": 2}]
    bench.run(telemetry(A, 3), clock(1))
    assert len([told for name, told in bench.published if name == topic]) == 1
    bench.run(clock(2))
    assert [told["seq"] for name, told in bench.published if name == topic] == [2, 3]


def test_the_wall_clock_ticks_each_second_and_never_back() -> None:
    bench = Bench("wall")
    for elapsed_ms in (0, 400, 999, 1000, 1500, -5000, 2500, 10_000):
        bench.now_ms = T0 + elapsed_ms
        bench.run()
    ticks = [decode(value) for _, partition, value in chain.from_iterable(bench.appends) if partition == 0]
    assert ticks == [
        Tick("b", T0, "joined"),
        *(Tick("b", T0 + elapsed_ms) for elapsed_ms in (0, 1000, 2500, 10_000)),
    ]


def test_the_wall_clock_does_not_tick_for_a_bridge_that_has_not_caught_up() -> None:
    bench = Bench("wall")
    bench.writer.act(may_tick=False)
    assert bench.log(0) == []
    bench.writer.act(may_tick=True)
    assert bench.log(0) == ["joined@0", "tick@0"]


def test_a_message_waits_for_company_only_so_long() -> None:
    bench = Bench("wall", settings={"flush_ms": 60_000})
    bench.run()
    bench.run(telemetry(A, 1, 1))
    assert bench.acknowledged == []
    assert 0 < bench.writer.patience_s() <= 60
    hasty = Bench("wall", settings={"flush_ms": 1})
    hasty.run()
    while not hasty.acknowledged:
        hasty.run(telemetry(A, 1, 1))
    assert hasty.stats.appends <= 4
