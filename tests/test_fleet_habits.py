"""A device that is new begins with what is usual for others, once enough of them are known."""

import copy
from math import log

import msgspec
import pytest

from detectors.usage_drop import UsageDrop
from detectors.usage_fleet import UsageFleet
from schema.catalogue import load_catalogue
from schema.record import Tick
from schema.registry import Customer, Device, Site
from streams import habits, ticks
from streams.device import DeviceState
from streams.pane_rows import DAY_MS, HOUR_MS
from streams.partition import Partition
from streams.state import PartitionState

CATALOGUE = load_catalogue()
MODEL = "ct"
DAYS = 2 * UsageDrop.LEARNING_DAYS + 7


def device(number: int, customer_id: str) -> DeviceState:
    entry = Device(
        device_id=f"ct-{number}", model=MODEL, site_id="", customer_id=customer_id, installed_ms=0
    )
    return DeviceState.new(entry, CATALOGUE[MODEL])


def used(number: int, customer_id: str, per_hour: float) -> DeviceState:
    """A device that has worked from 8 to 18 on workdays for long enough."""
    known = device(number, customer_id)
    assert known.usage is not None
    for day in range(4, 4 + DAYS):  # the epoch was a Thursday
        for hour in range(24):
            busy = 8 <= hour < 18 and (day + 3) % 7 < 5
            known.usage.update(day * DAY_MS + (hour + 1) * HOUR_MS, per_hour if busy else 0.0)
    return known


@pytest.fixture(scope="module")
def fleet() -> list[DeviceState]:
    return [used(number, f"cu-{number % 2}", (4.0, 8.0)[number % 2]) for number in range(6)]


def shared_a_day(state: PartitionState, devices: list[DeviceState]) -> None:
    for customer_id in sorted({each.entry.customer_id for each in devices}):
        habits.look(state, customer_id, [each for each in devices if each.entry.customer_id == customer_id])
    model = state.shared.fleet.of(UsageFleet, MODEL)
    if added := model.contribution():
        model.absorb([added])


def test_a_new_device_expects_the_week_of_the_fleet_and_the_use_of_its_customer(fleet: list[DeviceState]) -> None:
    state = PartitionState(0, CATALOGUE)
    for _ in range(2):
        shared_a_day(state, fleet)
    expected = {}
    for customer_id in ("cu-0", "cu-1", "cu-2"):
        new = device(9, customer_id)
        habits.begin(state, new)
        assert new.usage is not None
        monday = 11 * DAY_MS
        assert new.usage.expected(monday + 12 * HOUR_MS) > 20 * new.usage.expected(monday + 3 * HOUR_MS)
        assert new.usage.expected(monday + 12 * HOUR_MS) > 20 * new.usage.expected(monday + (5 * 24 + 12) * HOUR_MS)
        expected[customer_id] = new.usage.expected(monday + 12 * HOUR_MS)
    assert 4.0 < expected["cu-0"] < expected["cu-2"] < expected["cu-1"] < 8.0
    assert log(expected["cu-1"] / expected["cu-0"]) > 0.5 * log(2)


@pytest.mark.parametrize("together", [1, 3])
def test_each_device_counts_once_for_what_a_tick_closes_however_long_its_day_takes_to_sum_up(
    fleet: list[DeviceState], together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticks, "DEVICES_A_TICK", 2)
    partition, begun = Partition(0, CATALOGUE), (5 + DAYS) * DAY_MS
    for number in range(2):
        site = Site(site_id=f"si-{number}", customer_id=f"cu-{number}", name="")
        partition.apply((Customer(customer_id=f"cu-{number}", name=""), site))
    for each in fleet:
        entry = msgspec.structs.replace(each.entry, site_id=f"si-{each.entry.customer_id[-1]}")
        partition.apply((entry,))
        partition.devices[entry.device_id].usage = copy.deepcopy(each.usage)
    for day in (0, together, together + 1):
        partition.apply(Tick("bridge", begun + day * DAY_MS + 3 * HOUR_MS))
    assert partition.shared.fleet.of(UsageFleet, MODEL).sums[0] == len(fleet)


def test_a_device_that_knows_itself_and_one_whose_model_nobody_knows_begin_with_nothing(
    fleet: list[DeviceState],
) -> None:
    state, new = PartitionState(0, CATALOGUE), device(9, "cu-0")
    shared_a_day(state, fleet[:2])
    habits.begin(state, new)
    assert new.usage is not None
    assert new.usage.expected(12 * HOUR_MS) == 0.0
    for _ in range(2):
        shared_a_day(state, fleet)
    known = used(8, "cu-0", 1.0)
    assert known.usage is not None
    before = known.usage.expected(11 * DAY_MS + 12 * HOUR_MS)
    habits.begin(state, known)
    assert known.usage.expected(11 * DAY_MS + 12 * HOUR_MS) == before
