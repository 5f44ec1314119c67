"""Models of the whole fleet: what partitions exchange, when it counts, and that their number does not show."""

import zlib
from random import Random

import pytest
from fleet_help import Sums, Table, sums  # noqa: F401  # a fixture

from detectors.announcement import FleetAnnouncements
from streams.canonical import canonical
from streams.fleet import Fleet, Given

pytestmark = pytest.mark.usefixtures("sums")

DEVICES = [f"ct-{number}" for number in range(40)]


def close(fleets: list[Fleet], table: Table, day: int) -> None:
    """A tick that closes `day` reaches all partitions, one after the other."""
    for number, fleet in enumerate(fleets):
        given = table.given(number, fleet, range(len(fleets))) if fleet.asks(day) else None
        row = fleet.close(number, day, given)
        table.put([row] if row else [])


def run(partitions: int, days: list[int], seed: int = 0) -> list[Fleet]:
    """Partitions with all devices among them, of which each is used on each day; those of a day in any order."""
    fleets, table, random = [Fleet() for _ in range(partitions)], Table(), Random(partitions)
    close(fleets, table, 99)
    values = Random(seed)
    of_day = {day: {device: values.random() for device in DEVICES} for day in range(100, 120)}
    for day in days:
        for device in random.sample(DEVICES, len(DEVICES)):
            model = device[-1]  # some models are rare
            fleet = fleets[zlib.crc32(device.encode()) % partitions]
            fleet.of(Sums, model).gather(day, device, of_day[day][device])
        close(fleets, table, day)
    return fleets


def learnt(fleet: Fleet, model: str = "0") -> list[int]:
    """The days that a model has learnt of one device."""
    return [at for at, device in fleet.of(Sums, model).learnt if device == f"ct-{model}"]


@pytest.mark.parametrize("partitions", [4, 16])
def test_the_number_of_partitions_does_not_show_in_what_they_know(partitions: int) -> None:
    (alone,) = run(1, [*range(100, 112)])
    assert len(alone.models) == 10
    assert len(alone.of(Sums, "3").learnt) == 11 * 4
    for fleet in run(partitions, [*range(100, 112)]):
        for model in fleet.models.values():
            assert isinstance(model, Sums)
            model.gathered = {}
        assert canonical(fleet.models) == canonical(alone.models)


def test_a_day_is_learnt_when_the_next_one_is_closed() -> None:
    # closed:   99   100  101
    # gathered:   100  101
    # learnt:              100
    fleets = run(3, [100])
    assert [learnt(fleet) for fleet in fleets] == [[]] * 3
    fleets = run(3, [100, 101])
    assert [learnt(fleet) for fleet in fleets] == [[100]] * 3


def test_days_that_one_tick_closes_share_a_row_and_nothing_is_lost() -> None:
    fleets, table = [Fleet(), Fleet()], Table()
    close(fleets, table, 99)
    fleets[0].of(Sums, "0").gather(100, "ct-0", 1.0)
    close(fleets, table, 104)
    assert sorted(table.rows) == [(0, 104), (1, 104)]
    assert [learnt(fleet) for fleet in fleets] == [[], []]
    close(fleets, table, 104)
    close(fleets, table, 109)
    assert [learnt(fleet) for fleet in fleets] == [[100], [100]]


def test_a_partition_takes_part_from_the_day_on_which_it_begins() -> None:
    first, table = Fleet(), Table()
    for day in range(99, 103):
        first.of(Sums, "0").gather(day, "ct-0", 1.0)
        row = first.close(0, day, table.given(0, first, [1]) if first.asks(day) else None)
        table.put([row] if row else [])
    late = Fleet()
    close([first, late], table, 103)
    close([first, late], table, 104)
    first.of(Sums, "0").gather(105, "ct-0", 1.0)
    for day in (105, 106):
        close([first, late], table, day)
    assert learnt(late) == [105]
    assert learnt(first) == [99, 100, 101, 102, 105]


def test_what_was_gone_without_is_said_and_taken_in_a_day_later() -> None:
    # partition 1:  100  ........  101  102
    # partition 0:  100  101  102           103
    #                         ^ without 101
    fast, slow, table = Fleet(), Fleet(), Table()
    close([fast, slow], table, 99)
    for fleet, device in ((fast, "ct-10"), (slow, "ct-0")):
        fleet.of(Sums, "0").gather(100, device, 1.0)
    close([fast, slow], table, 100)

    def step(number: int, fleet: Fleet, day: int, device: str) -> dict[str, int]:
        fleet.of(Sums, "0").gather(day, device, 1.0)
        row = fleet.close(number, day, table.given(number, fleet, [0, 1]))
        assert row is not None
        table.put([row])
        return row.missed

    assert step(0, fast, 101, "ct-10") == {}
    assert step(0, fast, 102, "ct-10") == {"1": 100}
    assert learnt(fast) == [100]
    assert step(1, slow, 101, "ct-0") == step(1, slow, 102, "ct-0") == {}
    assert step(0, fast, 103, "ct-10") == {}
    assert learnt(fast) == [100, 101, 102]
    assert step(1, slow, 103, "ct-0") == {}
    assert sorted(fast.of(Sums, "0").learnt) == sorted(slow.of(Sums, "0").learnt)


def test_a_partition_that_is_handed_nothing_is_the_only_one() -> None:
    fleet = Fleet()
    for day in range(99, 103):
        fleet.of(Sums, "0").gather(day, "ct-0", 1.0)
        fleet.close(0, day, None)
    assert learnt(fleet) == [99, 100, 101]
    assert fleet.since() == 102


def test_what_is_asked_for_is_never_older_than_what_may_be_forgotten() -> None:
    fleets, table = [Fleet(), Fleet()], Table()
    assert fleets[0].since() is None
    for day in range(99, 110):
        close(fleets, table, day)
        assert fleets[0].since() == max(100, day)
        table.rows = {key: row for key, row in table.rows.items() if key[1] >= day}
    fleets[0].close(0, 110, Given((), {1: 107}))
    assert fleets[0].since() == 108


def test_a_threshold_is_taught_by_the_announcements_of_all_partitions() -> None:
    here, there = FleetAnnouncements(), FleetAnnouncements()
    for number in range(20):
        here.verdict("ct", here.observe(("ct-1", f"{number}"), 0, -1.0), came_true=False)
        there.verdict("ct", there.observe(("ct-2", f"{number}"), 0, 0.5), came_true=True)
    assert here.value("ct") == there.value("ct") == FleetAnnouncements.START
    contributions = [here.contribution(), there.contribution()]
    assert here.contribution() == b""
    here.absorb(contributions)
    there.absorb(contributions[::-1])
    assert here.value("ct") == there.value("ct")
    assert here.record() == there.record() == (20.0, 20.0)
