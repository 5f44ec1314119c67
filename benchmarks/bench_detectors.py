"""(h) What the detectors cost: CPU for one hour of one device of ten metrics, each detector, and all added up.

The devices have five weeks of life behind them (`benchmarks.population`). Of an hour a detector gets what the pipeline
gives it: a message each 100 s, one closed window a gauge, one of usage, a judgement of each subsystem each 3 h with the
finding that comes of it, and its share of ticks and of the day's summary. Ticks come each second, as in real time.

Then what a single update costs on made-up series, and a decision, a label and a refit of failure risk.
"""

import math
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import count
from time import process_time
from typing import Any

import numpy as np

from alerting.usage import DeviceDay
from benchmarks.population import DEVICES, START_MS, SUBSYSTEMS, WEEKS, template
from benchmarks.report import report
from detectors import due, failure_risk, fault_rules, usage_judgement
from detectors.change_point import ChangePoint
from detectors.risk_learned import LearnedRisk
from detectors.risk_trees import RefittedTrees
from detectors.sensor_anomaly import SensorAnomaly
from detectors.usage_drop import UsageDrop
from schema.catalogue import Limit
from schema.messages import Fault
from schema.record import Tick
from streams import dues, patterns, sensors
from streams.budgets import budget_of
from streams.device import DeviceState
from streams.pane_rows import DAY_MS, HOUR_MS, PANE_DTYPE
from streams.partition import Partition
from streams.ticks import EXPLAINED_FROM

REPEATS = 5
HOURS = 24
MESSAGES_AN_HOUR = 36
FAULTS_AN_HOUR = 0.015
"""Of a device in the simulated fleet."""
PARTITION = 6_000
"""Devices of a partition of a large fleet: they share its ticks, and what it fits anew."""


