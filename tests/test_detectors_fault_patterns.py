"""Fault patterns: what is new or too much for this device, by its own past and by that of its fleet."""

import pickle
import random

import pytest

from detectors.alert_threshold import surprise
from detectors.fault_patterns import DAY_MS, CodeRates, FaultPatterns, PatternJudgement, finding
from schema.catalogue import load_catalogue
from schema.messages import Fault, Message
from schema.record import Tick, decode, encode_telemetry
from schema.registry import Customer, Device, Site
from schema.rows import AlertRow
from streams.partition import Partition

ONCE_A_YEAR = surprise(1 / 365)


def fleet(days: int, **events: int) -> CodeRates:
    rates = CodeRates()
    rates.watched(days)
    for code, count in events.items():
        for _ in range(count):
            rates.seen(code)
    rates.absorb([rates.contribution()])
    return rates


def watched(days: int) -> FaultPatterns:
    patterns = FaultPatterns()
    patterns.watched(days)
    return patterns


def burst(patterns: FaultPatterns, rates: CodeRates, *at_days: float, code: str = "A") -> PatternJudgement:
    judged = None
    for day in at_days:
        judged = patterns.fault(round(day * DAY_MS), code, "tube", rates.rate(code))
    assert judged is not None
    return judged


def test_a_code_that_is_rare_in_the_fleet_is_new_at_its_first_event() -> None:
    rates = fleet(20_000, A=2, B=4000)
    rare = burst(watched(100), rates, 100, code="A")
    common = burst(watched(100), rates, 100, code="B")
    assert (rare.kind, rare.odds > ONCE_A_YEAR) == ("new", True)
    assert common.odds < ONCE_A_YEAR


def test_a_code_that_is_usual_in_the_fleet_but_not_here_surprises_more_the_longer_it_has_not_come() -> None:
    rates = fleet(20_000, A=200)
    young, old = burst(watched(8), rates, 100), burst(watched(400), rates, 400)
    assert young.odds < old.odds


def test_a_burst_counts_against_the_devices_own_rate() -> None:
    rates = fleet(20_000, A=1000)
    quiet, noisy = watched(100), watched(100)
    for day in range(100):
        noisy.fault(day * DAY_MS, "A", "tube", rates.rate("A"))
    hours = [100 + hour / 24 for hour in range(4)]
    assert burst(quiet, rates, *hours).odds > ONCE_A_YEAR
    assert burst(noisy, rates, *hours).odds < ONCE_A_YEAR
    assert burst(quiet, rates, *hours).count >= 4


@pytest.mark.parametrize("a_day", [1, 5, 20])
def test_what_comes_often_everywhere_is_no_burst_however_often_it_comes(a_day: int) -> None:
    rates, patterns = fleet(10_000, A=10_000 * a_day), FaultPatterns()
    odds = []
    for day in range(100):
        patterns.watched()
        judged = burst(patterns, rates, *(day + number / a_day for number in range(a_day)))
        odds.append(judged.odds)
    assert max(odds[14:]) < ONCE_A_YEAR
    assert judged.expected == pytest.approx(a_day * judged.window_days, rel=0.2)


def test_a_slow_burst_is_seen_over_a_week() -> None:
    judged = burst(watched(200), fleet(20_000, A=200), 200, 201.5, 203, 204.5)
    assert (judged.window_days, judged.count) == (7, 4)
    assert judged.odds > ONCE_A_YEAR


def test_candidates_as_surprising_come_no_more_often_than_they_say() -> None:
    rng, rates = random.Random(2), fleet(100_000, A=5000)
    days = raised = 0
    for _ in range(150):
        patterns, rate = FaultPatterns(), rng.gammavariate(0.5, 0.1)
        last = -1
        for day in range(300):
            patterns.watched()
            for _ in range(_poisson(rng, rate)):
                odds = patterns.fault(day * DAY_MS + rng.randrange(DAY_MS), "A", "x", rates.rate("A")).odds
                if odds >= surprise(1 / 100) and day > last + 2:
                    raised += 1
                    last = day
            days += 1
    assert 0.1 < raised / days * 100 < 1.0


def _poisson(rng: random.Random, mean: float) -> int:
    count, arrival = 0, rng.expovariate(1)
    while arrival < mean:
        count += 1
        arrival += rng.expovariate(1)
    return count


