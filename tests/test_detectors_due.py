"""Due dates: when a counter reaches its limit, what planned work follows, and what sets it back."""

import math
import pickle
import random
from pathlib import Path

import pytest
from msgspec.structs import replace

import schema
from detectors.counter_forecast import CounterForecast
from detectors.due import Dues
from schema.catalogue import CatalogueError, Limit, load_catalogue, parse_model
from schema.commands import CloseWorkOrder
from schema.messages import Message, Reading
from schema.record import Tick, decode, encode_telemetry
from schema.registry import Customer, Device, Site
from schema.rows import AlertRow, WorkOrderRow
from streams.pane_rows import DAY_MS, HOUR_MS
from streams.partition import Partition

MONDAY = 4
CATALOGUE = load_catalogue()


def week(day: int, busy: float = 10.0) -> float:
    return busy if (day - MONDAY) % 7 < 5 else 0.0


def grown(days: int, seed: int = 0, level: float = 1.0) -> CounterForecast:
    forecast, rng = CounterForecast(), random.Random(seed)
    for day in range(MONDAY, MONDAY + days):
        forecast.update(day, 1.0, max(0.0, week(day, level * 10) * rng.gauss(1, 0.2)))
    return forecast


def test_a_weekend_without_work_puts_the_day_off() -> None:
    forecast = grown(84)
    friday = MONDAY + 84 + 4
    assert forecast.forecast(friday, 9.0).days <= 1.2
    assert 3.0 < forecast.forecast(friday, 15.0).days <= 4.2


def test_eight_of_ten_forecasts_hold_within_their_deciles() -> None:
    held = 0
    for seed in range(200):
        forecast, rng = grown(90, seed), random.Random(f"then {seed}")
        day, left, took = MONDAY + 90, 140.0, 0
        said = forecast.forecast(day, left)
        while left > 0:
            left -= max(0.0, week(day + took) * rng.gauss(1, 0.2))
            took += 1
        held += said.early_days - 1 <= took <= said.late_days + 1
    assert held >= 160


@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf])
def test_a_day_whose_growth_is_no_number_does_not_blind_a_limit(missing: float) -> None:
    dues, limit = Dues(), Limit(metric="scans", every=1000.0)
    for day in range(60):
        growth, reading = (missing, missing) if day in (0, 30) else (12.0, 12.0 * day)
        dues.counter("scans", day, 1.0, growth)
        judged, _ = dues.judge("tube", limit, day, growth, reading)
    assert judged is not None
    assert judged.used == 12.0 * 58
    assert 0 <= judged.chance < 1


@pytest.mark.parametrize("growth", [math.nan, math.inf, -math.inf, -5.0])
def test_growth_that_is_no_number_changes_no_forecast(growth: float) -> None:
    told, untold = grown(84), grown(84)
    told.update(MONDAY + 84, 1.0, growth)
    told.update(MONDAY + 84, math.nan, 10.0)
    for day in range(MONDAY + 85, MONDAY + 140):
        told.update(day, 1.0, week(day))
        untold.update(day, 1.0, week(day))
    assert told.forecast(MONDAY + 140, 60.0) == untold.forecast(MONDAY + 140, 60.0)
    assert 0 < told.chance(MONDAY + 140, 60.0, 9) == untold.chance(MONDAY + 140, 60.0, 9) < 1


