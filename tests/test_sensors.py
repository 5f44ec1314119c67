"""Gauges of a device: surprising hours and shifted levels, as they are found, told and judged."""

import math
import pickle
import random
from collections.abc import Callable

import pytest

from detectors.sensor_watch import EVEN, NOTHING, SensorWatch, SpanJudgement
from schema.catalogue import load_catalogue
from schema.messages import Fault, Message, Reading
from schema.record import Tick, decode, encode_telemetry
from schema.registry import Calendar, Customer, Device, RegistryEntry, Site
from schema.rows import AlertRow
from simulator.findings import FiredAlert
from simulator.judge import is_false_sensor_alert
from simulator.truth import Churn, DeviceDrop, Fact, Failure, FalsePrecursor, Truth
from streams.partition import Partition

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
Level = Callable[[int], float]


def calm(hour: int) -> float:
    """Warmer by day and on working days, with noise."""
    noise = random.Random(hour).gauss(0, 0.5)
    return 40 + 3 * math.sin(hour % 24 / 24 * math.tau) + (4 if hour // 24 % 7 < 5 else 0) + noise


def watched(level: Level, days: int, watch: SensorWatch | None = None, first: int = 0) -> list[SpanJudgement]:
    watch = SensorWatch() if watch is None else watch
    hours = range(24 * first, 24 * (first + days))
    judged = [watch.window((hour + 1) * HOUR_MS, {"tube_cel": level(hour)}) for hour in hours]
    return [each for each in judged if each is not None]


def shifts(judged: list[SpanJudgement]) -> list[tuple[float, float]]:
    """(told, onset) in days."""
    return [(each.end_ms / DAY_MS, each.shifts[0].onset_ms / DAY_MS) for each in judged if each.shifts]


def test_a_shifted_level_is_told_once_with_its_onset_and_both_levels() -> None:
    judged = watched(lambda hour: calm(hour) + (3 if hour >= 24 * 40 else 0), 70)
    [(told, onset)] = shifts(judged)
    assert onset == pytest.approx(40, abs=0.5)
    assert told < 44
    [found] = [each for each in judged if each.shifts]
    assert found.shifts[0].after - found.shifts[0].before == pytest.approx(3, abs=0.7)
    assert found.shift_odds >= EVEN


def test_the_rhythm_of_day_and_week_is_no_shift_and_no_surprise() -> None:
    judged = watched(calm, 120)
    assert shifts(judged) == []
    assert max(each.surprise_odds for each in judged) < 9


def test_a_repair_explains_a_shift() -> None:
    watch = SensorWatch()
    watched(calm, 40, watch)
    watch.restored()
    assert shifts(watched(lambda hour: calm(hour) + 3, 20, watch, first=40)) == []


def test_an_hour_unlike_all_before_is_a_surprise_that_names_it() -> None:
    judged = watched(lambda hour: calm(hour) + (25 if hour == 24 * 50 + 13 else 0), 55)
    loudest = max(judged, key=lambda each: each.surprise_odds)
    assert loudest.surprise is not None
    assert loudest.surprise.end_ms == (24 * 50 + 14) * HOUR_MS
    assert loudest.surprise.odds > 12
    assert loudest.surprise.observed - loudest.surprise.expected > 20


def test_nothing_is_told_before_there_is_a_history() -> None:
    judged = watched(lambda hour: calm(hour) + (25 if hour == 60 else 0), 5)
    assert {each.surprise_odds for each in judged} == {NOTHING}
    assert {each.shift_odds for each in judged[:8]} == {NOTHING}


def test_hours_of_a_judged_span_and_values_that_are_no_numbers_change_nothing() -> None:
    one, other = SensorWatch(), SensorWatch()
    watched(calm, 20, one)
    watched(calm, 20, other)
    assert other.window(HOUR_MS, {"tube_cel": 999.0}) is None
    for missing in (math.nan, math.inf, None):
        other.window(20 * DAY_MS, {"tube_cel": missing})
    assert watched(calm, 5, one, 20) == watched(calm, 5, other, 20)


def test_hours_before_there_is_a_gauge_change_nothing() -> None:
    late, watch = SensorWatch(), SensorWatch()
    for hour in range(24 * 3):
        assert late.window((hour + 1) * HOUR_MS, {}) is None
    assert watched(calm, 30, late, first=3) == watched(calm, 30, watch, first=3)


def test_after_a_long_silence_levels_are_learnt_anew() -> None:
    watch = SensorWatch()
    watched(calm, 40, watch)
    assert shifts(watched(lambda hour: calm(hour) + 8, 30, watch, first=100)) == []


def test_a_watch_from_a_snapshot_goes_on_as_if_nothing_had_happened() -> None:
    watch = SensorWatch()
    watched(calm, 30, watch)
    copy = pickle.loads(pickle.dumps(watch))

    def shifted(hour: int) -> float:
        return calm(hour) + 3

    assert watched(shifted, 10, copy, 30) == watched(shifted, 10, watch, 30)


def test_three_gauges_take_less_than_2_kilobytes() -> None:
    watch = SensorWatch()
    for hour in range(24 * 60):
        watch.window((hour + 1) * HOUR_MS, {name: calm(hour) for name in ("a_cel", "b_cel", "c_kpa")})
    assert len(pickle.dumps(watch)) < 2000


class Clinic:
    """One CT whose tube is looked at hour by hour."""

    def __init__(self, *calendars: Calendar) -> None:
        self.partition = Partition(0, load_catalogue())
        site = Site(site_id="s", customer_id="c", name="s", country="DE")
        device = Device(device_id="d", model="ct", site_id="s", customer_id="c", installed_ms=0)
        entries: tuple[RegistryEntry, ...] = (Customer(customer_id="c", name="c"), site, device, *calendars)
        self.partition.apply(entries)
        self.partition.apply(Tick("bridge", DAY_MS, "joined"))
        self.hour, self.boot = 24, 1
        self.seen: list[AlertRow] = []

    def live(self, days: float, level: Level = calm, fault: Fault | None = None) -> None:
        for _ in range(round(24 * days)):
            value, at_ms = level(self.hour), (self.hour + 1) * HOUR_MS
            n = self.partition.catalogue["ct"].metrics["tube_cel"].quantise(value)
            readings = tuple(Reading(at_ms - 600_000 * i - 1, "tube_cel", n) for i in range(5, -1, -1))
            faults, fault = () if fault is None else (fault,), None
            message = Message("d", "telemetry", self.boot, self.hour, at_ms, at_ms, readings, faults)
            self.partition.apply(decode(encode_telemetry([message], source="bridge", receive_ms=at_ms)))
            self.partition.apply(Tick("bridge", at_ms))
            self.seen += [row for row in self.partition.effects.rows.values() if isinstance(row, AlertRow)]
            self.partition.effects.clear()
            self.hour += 1

    def alerts(self, detector: str) -> list[AlertRow]:
        """The last row of each alert."""
        return list({row.alert_id: row for row in self.seen if row.detector == detector}.values())


def test_people_hear_of_a_shifted_level_as_information_and_it_ends_by_itself() -> None:
    clinic = Clinic()
    clinic.live(40)
    clinic.live(12, lambda hour: calm(hour) + 4)
    [alert] = clinic.alerts("level_shift")
    assert (alert.subsystem, alert.severity, alert.state) == ("tube", "info", "resolved")
    assert alert.onset_at == pytest.approx(41 * DAY_MS, abs=DAY_MS // 2)
    [level] = alert.evidence["levels"]
    assert level["metric"] == "tube_cel"
    assert level["after"] - level["before"] == pytest.approx(4, abs=1)
    assert alert.work_order_id is None


def test_people_hear_of_an_unusual_hour_and_it_ends_when_all_is_as_usual() -> None:
    clinic = Clinic()
    clinic.live(40)
    clinic.live(5, lambda hour: calm(hour) + (30 if hour == 41 * 24 + 3 else 0))
    [alert] = clinic.alerts("sensor_anomaly")
    assert (alert.subsystem, alert.severity, alert.state) == ("tube", "info", "resolved")
    assert alert.evidence["metric"] == "tube_cel"
    assert clinic.alerts("level_shift") == []


@pytest.mark.parametrize("days_between", [0.5, 3, 5], ids=["within its time", "just after", "later"])
def test_alerts_of_surprises_end_when_all_is_as_usual_however_often_they_came(days_between: float) -> None:
    first = 41 * 24 + 3
    loud = {first, first + round(24 * days_between), first + round(48 * days_between)}
    clinic = Clinic()
    clinic.live(40)
    clinic.live(24, lambda hour: calm(hour) + (30 + 20 * (hour - first) / 24 if hour in loud else 0))
    assert {alert.state for alert in clinic.alerts("sensor_anomaly")} == {"resolved"}


def test_the_alert_of_a_surprise_before_a_gap_ends_when_the_device_is_heard_again() -> None:
    clinic = Clinic()
    clinic.live(40)
    clinic.live(1 + 5 / 24, lambda hour: calm(hour) + (30 if hour == 41 * 24 + 3 else 0))
    clinic.hour += 5 * 24
    clinic.live(3)
    [alert] = clinic.alerts("sensor_anomaly")
    assert alert.state == "resolved"


def test_planned_maintenance_is_left_out() -> None:
    day = 41
    planned = Calendar(
        calendar_id="m", kind="maintenance", name="m", from_ms=day * DAY_MS, until_ms=(day + 1) * DAY_MS, site_id="s"
    )
    clinic = Clinic(planned)
    clinic.live(40)
    clinic.live(8, lambda hour: calm(hour) + (30 if hour // 24 == day else 0))
    assert clinic.alerts("sensor_anomaly") == clinic.alerts("level_shift") == []


def test_other_levels_after_a_repair_are_not_told() -> None:
    clinic = Clinic()
    clinic.live(40)
    clinic.live(1, fault=Fault(41 * DAY_MS + 1, "XR-900", "critical", "tube", ""))
    clinic.boot = 42 * DAY_MS
    clinic.live(10, lambda hour: calm(hour) + 4)
    assert clinic.alerts("fault_rule") != []
    assert clinic.alerts("level_shift") == []


def alert(onset: float, fired: float, subsystem: str = "tube") -> FiredAlert:
    at = round(onset * DAY_MS), round(fired * DAY_MS)
    return FiredAlert("d", "s", "c", "DE", "level_shift", subsystem, "info", *at, None)


def judged(found: FiredAlert, *facts: Fact) -> bool:
    return is_false_sensor_alert(found, Truth(facts))


SIGNS = FalsePrecursor(
    device_id="d", customer_id="c", subsystem="tube", from_ms=20 * DAY_MS, peak_ms=22 * DAY_MS, until_ms=24 * DAY_MS
)
FAILURE = Failure(
    device_id="d", customer_id="c", subsystem="tube", code="XR-900", part_ids=(),
    at_ms=25 * DAY_MS, repaired_ms=26 * DAY_MS, precursor_ms=20 * DAY_MS,
)  # fmt: skip


@pytest.mark.parametrize("fact", [SIGNS, FAILURE], ids=["signs", "failure"])
def test_an_alert_during_signs_is_true_and_one_before_or_of_another_subsystem_is_false(fact: Fact) -> None:
    assert not judged(alert(20.5, 22), fact)
    assert judged(alert(17, 19), fact)
    assert judged(alert(20.5, 22, "gantry"), fact)
    assert judged(alert(30, 31), fact)


def test_levels_that_follow_the_use_of_a_device_are_true() -> None:
    left = Churn(customer_id="c", kind="step", onset_ms=20 * DAY_MS, full_ms=20 * DAY_MS, decline=0.6)
    moved = DeviceDrop(device_id="other", customer_id="c", onset_ms=20 * DAY_MS, decline=0.5, moved_to="d")
    for fact in (left, moved):
        assert not judged(alert(20.5, 24), fact)
        assert judged(alert(15, 17), fact)
        assert judged(alert(40, 42), fact)