def test_many_codes_cost_no_more_memory_than_is_said() -> None:
    patterns, rates = FaultPatterns(), CodeRates()
    for number in range(5000):
        patterns.fault(number * DAY_MS // 100, f"C{number % 200}", "x", rates.rate("x"))
        rates.seen(f"C{number}")
    rates.absorb([rates.contribution()])
    assert len(patterns.codes) == FaultPatterns.CODES
    assert len(rates.events) == CodeRates.CODES
    assert len(pickle.dumps(patterns)) < 9_000


def test_partitions_share_the_same_rates_whoever_saw_the_codes() -> None:
    parts = [CodeRates() for _ in range(4)]
    for number, rates in enumerate(parts):
        rates.watched(100 * number)
        for _ in range(number):
            rates.seen("A")
    contributions = [rates.contribution() for rates in parts]
    for rates in parts:
        rates.absorb(contributions)
    assert {rates.rate("A") for rates in parts} == {fleet(600, A=6).rate("A")}


@pytest.mark.parametrize("partitions", [1, 2])
def test_of_more_codes_than_are_kept_the_same_ones_are_counted_in_any_order_by_any_number(partitions: int) -> None:
    rare, frequent = ([f"{kind}{number}" for number in range(CodeRates.CODES)] for kind in "AB")
    seen = 3 * rare + 6 * frequent
    random.Random(1).shuffle(seen)
    parts = [CodeRates() for _ in range(partitions)]
    for code in seen:
        parts[0 if code in rare else -1].seen(code)
    parts[0].absorb([each.contribution() for each in parts])
    assert parts[0].events == dict.fromkeys(rare, 3.0)


def test_a_pattern_clears_when_it_has_been_quiet() -> None:
    patterns = watched(100)
    patterns.raised(burst(patterns, fleet(20_000), 100))
    assert patterns.deadline_ms() == 102 * DAY_MS
    assert patterns.tick(101 * DAY_MS) == []
    (cleared,) = patterns.tick(102 * DAY_MS)
    assert (cleared.subsystem, cleared.onset_ms, cleared.kind) == ("tube", 100 * DAY_MS, "cleared")
    assert patterns.deadline_ms() is None


def test_the_evidence_says_what_was_expected() -> None:
    judged = burst(watched(100), fleet(20_000, A=20), 100, 100.1, 100.2)
    found = finding(judged, 0.9, ONCE_A_YEAR, device_id="d", site_id="s", customer_id="c")
    assert (found.severity, found.evidence["codes"], found.evidence["raised_from_days"]) == ("info", {"A": 3}, 364)
    assert found.evidence["expected"] < 0.1


def test_what_people_were_told_of_is_no_part_of_the_next_burst() -> None:
    hours, rates = [100 + hour / 24 for hour in range(4)], fleet(20_000, A=200)
    fresh, told, repaired = watched(100), watched(100), watched(100)
    for patterns in (fresh, told, repaired):
        burst(patterns, rates, *hours)
    told.told("tube")
    repaired.told("tube", repaired=True)
    odds = [burst(patterns, rates, 101).odds for patterns in (fresh, repaired, told)]
    assert odds == sorted(odds, reverse=True)
    assert odds[0] > ONCE_A_YEAR > odds[1]


class Clinic:
    """One CT, hour by hour; what it says can carry a fault."""

    def __init__(self) -> None:
        self.partition = Partition(0, load_catalogue())
        site = Site(site_id="s", customer_id="c", name="s")
        device = Device(device_id="d", model="ct", site_id="s", customer_id="c", installed_ms=0)
        self.partition.apply((Customer(customer_id="c", name="c"), site, device))
        self.partition.apply(Tick("bridge", DAY_MS, "joined"))
        self.hour = 24
        rates = self.partition.shared.fleet.of(CodeRates, "ct")
        rates.watched(50_000)
        rates.absorb([rates.contribution()])
        self.partition.devices["d"].patterns.watched(200)
        self.alerts: dict[str, AlertRow] = {}

    def say(self, *faults: tuple[str, str]) -> None:
        self.hour += 1
        at_ms = self.hour * DAY_MS // 24
        told = tuple(Fault(at_ms - 1, code, severity, "tube", "") for code, severity in faults)
        message = Message("d", "telemetry", 1, self.hour, at_ms, at_ms, (), told)
        self.partition.apply(decode(encode_telemetry([message], source="bridge", receive_ms=at_ms)))
        self.partition.apply(Tick("bridge", at_ms))
        self.alerts |= {row.detector: row for row in self.partition.effects.rows.values() if isinstance(row, AlertRow)}


def test_a_new_code_is_told_and_forgotten_when_it_does_not_come_again() -> None:
    clinic = Clinic()
    clinic.say(("NEW-1", "warning"))
    assert (clinic.alerts["fault_pattern"].state, clinic.alerts["fault_pattern"].severity) == ("firing", "info")
    for _ in range(50):
        clinic.say()
    assert clinic.alerts["fault_pattern"].state == "resolved"


@pytest.mark.parametrize(("code", "severity", "detectors"), [("XR-9", "error", {"fault_rule"}), ("OK", "info", set())])
def test_what_a_rule_tells_already_or_is_only_informative_is_not_told_again(
    code: str, severity: str, detectors: set[str]
) -> None:
    clinic = Clinic()
    clinic.say((code, severity))
    assert set(clinic.alerts) == detectors


def test_a_code_that_no_fleet_has_had_is_new_and_rare() -> None:
    patterns = FaultPatterns()
    patterns.watched(30)
    judged = patterns.fault(30 * DAY_MS, "XR-9", "tube", 0.0)
    assert (judged.kind, judged.odds > 5) == ("new", True)