class Day:
    """The detectors of a partition at work for a day more, one after the other; each method is one hour of all."""

    def __init__(self, grown: Partition) -> None:
        self.partition = deepcopy(grown)
        self.now_ms = START_MS + WEEKS * 7 * DAY_MS
        self.devices: list[DeviceState] = list(self.partition.devices.values())
        self.learned = self.partition.shared.fleet.of(LearnedRisk, "")
        self.trees = self.learned.experts["analyser"].trees
        self.trees.GROWTH = math.inf  # no tick fits them: `refit` measures it apart
        self.numbers = count()

    def silence(self, end_ms: int) -> None:
        """Cadence at each message, and looking at who is overdue."""
        for device in self.devices:
            assert device.cadence is not None
            for i in range(MESSAGES_AN_HOUR):
                device.cadence.heard(end_ms - HOUR_MS + (i + 1) * 100_000)
            self.partition.watch_silence(device)

    def usage(self, end_ms: int) -> None:
        """The window of the usage counter."""
        for device in self.devices:
            assert device.usage is not None
            expected = device.usage.expected(end_ms)
            before = device.usage.judgement
            judgement = device.usage.update(end_ms, float(next(self.numbers) % 9))
            device.judged_hour(end_ms, 4.0, expected)
            if judgement is not before:
                names = self.partition.names(device.entry)
                self.partition.observe(usage_judgement.finding(judgement, end_ms, **names))

    def health(self, end_ms: int) -> None:
        """The windows of nine gauges."""
        for device in self.devices:
            for i in range(9):
                device.health[SUBSYSTEMS[i % 3]].window(end_ms, f"gauge_{i}", 20 + next(self.numbers) % 7 / 10, 36)

    def sensors(self, end_ms: int) -> None:
        """The same windows, watched for surprises and shifted levels."""
        panes = np.zeros(10, PANE_DTYPE)
        panes["count"] = 36
        for device in self.devices:
            panes["sum"] = [36 * (2000 + next(self.numbers) % 70) for _ in panes]
            by_slot = {slot: panes[slot] for slot in range(1, 10)}
            sensors.hour_closed(self.partition, device, end_ms - HOUR_MS, by_slot)

    def risk(self, end_ms: int) -> None:
        """Features, judgement, finding and, later, learning."""
        if end_ms % (3 * HOUR_MS):
            return
        risk, learned = self.partition.shared.risk, self.learned
        learned.learn(risk.mature(end_ms))
        for device in self.devices:
            for subsystem, health in device.health.items():
                features = health.features(end_ms, 400 * DAY_MS, 9 * DAY_MS) | health.trends(end_ms)
                codes = device.codes_since(subsystem, end_ms - 7 * DAY_MS)
                device_id, ages_h = device.entry.device_id, health.ages_h(end_ms)
                judged = risk.judge(learned, end_ms, device_id, subsystem, features, ages_h, "analyser")
                reasons = learned.reasons("analyser", judged.signs) if judged.score >= EXPLAINED_FROM else {}
                names = self.partition.names(device.entry)
                self.partition.observe(
                    failure_risk.finding(judged, reasons, codes, end_ms, end_ms, subsystem=subsystem, **names)
                )

    def rules(self, end_ms: int) -> None:
        """A fault now and then."""
        for device in self.devices:
            if next(self.numbers) % round(1 / FAULTS_AN_HOUR):
                continue
            subsystem = SUBSYSTEMS[next(self.numbers) % 3]
            device.health[subsystem].fault(end_ms, "warning")
            code = f"{subsystem[:1].upper()}-warning"
            judgement = device.rules.fault(end_ms, code, "warning", subsystem)
            if judgement is not None:
                self.partition.observe(fault_rules.finding(judgement, **self.partition.names(device.entry)))
            fault = Fault(end_ms, code, "warning", subsystem, "")
            patterns.told(self.partition, device, fault, judgement is not None)

    def due(self, end_ms: int) -> None:
        """A day of two counters and a limit on each, and the dates, once a day."""
        if end_ms % DAY_MS:
            return
        day = end_ms // DAY_MS - 1
        for device in self.devices:
            for metric in ("tests", "hours"):
                limit = Limit(metric=metric, every=3000.0)
                device.dues.counter(metric, day, 1.0, float(next(self.numbers) % 200))
                judged, _ = device.dues.judge(metric, limit, day, 100.0, 2500.0)
                if judged is not None:
                    names = self.partition.names(device.entry)
                    self.partition.observe(due.limit_finding(judged, metric, limit, "h", **names))
            dues.dates(self.partition, device, end_ms)

    def budget(self, end_ms: int) -> None:
        """A candidate of each of nine gauges an hour, of each subsystem each 3 h; most are calm."""
        budget = budget_of(self.partition, "analyser")
        for device in self.devices:
            device_id = device.entry.device_id
            for i in range(12):
                odds = 3.0 if next(self.numbers) % 500 == 0 else -6.0
                budget.observe("usage_drop", (device_id, SUBSYSTEMS[i % 3]), end_ms, odds)
        if end_ms % DAY_MS == 0:
            budget.watched(len(self.devices))
            budget.absorb([budget.contribution()])

    def ticks(self, end_ms: int) -> None:
        """A second each, for as many devices as a partition of a large fleet has."""
        seconds = 3600 * DEVICES // PARTITION
        for second in range(seconds):
            self.partition.apply(Tick("bench", end_ms + (second - seconds) * 1000))

    def refit(self, end_ms: int) -> None:
        """The trees of failure risk, each day: at most one model's are fitted a day, whatever the number of devices."""
        if end_ms % DAY_MS == 0:
            self.trees.refit()

    def customers(self, end_ms: int) -> None:
        """The summary of a day, once."""
        if end_ms % DAY_MS == 0:
            for customer_id, devices in self.partition.places.of_customer.items():
                days = [DeviceDay(each.entry.device_id, 90.0, 96.0, "reporting") for each in devices]
                self.partition.shared.desk.day(customer_id, end_ms, days)

    def hours(self) -> Iterator[int]:
        """Ends of the day's hours."""
        yield from range(self.now_ms + HOUR_MS, self.now_ms + (HOURS + 1) * HOUR_MS, HOUR_MS)


PARTS: dict[str, Callable[[Day, int], None]] = {
    "silence": Day.silence,
    "usage_drop": Day.usage,
    "subsystem_health": Day.health,
    "sensors": Day.sensors,
    "failure_risk": Day.risk,
    "fault_rules": Day.rules,
    "due": Day.due,
    "budget": Day.budget,
    "ticks": Day.ticks,
    "refit": Day.refit,
    "customers": Day.customers,
}


def day(grown: Partition) -> dict[str, float]:
    """CPU by part in us for a device-hour."""
    fleet = Day(grown)
    spent = dict.fromkeys(PARTS, 0.0)
    for end_ms in fleet.hours():
        for name, part in PARTS.items():
            begun = process_time()
            part(fleet, end_ms)
            spent[name] += process_time() - begun
        fleet.partition.effects.clear()
    spent["refit"] *= DEVICES / PARTITION
    return {name: 1e6 * each / (HOURS * DEVICES) for name, each in spent.items()}