def test_a_counter_whose_growth_changes_is_less_certain() -> None:
    calm, wild = grown(180), CounterForecast()
    for day in range(MONDAY, MONDAY + 180):
        wild.update(day, 1.0, week(day, 16.0 if day // 28 % 2 else 4.0))
    spans = [each.forecast(MONDAY + 180, 200.0) for each in (calm, wild)]
    widths = [(span.late_days - span.early_days) / span.days for span in spans]
    assert widths[1] > 1.5 * widths[0]


def test_growth_after_a_gap_is_that_of_all_its_days() -> None:
    whole, gap = grown(84), grown(84)
    for day in range(MONDAY + 84, MONDAY + 91):
        whole.update(day, 1.0, week(day))
    gap.update(MONDAY + 90, 7.0, 50.0)
    assert gap.level == pytest.approx(whole.level, rel=0.05)


def test_one_wild_day_does_not_move_the_forecast_much() -> None:
    calm, wild = grown(84), grown(84)
    calm.update(MONDAY + 84, 1.0, 10.0)
    wild.update(MONDAY + 84, 1.0, 10_000.0)
    assert wild.level < 1.25 * calm.level


def test_a_counter_that_stands_still_is_never_due() -> None:
    still = CounterForecast()
    for day in range(60):
        still.update(day, 1.0, 0.0)
    assert still.chance(60, 5.0, 21) == 0.0
    assert still.forecast(60, 5.0).days == CounterForecast.FARTHEST


def test_a_forecast_survives_a_snapshot() -> None:
    forecast = grown(84)
    copy = pickle.loads(pickle.dumps(forecast))
    assert copy.forecast(MONDAY + 84, 100.0) == forecast.forecast(MONDAY + 84, 100.0)
    assert len(pickle.dumps(forecast)) < 600


def test_the_chance_is_even_where_the_median_day_is_the_last_of_the_lead_time() -> None:
    forecast = grown(84)
    said = forecast.forecast(MONDAY + 84, 150.0)
    assert forecast.chance(MONDAY + 84, 150.0, round(said.days) - 2) < 0.5 < forecast.chance(
        MONDAY + 84, 150.0, round(said.days) + 2
    )


def test_services_before_the_first_reading_were_at_whole_multiples() -> None:
    dues, limit = Dues(), Limit(metric="scans", every=1000.0)
    assert dues.judge("x", limit, MONDAY, 0.0, 23_400.0) == (None, None)
    dues.counter("scans", MONDAY + 1, 1.0, 10.0)
    judged, _ = dues.judge("x", limit, MONDAY + 1, 10.0, 23_410.0)
    assert judged is not None
    assert judged.remaining == 590.0


def test_what_was_foretold_is_compared_with_what_came() -> None:
    dues, limit = Dues(), Limit(metric="scans", every=500.0, lead_days=14)
    judged, told = dues.judge("x", limit, 0, 0.0, 0.0)
    for day in range(1, 80):
        dues.counter("scans", day, 1.0, 10.0)
        judged, told = dues.judge("x", limit, day, 10.0, 10.0 * day)
        if told is not None:
            break
    assert judged is not None
    assert told is not None
    assert judged.remaining == 0.0
    assert abs(told.error_days) <= 1
    assert told.within
    assert dues.judge("x", limit, 90, 10.0, 0.0)[1] is None


def test_the_first_periodic_service_is_at_the_next_whole_interval() -> None:
    dues = Dues()
    assert dues.next_service_ms(0, 180 * DAY_MS, 400 * DAY_MS) == 540 * DAY_MS
    assert dues.next_service_ms(0, 180 * DAY_MS, 600 * DAY_MS) == 540 * DAY_MS
    dues.served("service", 610 * DAY_MS)
    assert dues.next_service_ms(0, 180 * DAY_MS, 650 * DAY_MS) == 790 * DAY_MS


START_MS = 2_000 * DAY_MS


class Hospital:
    """A CT that makes 240 scans a day, one message an hour; `days` passes and gives the rows of that time."""

    def __init__(self, **dates: int) -> None:
        self.partition = Partition(0, CATALOGUE)
        device = Device(
            device_id="d", model="ct", site_id="s", customer_id="c", installed_ms=START_MS - 10 * DAY_MS
        )
        device = replace(device, **{name: START_MS + days * DAY_MS for name, days in dates.items()})
        site = Site(site_id="s", customer_id="c", name="s")
        self.partition.apply((Customer(customer_id="c", name="c"), site, device))
        self.partition.apply(Tick("bridge", START_MS, "joined"))
        self.hour = 0

    def days(self, days: float) -> tuple[dict[tuple[str, str], AlertRow], list[WorkOrderRow]]:
        alerts: dict[tuple[str, str], AlertRow] = {}
        orders: dict[str, WorkOrderRow] = {}
        for _ in range(round(24 * days)):
            self.hour += 1
            at_ms = START_MS + self.hour * HOUR_MS
            reading = Reading(at_ms - 1, "scans", 100 + 10 * self.hour)
            message = Message("d", "telemetry", 1, self.hour, at_ms, at_ms, (reading,))
            self.partition.apply(decode(encode_telemetry([message], source="bridge", receive_ms=at_ms)))
            self.partition.apply(Tick("bridge", at_ms))
            for row in self.partition.effects.rows.values():
                if isinstance(row, AlertRow):
                    alerts[row.detector, row.subsystem] = row
                if isinstance(row, WorkOrderRow):
                    orders[row.work_order_id] = row
            self.partition.effects.clear()
        return alerts, list(orders.values())

    def done(self, order: WorkOrderRow) -> None:
        close = CloseWorkOrder(command_id="1", actor="t", work_order_id=order.work_order_id, outcome="confirmed")
        self.partition.apply((close,))


def test_a_limit_within_reach_opens_planned_work_until_the_day_it_is_due() -> None:
    #  0 d          12 d                    33 d
    #  |-------------|-----------------------|
    #  100 scans     ~3,000: 21 days left    8,000
    alerts, orders = Hospital().days(16)
    found = alerts["due", "gantry_service"]
    assert (found.state, found.severity) == ("firing", "info")
    (order,) = orders
    assert (order.kind, order.subsystem, order.priority, order.skill) == ("preventive", "gantry_service", "P4", "ct")
    assert START_MS + 29 * DAY_MS < order.due_at < START_MS + 37 * DAY_MS


def test_maintenance_sets_the_counter_back_and_ends_the_alert() -> None:
    hospital = Hospital()
    _, (order,) = hospital.days(16)
    hospital.done(order)
    alerts, orders = hospital.days(8)
    assert alerts["due", "gantry_service"].state == "resolved"
    assert [each.work_order_id for each in orders] == [order.work_order_id]
    assert hospital.partition.devices["d"].dues.limits["gantry_service"].used < 240 * 9


def test_dates_of_the_registry_come_up_before_they_pass() -> None:
    hospital = Hospital(calibration_due_ms=25, warranty_until_ms=100, contract_until_ms=62)
    alerts, orders = hospital.days(3)
    assert ("due", "calibration") not in alerts
    assert alerts["expiring", "contract"].state == "firing"
    assert orders == []
    alerts, orders = hospital.days(4)
    assert ("expiring", "warranty") not in alerts
    assert [(order.kind, order.subsystem) for order in orders] == [("preventive", "calibration")]


def test_a_warranty_that_has_ended_expires_no_more() -> None:
    hospital = Hospital(warranty_until_ms=-900, contract_until_ms=20)
    alerts, _ = hospital.days(19)
    assert ("expiring", "warranty") not in alerts
    assert alerts["expiring", "contract"].state == "firing"
    alerts, _ = hospital.days(2)
    assert alerts["expiring", "contract"].state == "resolved"


def test_a_date_that_the_registry_takes_back_is_due_no_more() -> None:
    hospital = Hospital(calibration_due_ms=5, contract_until_ms=20)
    alerts, _ = hospital.days(2)
    assert {alerts["due", "calibration"].state, alerts["expiring", "contract"].state} == {"firing"}
    known = hospital.partition.devices["d"].entry
    hospital.partition.apply((replace(known, calibration_due_ms=0, contract_until_ms=0),))
    alerts, _ = hospital.days(4)
    assert {alerts["due", "calibration"].state, alerts["expiring", "contract"].state} == {"resolved"}


def test_planned_work_is_not_what_a_customer_complains_of() -> None:
    hospital = Hospital()
    _, (order,) = hospital.days(16)
    hospital.done(order)
    hospital.days(1)
    service = hospital.partition.shared.desk._customers._record("c").service.score(START_MS + 17 * DAY_MS)
    assert (service.requests, service.repair_ms) == (0, None)


@pytest.mark.parametrize("change", ['metric = "tube_cel"', 'metric = "scans"\nparts = ["x"]', 'metric = "ghost"'])
def test_a_limit_that_makes_no_sense_is_refused(change: str) -> None:
    text = (Path(schema.__file__).parent / "catalogue_data" / "ct.toml").read_text("utf-8")
    with pytest.raises(CatalogueError, match=r"limits\.mine"):
        parse_model("ct.toml", f"{text}\n[limits.mine]\nevery = 5\n{change}\n")
