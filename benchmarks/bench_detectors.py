"""(h) What the detectors cost: CPU for one hour of one device of ten metrics, each detector, and all added up.

The devices have five weeks of life behind them (`benchmarks.population`). Of an hour a detector gets what the pipeline
gives it: a message each 100 s, one closed window a gauge, one of usage, a judgement of each subsystem each 3 h with the
finding that comes of it, and its share of ticks and of the day's summary. Ticks come each second, as in real time.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import count
from time import process_time

from alerting.usage import DeviceDay
from benchmarks.population import DEVICES, START_MS, SUBSYSTEMS, WEEKS, template
from benchmarks.report import report
from detectors import failure_risk, fault_rules, usage_drop
from schema.record import Tick
from streams.device import DeviceState
from streams.panes import DAY_MS, HOUR_MS
from streams.partition import Partition

REPEATS = 5
HOURS = 24
MESSAGES_AN_HOUR = 36
FAULTS_AN_HOUR = 0.015
"""Of a device in the simulated fleet."""


class Day:
    """The detectors of a partition at work for a day more, one after the other; each method is one hour of all."""

    def __init__(self, grown: Partition) -> None:
        self.partition = deepcopy(grown)
        self.now_ms = START_MS + WEEKS * 7 * DAY_MS
        self.devices: list[DeviceState] = list(self.partition.devices.values())
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
            day = device.usage.day
            judgement = device.usage.update(end_ms, float(next(self.numbers) % 9))
            device.judged_hour(end_ms, 4.0, expected)
            if day != device.usage.day:
                names = self.partition.names(device.entry)
                self.partition.observe(usage_drop.finding(judgement, end_ms - HOUR_MS, **names))

    def health(self, end_ms: int) -> None:
        """The windows of nine gauges."""
        for device in self.devices:
            for i in range(9):
                device.health[SUBSYSTEMS[i % 3]].window(end_ms, f"gauge_{i}", 20 + next(self.numbers) % 7 / 10, 36)

    def risk(self, end_ms: int) -> None:
        """Features, judgement, finding and, later, learning."""
        if end_ms % (3 * HOUR_MS):
            return
        risk = self.partition.shared.risk
        risk.mature(end_ms)
        for device in self.devices:
            for subsystem, health in device.health.items():
                features = health.features(end_ms, 400 * DAY_MS, 9 * DAY_MS)
                codes = device.codes_since(subsystem, end_ms - 7 * DAY_MS)
                judged = risk.judge(end_ms, device.entry.device_id, subsystem, features)
                names = self.partition.names(device.entry)
                self.partition.observe(
                    failure_risk.finding(
                        judged, risk.threshold, features, codes, end_ms, end_ms, subsystem=subsystem, **names
                    )
                )

    def rules(self, end_ms: int) -> None:
        """A fault now and then."""
        for device in self.devices:
            if next(self.numbers) % round(1 / FAULTS_AN_HOUR):
                continue
            subsystem = SUBSYSTEMS[next(self.numbers) % 3]
            device.health[subsystem].fault(end_ms, "warning")
            judgement = device.rules.fault(end_ms, f"{subsystem[:1].upper()}-warning", "warning", subsystem)
            if judgement is not None:
                self.partition.observe(fault_rules.finding(judgement, **self.partition.names(device.entry)))

    def ticks(self, end_ms: int) -> None:
        """A second each, for as many devices as a partition of a large fleet has."""
        for second in range(36):  # of 3,600, for these devices are as much fewer than 6,000
            self.partition.apply(Tick("bench", end_ms - 36_000 + second * 1000))

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
    "failure_risk": Day.risk,
    "fault_rules": Day.rules,
    "ticks": Day.ticks,
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
    return {name: 1e6 * each / (HOURS * DEVICES) for name, each in spent.items()}


def main() -> None:
    """Measure and report."""
    grown = template()
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