SERIES: dict[str, tuple[Callable[[], Any], Callable[[Any, int, float], Any], int, float | None, str]] = {
    "usage_drop_us_per_update": (
        UsageDrop, lambda made, place, value: made.update((place + 1) * HOUR_MS, value), 24 * 182, 30,
        "hours, the judgement of each day included",
    ),
    "usage_drop_us_per_daily_update": (
        UsageDrop, lambda made, place, value: made.update((place + 1) * DAY_MS, 30 + value), 182, 30,
        "days: each update judges one",
    ),
    "sensor_anomaly_us_per_update": (
        SensorAnomaly, lambda made, place, value: made.update(place * 300_000, value), 17_280, 30, "one sensor",
    ),
    "change_point_us_per_update": (ChangePoint, lambda made, _, value: made.update(value), 3_000, None, "one metric"),
}  # fmt: skip
"""By figure: what makes a detector, how it takes the value at a place, how many values, the bar and a note."""


def us_per_update(make: Callable[[], Any], take: Callable[[Any, int, float], Any], many: int) -> float:
    """CPU in us of an update on a made-up series."""
    made, rng = make(), random.Random(1)
    values = [float(rng.randrange(9)) for _ in range(many)]
    begun = process_time()
    for place, value in enumerate(values):
        take(made, place, value)
    return 1e6 * (process_time() - begun) / many


def risk_costs(grown: Partition) -> tuple[float, float]:
    """CPU in us of a decision, features and explanation included, and of a label; over a day of the partition."""
    fleet = Day(grown)
    risk, learned = fleet.partition.shared.risk, fleet.learned
    deciding = learning = 0.0
    decided = labels = 0
    for end_ms in fleet.hours():
        begun = process_time()
        known = risk.mature(end_ms)
        learned.learn(known)
        learning += process_time() - begun
        labels += len(known)
        begun = process_time()
        for device in fleet.devices:
            for subsystem, health in device.health.items():
                features = health.features(end_ms, 400 * DAY_MS, 9 * DAY_MS) | health.trends(end_ms)
                ages_h = health.ages_h(end_ms)
                judged = risk.judge(learned, end_ms, device.entry.device_id, subsystem, features, ages_h, "analyser")
                if judged.score >= EXPLAINED_FROM:
                    learned.reasons("analyser", judged.signs)
                decided += 1
        deciding += process_time() - begun
    return 1e6 * deciding / decided, 1e6 * learning / max(1, labels)


def full_trees() -> RefittedTrees:
    """Trees before a fit to as many examples and columns as there ever are, all of them noise."""
    trees, rng = RefittedTrees(), np.random.default_rng(1)
    for _ in range(trees.WIDE):
        trees.widen(math.nan)
    for row in rng.normal(size=(trees.MOST, trees.WIDE)).astype(np.float32):
        trees.learn(row, bool(row[:3].sum() + rng.normal() > 4), 1.0)
    return trees


def updates(grown: Partition) -> None:
    """Report what single updates cost."""
    for key, (make, take, many, most, note) in SERIES.items():
        us_per_update(make, take, many)
        report(key, [us_per_update(make, take, many) for _ in range(REPEATS)], "us", at_most=most, note=note)
    decisions, labels = zip(*(risk_costs(grown) for _ in range(REPEATS)), strict=True)
    report("failure_risk_us_per_decision", decisions, "us", at_most=300, note="features included")
    report("failure_risk_us_per_label", labels, "us", at_most=200, note="refits apart")
    trees = full_trees()
    begun = process_time()
    trees.refit()
    refit_s = process_time() - begun
    note = f"{trees.many} examples of {trees.WIDE} columns of noise, the most there are"
    report("failure_risk_s_per_refit", refit_s, "s", at_most=1, note=note)


def main() -> None:
    """Measure and report."""
    grown = template()
    updates(grown)
    days = [day(grown) for _ in range(REPEATS)]
    for name in PARTS:
        report(f"detector_us_per_device_hour.{name}", [each[name] for each in days], "us")
    report(
        "detector_us_per_device_hour",
        [sum(each.values()) for each in days],
        "us",
        at_most=500,
        note="all detectors, and the desk that hears their findings; ten metrics, a message each 100 s",
    )


if __name__ == "__main__":
    main()
