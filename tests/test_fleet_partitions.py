"""The product's own models, learnt by the simulator's fleet: the number of partitions does not show."""

from collections import Counter
from functools import cache

import msgspec
import pytest

from benchmarks.fleet_learning import Run, Seen, Watched, hours
from schema.catalogue import Catalogue
from schema.findings import Finding
from simulator.scenario import Scenario

SCENARIO = Scenario(3, devices=16, customers=14, days=11)


class Told(Watched):
    """Keeps all findings."""

    def __init__(self, number: int, catalogue: Catalogue, seen: Seen) -> None:
        super().__init__(number, catalogue, seen)
        self.told: Counter[bytes] = Counter()

    def observe(self, finding: Finding) -> None:
        self.told[msgspec.json.encode(finding, order="deterministic")] += 1
        super().observe(finding)


@cache
def found(partitions: int) -> Counter[bytes]:
    run = Run(SCENARIO, partitions, together=True, kind=Told)
    for end_ms, sent in hours(SCENARIO):
        run.hour(sent, end_ms)
    together: Counter[bytes] = Counter()
    for each in run.partitions:
        assert isinstance(each, Told)
        together += each.told
    return together


@pytest.mark.parametrize("partitions", [4, 16])
def test_findings_are_the_same_however_many_partitions_there_are(partitions: int) -> None:
    assert found(1).total() > 1000
    assert found(partitions) == found(1)
