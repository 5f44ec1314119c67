"""Windows: the compiled kernel and its plain twin, order and lateness."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.pane_rows import (
    CLOSED_DTYPE,
    LATE,
    MINUTE_MS,
    NEVER,
    NO_COUNTER,
    RECOUNT,
    RESOLUTIONS_MS,
    counter_step,
    new_panes,
)
from streams.panes import fold

COUNTER, GAUGE = 0, 1
WRAP = np.array([0, NO_COUNTER], np.int64)
FAR = 1 << 60

Readings = list[tuple[int, int, int]]


class Device:
    """Folds messages with one of the twins and keeps what closes."""

    def __init__(self, kernel: Callable[..., Any] = fold, limit_ms: int = FAR) -> None:
        self.kernel, self.limit_ms = kernel, limit_ms
        self.panes, self.last = new_panes(2)
        self.watermark_ms = NEVER
        self.closed: list[dict[str, int]] = []

    def message(self, readings: Readings, boot: int = 1) -> None:
        """Fold one message of (time, slot, value)."""
        columns = np.array(sorted(readings), np.int64).reshape(-1, 3)
        out = np.zeros(3 * (len(columns) + 2), CLOSED_DTYPE)
        filled, self.watermark_ms = self.kernel(
            self.panes, self.last, WRAP, columns[:, 1].copy(), columns[:, 0].copy(), columns[:, 2].copy(),
            boot, self.watermark_ms, self.limit_ms, 0, out, 0,
        )  # fmt: skip
        self.closed += [dict(zip(out.dtype.names or (), row.item(), strict=True)) for row in out[:filled]]

    def buckets(self, column: str, slot: int = GAUGE) -> dict[tuple[int, int], int]:
        """Sum of a column by (resolution, bucket)."""
        sums: dict[tuple[int, int], int] = defaultdict(int)
        for row in self.closed:
            if row["slot"] == slot:
                sums[row["resolution"], row["start_ms"]] += row[column]
        return dict(sums)


twins = pytest.mark.parametrize("kernel", [fold, fold.py_func], ids=["compiled", "plain"])  # type: ignore[attr-defined]


def test_the_kernel_is_compiled() -> None:
    Device(fold).message([(0, 0, 1)])
    assert fold.signatures, "numba has not compiled `fold`"  # type: ignore[attr-defined]


@twins
def test_a_window_excludes_its_closing_instant(kernel: Callable[..., Any]) -> None:
    # 0:00        1:00        2:00
    # [-- 5 ------)[-- 7 -----)
    device = Device(kernel)
    device.message([(0, GAUGE, 5), (MINUTE_MS, GAUGE, 7), (2 * MINUTE_MS, GAUGE, 9)])
    assert device.buckets("sum") == {(0, 0): 5, (0, MINUTE_MS): 7}


@twins
def test_a_pane_closes_when_the_watermark_of_its_own_device_passes_its_end(kernel: Callable[..., Any]) -> None:
    device = Device(kernel)
    device.message([(10_000, GAUGE, 5), (59_999, COUNTER, 1)])
    assert device.closed == []
    device.message([(60_000, COUNTER, 2)])
    assert device.buckets("count") == {(0, 0): 1}


@twins
def test_a_late_reading_goes_out_as_a_partial_aggregate_of_its_bucket(kernel: Callable[..., Any]) -> None:
    device = Device(kernel)
    device.message([(5 * MINUTE_MS, GAUGE, 1)])
    device.message([(6 * MINUTE_MS, GAUGE, 1)])
    device.message([(0, GAUGE, 40)])
    late = [row for row in device.closed if row["flags"] & LATE]
    assert [(row["resolution"], row["start_ms"], row["sum"]) for row in late] == [(0, 0, 40)]


@twins
def test_a_device_whose_clock_runs_ahead_does_not_move_its_watermark_past_the_limit(kernel: Callable[..., Any]) -> None:
    device = Device(kernel, limit_ms=10 * MINUTE_MS)
    device.message([(30 * MINUTE_MS, GAUGE, 1)])
    assert device.watermark_ms == 10 * MINUTE_MS


@twins
def test_a_counter_reading_between_two_others_asks_for_a_recount(kernel: Callable[..., Any]) -> None:
    device = Device(kernel)
    device.message([(0, COUNTER, 10), (9 * MINUTE_MS, COUNTER, 19)])
    device.message([(5 * MINUTE_MS, COUNTER, 15)])
    assert [row["flags"] for row in device.closed if row["start_ms"] == 5 * MINUTE_MS] == [LATE | RECOUNT]
    device.message([(60 * MINUTE_MS, COUNTER, 20)])
    hour = [row for row in device.closed if row["resolution"] == 1]
    assert [(row["flags"], row["increase"]) for row in hour] == [(RECOUNT, 9)]


@pytest.mark.parametrize(
    ("before", "now", "wrap", "same_boot", "step"),
    [
        (5, 9, 0, True, 4),
        (9, 9, 0, True, 0),
        (100, 3, 0, True, 3),
        (65_530, 4, 65_536, True, 10),
        (30_000, 4, 65_536, True, 4),
        (65_100, 4, 65_536, False, 4),
    ],
    ids=["rises", "stands", "reset", "wraps", "reset far from the register's end", "reset by a boot near its end"],
)
def test_a_counter_that_falls_was_reset_or_has_wrapped(
    before: int, now: int, wrap: int, same_boot: bool, step: int
) -> None:
    assert counter_step(before, now, wrap, same_boot) == step


readings = st.lists(
    st.tuples(st.integers(0, 40 * 60), st.sampled_from([COUNTER, GAUGE]), st.integers(0, 1000)).map(
        lambda each: (each[0] * 1000, each[1], each[2])
    ),
    min_size=1,
    max_size=12,
)


@given(st.lists(readings, min_size=1, max_size=8))
def test_compiled_and_plain_agree(messages: list[Readings]) -> None:
    compiled, plain = Device(fold), Device(fold.py_func)  # type: ignore[attr-defined]
    for message in messages:
        compiled.message(message)
        plain.message(message)
    assert compiled.closed == plain.closed
    assert compiled.watermark_ms == plain.watermark_ms


@given(st.lists(readings, min_size=1, max_size=8).flatmap(lambda each: st.tuples(st.just(each), st.permutations(each))))
def test_any_order_of_messages_gives_the_same_sums(orders: tuple[list[Readings], list[Readings]]) -> None:
    results = []
    for order in orders:
        device = Device()
        for message in order:
            device.message(message)
        device.message([(10 * RESOLUTIONS_MS[2], GAUGE, 0)])
        device.message([(10 * RESOLUTIONS_MS[2], COUNTER, 0)])
        results.append([device.buckets(column) for column in ("sum", "count")])
    assert results[0] == results[1]


times = st.integers(0, 3 * RESOLUTIONS_MS[1])
of_two_slots = st.lists(st.tuples(times, st.sampled_from([COUNTER, GAUGE]), st.integers(0, 90)))


@given(of_two_slots.map(sorted), st.integers(0, 30))
def test_a_long_message_gives_the_panes_of_its_readings_one_by_one(readings: Readings, known: int) -> None:
    # Readings of one minute go to their panes as one, and minutes to their hour: that must not show.
    whole, single = Device(), Device()
    for device in (whole, single):
        device.message(readings[:known])
    rest = [each for i, each in enumerate(readings) if i >= known and each[:2] not in {one[:2] for one in readings[:i]}]
    whole.message(rest)
    for reading in rest:
        single.message([reading])
    assert sorted(map(str, whole.closed)) == sorted(map(str, single.closed))
    is_open = whole.panes["count"] > 0
    assert (whole.panes[is_open] == single.panes[single.panes["count"] > 0]).all()
    assert (whole.last == single.last).all()


@st.composite
def rows_of_both(draw: st.DrawFn) -> Readings:
    """Both metrics at each instant, as devices send them; a few readings are missing."""
    start, step = draw(times), draw(st.sampled_from([7_000, 10_000, 61_000, 20 * MINUTE_MS]))
    count = draw(st.integers(2, 40))
    missing = draw(st.sets(st.integers(0, 2 * count - 1), max_size=2))
    found = [(start + i * step, slot, draw(st.integers(0, 90))) for i in range(count) for slot in (COUNTER, GAUGE)]
    return [each for i, each in enumerate(found) if i not in missing]


@given(st.lists(rows_of_both(), min_size=1, max_size=3))
def test_rows_of_readings_give_the_panes_of_their_readings_one_by_one(messages: list[Readings]) -> None:
    whole, single = Device(), Device()
    for message in messages:
        whole.message(message)
        for reading in sorted(message):
            single.message([reading])
    assert sorted(map(str, whole.closed)) == sorted(map(str, single.closed))
    assert (whole.last == single.last).all()
