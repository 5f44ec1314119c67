"""What partitions gain by learning from each other: the same fleet in 1, 4 and 16 partitions, each alone and together.

The simulator's fleet goes through the partitions themselves, without log and database; they exchange their days in
step, as `streams.fleet` wants it. Every fourth device keeps silent until `NEW_DAY`, as if it were installed then.
Counted is, against the simulator's truth:

- failure risk: log loss and average precision of all judgements after the first `LEARNING` days; one at t is right if
  the subsystem fails in (t + 1 day, t + 7 days], one that is followed by a failure sooner is left out;
- usage of new devices: |observed - expected| of a day over what is usual, by day of life;
- alerts of the detectors that learn: false ones a device-month (no failure of the device within two weeks), and the
  share of failures with signs that were announced a day or more before.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.report import rows
from schema.catalogue import Catalogue
from schema.findings import Finding
from schema.messages import Message
from schema.record import Tick, decode, encode_telemetry
from schema.registry import RegistryEntry
from schema.rows import AlertRow, FleetRow
from schema.topics import partition_of
from simulator.offline import messages
from simulator.scenario import Scenario
from simulator.truth import Failure
from streams.fleet import Contribution, Given
from streams.pane_rows import DAY_MS, HOUR_MS
from streams.partition import Partition
from streams.ticks import closed_day, time_after

SCENARIO = Scenario(5, devices=32, customers=16, days=70)
NEW_DAY = 49
LEARNING = 28
LIFE = 14
"""Days of life of a new device that are looked at."""
NEAREST_MS, HORIZON_MS = DAY_MS, 7 * DAY_MS
FOLLOWS_MS = 14 * DAY_MS
LEARNT = ("failure_risk", "fault_rule", "fault_pattern")
FILE = Path(__file__).resolve().parents[1] / "build" / "fleet_learning.json"

Place = tuple[str, str]
"""Device and subsystem."""


@dataclass
class Seen:
    """What partitions said in a run."""

    risks: list[tuple[int, str, str, float]] = field(default_factory=list)
    """(at, device, subsystem, probability)"""
    days: list[tuple[int, str, float, float]] = field(default_factory=list)
    """(day, device, observed, expected usage)"""
    alerts: dict[str, AlertRow] = field(default_factory=dict)
    cpu_s: float = 0.0
    contributed: list[int] = field(default_factory=list)
    """Bytes of each contribution."""


class Watched(Partition):
    """A partition that lets us look on."""

    def __init__(self, number: int, catalogue: Catalogue, seen: Seen) -> None:
        super().__init__(number, catalogue)
        self.seen = seen

    def observe(self, finding: Finding) -> None:
        """Note what is found."""
        if finding.detector == "failure_risk":
            probability = float(finding.evidence["probability"])
            self.seen.risks.append((finding.at_ms, finding.device_id, finding.subsystem, probability))
        super().observe(finding)


class Run:
    """The fleet in so many partitions; `together` they hand each other what they learn."""

    def __init__(
        self, scenario: Scenario, partitions: int, together: bool, kind: type[Watched] = Watched
    ) -> None:
        self.seen = Seen()
        self.together = together
        self.partitions = [kind(number, scenario.catalogue, self.seen) for number in range(partitions)]
        self.contributed: dict[int, list[Contribution]] = {}
        known = scenario.registry
        of_site = {site.site_id: site.customer_id for site in known.sites}
        for number, partition in enumerate(self.partitions):

            def here(customer_id: str, number: int = number) -> bool:
                return partition_of(customer_id, partitions) == number

            entries: list[RegistryEntry] = [*known.technicians, *known.parts, *known.calendars]
            entries += [each for each in known.customers if here(each.customer_id)]
            entries += [each for each in known.sites if here(of_site[each.site_id])]
            entries += [each for each in known.devices if here(each.customer_id)]
            partition.apply(tuple(entries))
            partition.apply(Tick("bench", scenario.start_ms, "joined"))
        self.owner = {each.device_id: partition_of(each.customer_id, partitions) for each in known.devices}

    def hour(self, sent: Sequence[Message], end_ms: int) -> None:
        """What is sent within an hour, and the tick behind it."""
        by_partition: dict[int, list[Message]] = {}
        for message in sent:
            by_partition.setdefault(self.owner[message.device_id], []).append(message)
        began_s = process_time()
        for number, partition in enumerate(self.partitions):
            if number in by_partition:
                partition.apply(decode(encode_telemetry(by_partition[number], source="bench", receive_ms=end_ms)))
            self._tick(partition, Tick("bench", end_ms))
            self._note(partition)
        self.seen.cpu_s += process_time() - began_s
        if end_ms // HOUR_MS % 24 == 3:
            self._days(end_ms // DAY_MS - 1)

    def _tick(self, partition: Partition, tick: Tick) -> None:
        fleet, given = partition.shared.fleet, None
        if self.together and fleet.asks(closed_day(time_after(partition, tick))):
            others = [each.number for each in self.partitions if each is not partition]
            of_day = self.contributed.get(fleet.closed, ())
            given = Given(
                tuple(each for each in of_day if each.partition in others), dict.fromkeys(others, fleet.closed)
            )
        partition.apply(tick, given)

    def _note(self, partition: Partition) -> None:
        for row in partition.effects.rows.values():
            if isinstance(row, AlertRow):
                self.seen.alerts[row.alert_id] = row
            elif isinstance(row, FleetRow):
                added = Contribution(row.day, row.partition, row.contribution)
                self.contributed.setdefault(row.day, []).append(added)
                self.seen.contributed.append(len(row.contribution))
        partition.effects.clear()

    def _days(self, day: int) -> None:
        for partition in self.partitions:
            for device_id, device in partition.devices.items():
                if (usage := device.usage_of(day)) is not None:
                    self.seen.days.append((day, device_id, *usage))


def hours(scenario: Scenario) -> Iterator[tuple[int, list[Message]]]:
    """What the fleet sends, hour by hour, with the hour's end; new devices are silent until `NEW_DAY`."""
    new, new_ms = newcomers(scenario), scenario.start_ms + NEW_DAY * DAY_MS
    heard = (each for each in messages(scenario) if each.receive_ms >= new_ms or each.device_id not in new)
    by_hour = groupby(heard, lambda each: each.receive_ms // HOUR_MS)
    for hour, group in by_hour:
        yield (hour + 1) * HOUR_MS, list(group)


def newcomers(scenario: Scenario) -> frozenset[str]:
    """Every fourth device of each model."""
    by_model: dict[str, list[str]] = {}
    for device in scenario.registry.devices:
        by_model.setdefault(device.model, []).append(device.device_id)
    return frozenset(each for devices in by_model.values() for each in sorted(devices)[::4])


class Truth:
    """What the simulator knows of failures."""

    def __init__(self, scenario: Scenario) -> None:
        self.failures = sorted(scenario.troubles.failures, key=lambda each: each.at_ms)
        self.by_place: dict[Place, list[Failure]] = {}
        for each in self.failures:
            self.by_place.setdefault((each.device_id, each.subsystem), []).append(each)
        self.from_ms, self.until_ms = scenario.start_ms + LEARNING * DAY_MS, scenario.end_ms - HORIZON_MS

    def label(self, at_ms: int, device_id: str, subsystem: str) -> bool | None:
        """Whether a judgement was right to warn; None if it counts for nothing."""
        if not self.from_ms <= at_ms < self.until_ms:
            return None
        for failure in self.by_place.get((device_id, subsystem), ()):
            if failure.at_ms - NEAREST_MS <= at_ms < failure.repaired_ms:
                return None
            if at_ms < failure.at_ms <= at_ms + HORIZON_MS:
                return True
        return False


def risk_figures(seen: Seen, truth: Truth) -> tuple[float, float]:
    """Log loss in bits a judgement, and average precision."""
    labels = ((p, truth.label(at_ms, device, subsystem)) for at_ms, device, subsystem, p in seen.risks)
    judged = [(p, label) for p, label in labels if label is not None]
    loss = -sum(math.log2(max(p if label else 1 - p, 1e-4)) for p, label in judged) / len(judged)
    found = passed = area = 0.0
    for _, group in groupby(sorted(judged, reverse=True), key=itemgetter(0)):
        tied = [label for _, label in group]
        passed += len(tied)
        found += sum(tied)
        area += sum(tied) * found / passed
    return loss, area / max(1, found)


def usage_curve(seen: Seen, new: Iterable[str], first_day: int) -> list[float]:
    """Mean error of what was expected of a new device, by day of life, in its usual day's use."""
    usual: dict[str, list[float]] = {}
    for _, device_id, observed, _ in seen.days:
        usual.setdefault(device_id, []).append(observed)
    errors: list[list[float]] = [[] for _ in range(LIFE)]
    for day, device_id, observed, expected in seen.days:
        if device_id in set(new) and 0 <= day - first_day < LIFE:
            mean = sum(usual[device_id]) / len(usual[device_id])
            if mean > 0:
                errors[day - first_day].append(abs(observed - expected) / mean)
    return [sum(each) / len(each) if each else math.nan for each in errors]


def alert_figures(seen: Seen, truth: Truth, scenario: Scenario) -> tuple[float, float]:
    """False alerts a device-month, and the share of failures with signs that were announced."""
    fired = [
        each
        for each in seen.alerts.values()
        if each.detector in LEARNT and each.fired_at is not None and each.fired_at >= truth.from_ms
    ]
    false = sum(
        not any(
            failure.device_id == each.device_id and -DAY_MS <= failure.at_ms - each.fired_at <= FOLLOWS_MS
            for failure in truth.failures
        )
        for each in fired
        if each.fired_at is not None and each.fired_at < scenario.end_ms - FOLLOWS_MS
    )
    signs = [each for each in truth.failures if each.precursor_ms is not None and each.at_ms >= truth.from_ms]
    announced = sum(
        any(
            alert.device_id == each.device_id
            and alert.fired_at is not None
            and DAY_MS <= each.at_ms - alert.fired_at <= FOLLOWS_MS
            for alert in fired
        )
        for each in signs
    )
    months = scenario.devices * (scenario.days - LEARNING - 14) / 30
    return false / months, announced / max(1, len(signs))


def main(scenario: Scenario = SCENARIO) -> None:
    """Run all, print the table, and keep the curves."""
    runs = {(partitions, together): Run(scenario, partitions, together) for partitions in (1, 4, 16) for together in
            ((True,) if partitions == 1 else (False, True))}  # fmt: skip
    for end_ms, sent in hours(scenario):
        for run in runs.values():
            run.hour(sent, end_ms)
    truth, new = Truth(scenario), newcomers(scenario)
    first_day = scenario.start_ms // DAY_MS + NEW_DAY
    lines: list[list[float | str]] = []
    kept: list[dict[str, Any]] = []
    for (partitions, together), run in runs.items():
        seen = run.seen
        loss, precision = risk_figures(seen, truth)
        curve = usage_curve(seen, new, first_day)
        false, announced = alert_figures(seen, truth, scenario)
        how = "together" if together else "alone"
        lines.append([partitions, how, round(loss, 4), round(precision, 3), round(sum(curve[:7]) / 7, 3),
                      round(sum(curve[7:14]) / 7, 3), round(false, 3), round(announced, 3),
                      round(run.seen.cpu_s, 1)])  # fmt: skip
        kept.append({"partitions": partitions, "how": how, "log_loss_bits": loss, "average_precision": precision,
                     "usage_error_by_day_of_life": curve,
                     "false_alerts_device_month": false, "announced": announced,
                     "contribution_bytes": sorted(seen.contributed)})  # fmt: skip
    header = ["partitions", "how", "log loss", "AP", "usage error week 1", "week 2",
              "false alerts", "announced", "CPU s"]  # fmt: skip
    rows("fleet_learning", header, lines, f"{scenario.devices} devices, {scenario.days} days, seed {scenario.seed}")
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps({"devices": scenario.devices, "days": scenario.days, "runs": kept}))


if __name__ == "__main__":
    main()
