"""What a new device knows from others of its model: judged within days, and the same however the fleet is divided."""

import random

import numpy as np
import pytest

from detectors.usage_drop import DAY_MS, HOUR_MS, UsageDrop
from detectors.usage_fleet import UsageFleet, UsagePrior
from detectors.usage_judgement import UsageJudgement

MEAN = 30.0


def lived(detector: UsageDrop, days: int, seed: int, first: int = 0, drop_day: int = 10_000) -> list[UsageJudgement]:
    """Judgements, one a day, of a device used from 8 to 18 h, a quarter as much at weekends; from `drop_day` not."""
    rng = np.random.default_rng(seed)
    level = MEAN * rng.uniform(0.8, 1.25)
    judgements = []
    for day in range(first, first + days):
        mean = level * (0.25 if day % 7 in (2, 3) else 1.0) * (day < drop_day)
        counts = rng.poisson(np.where((np.arange(24) >= 8) & (np.arange(24) < 18), mean / 10, 0.0))
        for hour in range(24):
            judgement = detector.update((day * 24 + hour + 1) * HOUR_MS, float(counts[hour]))
            if hour == 0:
                judgements.append(judgement)
    return judgements


@pytest.fixture(scope="module")
def grown() -> list[UsageDrop]:
    devices = [UsageDrop() for _ in range(6)]
    for seed, device in enumerate(devices):
        lived(device, 60, seed)
    return devices


def fleet_of(devices: list[UsageDrop], partitions: int = 1) -> UsageFleet:
    fleet, parts = UsageFleet(), [UsageFleet() for _ in range(partitions)]
    for number, device in enumerate(devices):
        parts[number % partitions].add(device)
    fleet.absorb([part.contribution() for part in parts])
    return fleet


def prior_of(fleet: UsageFleet) -> UsagePrior:
    prior = fleet.prior()
    assert prior is not None
    return prior


#    begins     stops
# |-----X---------X=====|
#       60        70
def test_a_new_device_that_stops_after_ten_days_is_found_with_a_prior_and_not_without(grown: list[UsageDrop]) -> None:
    leaning, alone = UsageDrop(), UsageDrop()
    leaning.lean(prior_of(fleet_of(grown)))
    with_prior = lived(leaning, 15, seed=50, first=60, drop_day=70)
    without = lived(alone, 15, seed=50, first=60, drop_day=70)
    assert max(judgement.belief for judgement in with_prior[:10]) < 0.5 <= with_prior[-1].belief
    assert with_prior[-1].since_ms // DAY_MS == 70
    assert max(judgement.belief for judgement in without) == 0


def test_a_healthy_new_device_raises_nothing_whatever_its_level(grown: list[UsageDrop]) -> None:
    prior = prior_of(fleet_of(grown))
    for seed in range(100, 106):
        detector = UsageDrop()
        detector.lean(prior)
        first = random.Random(seed).randrange(60, 67)
        assert max(judgement.belief for judgement in lived(detector, 30, seed, first)) < 0.5


def test_a_new_device_expects_the_hours_of_its_fleet_at_once(grown: list[UsageDrop]) -> None:
    detector = UsageDrop()
    detector.lean(prior_of(fleet_of(grown)))
    noon, night, saturday = 12 * HOUR_MS, 3 * HOUR_MS, 2 * DAY_MS + 12 * HOUR_MS
    assert detector.expected(noon) == pytest.approx(MEAN / 10, rel=0.3)
    assert detector.expected(night) < 0.1
    assert detector.expected(saturday) == pytest.approx(MEAN / 40, rel=0.4)


def test_the_fleet_is_the_same_however_it_is_divided(grown: list[UsageDrop]) -> None:
    one, four = fleet_of(grown), fleet_of(grown[::-1], 4)
    assert (one.sums == four.sums).all()


def test_a_device_that_is_not_known_well_says_nothing(grown: list[UsageDrop]) -> None:
    fleet, young, down = UsageFleet(), UsageDrop(), UsageDrop()
    lived(young, 20, seed=1)
    lived(down, 60, seed=1, drop_day=50)
    fleet.add(young)
    fleet.add(down)
    assert fleet.contribution() == b""
    assert fleet_of(grown[:2]).prior() is None


def test_a_customers_other_devices_move_where_a_new_one_begins(grown: list[UsageDrop]) -> None:
    fleet = fleet_of(grown)
    busier = np.zeros(8)
    busier[0] = 3 * np.log(2)
    moved = fleet.prior(busier, 3)
    assert moved is not None
    assert 1.2 < np.exp(moved.level - prior_of(fleet).level) < 2
