"""What another version has contributed, or a broken row, stops nobody and teaches nothing wrong."""

import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from fleet_help import BEGUN_MS, CATALOGUE, Sums, sums  # noqa: F401  # a fixture

from detectors.alert_threshold import Threshold
from detectors.announcement import GRID, FleetAnnouncements
from detectors.budget import AlertBudget
from detectors.fault_patterns import CodeRates
from detectors.risk_experts import EXPERTS
from detectors.risk_learned import LearnedRisk
from detectors.risk_signs import Labelled, Signs
from detectors.usage_fleet import UsageFleet
from schema.record import Tick
from streams import fleet
from streams.canonical import canonical
from streams.fleet import Contribution, Fleet, FleetModel, Given
from streams.pane_rows import DAY_MS, HOUR_MS
from streams.partition import Partition

pytestmark = pytest.mark.usefixtures("sums")

GOOD = msgspec.msgpack.encode([(100, "ct-9", 1.0)])


def row(*parts: tuple[str, str, bytes], form: bytes = fleet.FORMAT) -> bytes:
    """A row as a version writes it that knows other kinds."""
    return form + zlib.compress(msgspec.msgpack.encode(parts))


def taken(packed: bytes) -> tuple[list[tuple[int, str]], int]:
    """What a partition learns of the row of another one, and how often it refuses."""
    refused: list[None] = []
    mine = Fleet()
    mine.close(0, 99, None)
    mine.of(Sums, "ct").gather(100, "ct-1", 1.0)
    mine.close(0, 100, Given((), {1: 99}))
    mine.close(0, 101, Given((Contribution(100, 1, packed),), {1: 100}), lambda: refused.append(None))
    return mine.of(Sums, "ct").learnt, len(refused)


def test_a_row_of_this_version_is_learnt() -> None:
    assert taken(row(("Sums/1", "ct", GOOD))) == ([(100, "ct-1"), (100, "ct-9")], 0)


@pytest.mark.parametrize(
    "packed",
    [
        row(("Sums/2", "ct", GOOD)),
        row(("Sums", "ct", GOOD)),
        row(("Sums/1", "ct", b"\xc1")),
        row(("Sums/1", "ct", GOOD), form=b"\x02"),
        row(("Sums/1", "ct", GOOD), form=b""),
        row(("Sums/1", "ct", GOOD))[:-9],
        fleet.FORMAT + zlib.compress(b"[]"),
        b"\x00",
    ],
    ids=["newer", "older", "garbled", "format", "no format", "cut off", "other parts", "nothing"],
)
def test_a_row_that_cannot_be_read_was_not_said(packed: bytes) -> None:
    assert taken(packed) == ([(100, "ct-1")], 1)


def test_what_a_newer_version_says_besides_is_learnt() -> None:
    assert taken(row(("Dreams/1", "ct", b"?"), ("Sums/1", "ct", GOOD))) == ([(100, "ct-1"), (100, "ct-9")], 1)


def test_a_partition_counts_the_rows_that_it_refuses() -> None:
    partition = Partition(0, CATALOGUE)
    for day in range(4):
        given = Given((Contribution(19_999 + day - 1, 1, b"\x00"),), {1: 19_999 + day - 1}) if day else None
        partition.apply(Tick("bridge", BEGUN_MS + day * DAY_MS + 3 * HOUR_MS), given)
    assert partition.shared.counts == {"fleet_refused": 3}


def a_judgement(odds: int = 1 + len(EXPERTS), values: int = 1) -> Labelled:
    signs = Signs(("codes_1d",), np.zeros(values, np.float32).tobytes(), b"")
    return Labelled(100, "ct-1", "tube", "ct", signs, (0.0,) * odds, 1.0, True)


def numbers(levels: int = Threshold.LEVELS) -> list[int]:
    return [1] * (3 + 2 * levels)


def record(thresholds: int = len(GRID)) -> list[Any]:
    return [30, [1] * thresholds, [1] * thresholds]


CASES: dict[str, tuple[Callable[[], FleetModel], Any, Any]] = {
    "other levels": (
        AlertBudget, [("usage_drop", (0.1, 1.0, 1.0), numbers())], [("usage_drop", (0.1, 1.0, 1.0), numbers(41))],
    ),
    "a further cost": (
        AlertBudget, [("usage_drop", (0.1, 1.0, 1.0), numbers())], [("usage_drop", (0.1, 1.0, 1.0, 1.0), numbers())],
    ),
    "no budget": (
        AlertBudget, [("usage_drop", (0.1, 1.0, 1.0), numbers())], [("usage_drop", (0.0, 1.0, 1.0), numbers())],
    ),
    "other figures": (UsageFleet, [1] * UsageFleet.NUMBERS, [1] * (UsageFleet.NUMBERS + 24)),
    "other thresholds": (FleetAnnouncements, [("ct", record())], [("ct", record(5))]),
    "other rates": (CodeRates, (30, {"XR-1": 2}), (30, {"XR-1": 0.5})),
    "another expert": (LearnedRisk, [a_judgement()], [a_judgement(odds=5)]),
    "other signs": (LearnedRisk, [a_judgement()], [a_judgement(values=2)]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_none_of_a_models_contributions_changes_nothing_of_it(case: str) -> None:
    kind, good, bad = CASES[case]

    def packed(said: Any) -> bytes:
        return np.array(said, "<i8").tobytes() if kind is UsageFleet else msgspec.msgpack.encode(said)

    model, untouched = kind(), kind()
    with pytest.raises(ValueError, match=r"."):
        model.absorb([packed(good), packed(bad)])
    assert canonical(model) == canonical(untouched)
    with pytest.raises(ValueError, match=r"."):
        model.read(packed(bad))
    model.absorb([packed(good)])
    assert canonical(model) != canonical(untouched)
