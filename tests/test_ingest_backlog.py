"""How many bytes wait for the workers, as the bridge counts them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.backlog import MARK_BYTES, MARKS_KEPT, Backlog
from ingest.pressure import Pressure
from schema.topics import REFUSED, TELEMETRY

TICK, RECORD = b"t" * 101, b"r" * 48_000
RECORDS_S = 75
"""150,000 readings a second."""


class OneBridge:
    """A log of one partition in which other bridges may write too; it keeps the sizes only."""

    def __init__(self, record_bytes: float = 0.0) -> None:
        self.sizes: list[int] = []
        self.progress = 0
        self.backlog = Backlog(lambda: {0: range(self.progress, len(self.sizes))}, record_bytes)

    def append(self, *values: bytes) -> None:
        offsets = range(len(self.sizes), len(self.sizes) + len(values))
        self.sizes += map(len, values)
        self.backlog.appended([(TELEMETRY, 0, value) for value in values], offsets)

    @property
    def waiting(self) -> int:
        return sum(self.sizes[self.progress :])


def test_a_bridge_that_was_quiet_for_a_week_is_paused_as_soon_as_one_that_has_just_started() -> None:
    bridge = OneBridge()
    for _ in range(7 * 86_400):
        bridge.append(TICK)
    bridge.progress = len(bridge.sizes)
    pressure = Pressure(bridge.backlog.look, 256 << 20)
    while not pressure.high:
        bridge.append(TICK, *[RECORD] * RECORDS_S)
        pressure.look()
        assert pressure.lag_bytes == pytest.approx(bridge.waiting, abs=2 * MARK_BYTES)
    assert bridge.waiting < (256 << 20) + 4 * MARK_BYTES


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(1, 60_000)), min_size=1, max_size=40),
    st.floats(0, 1),
)
def test_the_backlog_is_known_to_a_mark_wherever_the_workers_are(runs: list[tuple[int, int]], share: float) -> None:
    bridge = OneBridge()
    for count, size in runs:
        bridge.append(*[b"x" * size] * count)
    bridge.progress = round(share * len(bridge.sizes))
    assert bridge.backlog.look() == pytest.approx(bridge.waiting, abs=MARK_BYTES + 60_000)
    assert bridge.backlog.look() == pytest.approx(bridge.waiting, abs=MARK_BYTES + 60_000)
    bridge.progress = len(bridge.sizes)
    assert bridge.backlog.look() == 0


def test_records_of_other_bridges_count_as_ours_beside_them() -> None:
    bridge = OneBridge(record_bytes=500.0)
    bridge.sizes += [500] * 10
    for size in (100, 40_000):
        for _ in range(300):
            bridge.append(b"x" * size)
            bridge.sizes += [size] * 2
    assert bridge.backlog.look() == pytest.approx(bridge.waiting, abs=3 * MARK_BYTES)
    bridge.progress = 910
    assert bridge.backlog.look() == pytest.approx(900 * 40_000, abs=3 * MARK_BYTES)


def test_marks_stay_few_however_much_waits_and_other_topics_do_not_count() -> None:
    bridge = OneBridge()
    values = [b"x" * MARK_BYTES]
    for _ in range(3 * MARKS_KEPT):
        bridge.append(*values)
    bridge.backlog.appended([(REFUSED, 0, values[0])], [0])
    assert len(bridge.backlog._written[0].marks) <= MARKS_KEPT
    assert bridge.backlog.look() == bridge.waiting
