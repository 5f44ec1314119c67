"""The same seed gives the same bytes; what is asked of a fleet's numbers holds for every seed."""

import hashlib
import json
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from simulator.fleet import DAY_MS
from simulator.scenario import Scenario
from simulator.truth import Churn, Count, Failure, FalsePrecursor, Run, Truth, append_truth, read_truth, write_truth
from simulator.wire import encode


def fingerprint(scenario: Scenario) -> str:
    hasher = hashlib.sha256(scenario.registry_json())
    for publication in scenario.publications():
        hasher.update(repr((publication.at_ms, publication.kind, publication.topic)).encode())
        hasher.update(encode(publication.body))
    return hasher.hexdigest()


def payloads(scenario: Scenario) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = defaultdict(list)
    for publication in scenario.publications():
        if publication.kind in ("telemetry", "birth"):
            found[publication.device_id].append(encode(publication.body))
    return {device_id: sorted(found[device_id]) for device_id in found}


def test_a_seed_gives_the_same_bytes_every_time(small_scenario: Scenario) -> None:
    assert fingerprint(small_scenario) == fingerprint(Scenario(7, devices=20, customers=4, days=10))


def test_another_seed_gives_another_fleet(small_scenario: Scenario) -> None:
    assert fingerprint(small_scenario) != fingerprint(Scenario(8, devices=20, customers=4, days=10))


def test_a_device_does_not_notice_that_another_one_is_added(small_scenario: Scenario) -> None:
    before = payloads(small_scenario)
    after = payloads(Scenario(7, devices=21, customers=4, days=10))
    assert len(after) == len(before) + 1
    assert {device_id: after[device_id] for device_id in before} == before


@pytest.mark.parametrize("seed", range(1, 11))
def test_every_seed_has_enough_of_everything(seed: int) -> None:
    scenario = Scenario(seed)
    course, troubles = scenario.course, scenario.troubles
    day = {fact: (fact.onset_ms - scenario.start_ms) / DAY_MS for fact in course.churn}
    second = [fact for fact in troubles.failures if fact.at_ms >= scenario.start_ms + 28 * DAY_MS]
    first = len(troubles.failures) - len(second)
    signs = [fact for fact in troubles.failures if fact.precursor_ms is not None]
    false = len(troubles.false_precursors)

    assert len(second) >= 40
    assert abs(first - len(second)) <= 4
    assert len(signs) / len(troubles.failures) == pytest.approx(5 / 6, abs=0.03)
    assert false / (false + len(signs)) == pytest.approx(1 / 3, abs=0.04)
    assert all(3.5 * DAY_MS <= fact.at_ms - (fact.precursor_ms or 0) <= 6.5 * DAY_MS for fact in signs)
    assert all(6 * 3_600_000 <= fact.repaired_ms - fact.at_ms <= 48 * 3_600_000 for fact in troubles.failures)
    assert len(course.churn) >= 5
    assert {fact.kind for fact in course.churn} == {"step", "ramp", "stop", "withdrawn"}
    assert all(28 <= onset <= 42 for onset in day.values())
    assert 8 <= len(course.outages) <= 16
    assert all(4 <= (fact.until_ms - fact.from_ms) / 3_600_000 <= 10 for fact in course.outages)
    assert {fact.customer_id for fact in course.drops}.isdisjoint(fact.customer_id for fact in course.churn)
    assert len(course.drops) >= 2
    assert len(course.holidays) == len(course.maintenances) == 1


@pytest.mark.parametrize("seed", range(1, 11))
def test_troubles_of_a_device_never_overlap(seed: int) -> None:
    for stresses in Scenario(seed).troubles.stresses.values():
        spans = sorted((stress.from_ms, stress.until_ms) for stress in stresses)
        assert all(earlier[1] < later[0] for earlier, later in pairwise(spans))


def test_a_full_fleet_has_every_model_and_a_mixture_in_each_hospital() -> None:
    fleet = Scenario(7).fleet
    models = Counter(machine.model for machine in fleet.machines)
    assert len(models) == 6
    assert min(models.values()) >= 20
    by_customer: dict[str, set[str]] = defaultdict(set)
    for machine in fleet.machines:
        by_customer[machine.customer_id].add(machine.model)
    assert min(len(kinds) for kinds in by_customer.values()) >= 4


def test_the_registry_tells_holiday_and_maintenance_beforehand(small_scenario: Scenario) -> None:
    registry = json.loads(small_scenario.registry_json())
    assert sorted(entry["kind"] for entry in registry["calendars"]) == ["holiday", "maintenance"]
    gateways = [device for device in registry["devices"] if device["model"] == "gateway"]
    assert len(gateways) == len(registry["sites"])


def test_the_truth_survives_its_file(small_scenario: Scenario, tmp_path) -> None:
    path = tmp_path / "truth.jsonl"
    facts = list(small_scenario.facts())
    write_truth(path, facts[:5])
    append_truth(path, facts[5:])
    truth = read_truth(path)
    assert truth.facts == tuple(facts)
    assert truth.run == Run(
        seed=7, devices=20, customers=4, start_ms=small_scenario.start_ms, end_ms=small_scenario.end_ms
    )
    assert truth.of(Failure)
    assert truth.of(FalsePrecursor)
    assert truth.of(Churn)


def test_a_truth_without_a_run_says_so() -> None:
    with pytest.raises(ValueError, match="no line that says what was simulated"):
        _ = Truth([]).run


def test_the_truth_counts_exactly_what_is_published(small_scenario: Scenario) -> None:
    published: set[tuple[str, str, int]] = set()
    said = 0
    for publication in small_scenario.publications():
        if publication.kind == "telemetry":
            said += publication.readings
            for metric, pairs in json.loads(encode(publication.body)).get("series", {}).items():
                published.update((publication.device_id, metric, at_ms) for at_ms, _ in pairs)
    counted = {(fact.device_id, fact.metric): fact.days for fact in small_scenario.facts() if isinstance(fact, Count)}
    by_day = Counter((device_id, metric, at_ms // DAY_MS) for device_id, metric, at_ms in published)
    assert said == len(published)
    assert by_day == Counter({(*key, day): n for key, days in counted.items() for day, n in days.items()})
