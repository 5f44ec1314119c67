"""What a device of the fleet does: rhythm, counters, standing still, signs before failures, messages and outages."""

import json
from collections import defaultdict
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from simulator.fleet import DAY_MS
from simulator.scenario import Publication, Scenario
from simulator.track import Track
from simulator.wire import State, Telemetry, encode


@pytest.fixture(scope="module")
def fleet() -> Scenario:
    return Scenario(11)


@pytest.fixture(scope="module")
def published(small_scenario: Scenario) -> list[Publication]:
    return list(small_scenario.publications())


def increments(scenario: Scenario, track: Track) -> np.ndarray:
    model = scenario.catalogue[track.machine.model]
    wrap = model.metrics[model.usage_metric].wrap
    steps = np.diff(track.values[model.usage_metric])
    wrapped = steps + (wrap or 0)
    return np.where(steps >= 0, steps, np.where(wrapped < 200, wrapped, 0).clip(0))


def by_model(scenario: Scenario, model: str) -> list[Track]:
    return [track for track in scenario.tracks if track.machine.model == model]


@pytest.mark.parametrize(
    ("model", "night", "weekend"),
    [("mri", 0.35, 0.5), ("ct", 0.6, 0.75), ("ultrasound", 0.35, 0.4), ("ivd", 0.6, 0.75), ("infusion_pump", 0.9, 1.0)],
)
def test_nights_and_weekends_are_quieter(fleet: Scenario, model: str, night: float, weekend: float) -> None:
    use = {"day": 0.0, "night": 0.0, "weekend": 0.0}
    hours = {"day": 0, "night": 0, "weekend": 0}
    for track in by_model(fleet, model)[:8]:
        zone = ZoneInfo(track.machine.timezone)
        for at_ms, count in zip(track.at_ms[1:2000].tolist(), increments(fleet, track)[:1999].tolist(), strict=True):
            local = datetime.fromtimestamp(at_ms / 1000, zone)
            part = "weekend" if local.weekday() >= 5 else "day" if 8 <= local.hour < 17 else "night"
            use[part] += count
            hours[part] += 1
    rate = {part: use[part] / hours[part] for part in use}
    assert rate["night"] < night * rate["day"]
    assert rate["weekend"] < weekend * rate["day"]


def test_ventilators_run_day_and_night(fleet: Scenario) -> None:
    for track in by_model(fleet, "ventilator")[:8]:
        hourly = increments(fleet, track)[: 6 * 24 * 7].reshape(-1, 6).sum(axis=1).reshape(7, 24).sum(axis=0)
        assert hourly.min() > 0.6 * hourly.max()
        assert hourly.max() <= 700


def test_a_counter_goes_back_only_where_it_wraps_or_after_a_boot(fleet: Scenario) -> None:
    wraps = resets = 0
    for track in fleet.tracks:
        model = fleet.catalogue[track.machine.model]
        wrap = model.metrics[model.usage_metric].wrap
        values = track.values[model.usage_metric]
        for index in np.flatnonzero(np.diff(values) < 0):
            booted = any(track.at_ms[index] < boot <= track.at_ms[index + 1] for boot in track.boots_ms)
            near_wrap = wrap is not None and values[index] > wrap - 200
            assert booted or near_wrap
            wraps += near_wrap and not booted
            resets += booted
    assert wraps >= 3
    assert resets >= 20


def test_every_gauge_stays_in_the_range_of_the_catalogue(fleet: Scenario) -> None:
    for track in fleet.tracks:
        for name, steps in track.values.items():
            metric = fleet.catalogue[track.machine.model].metrics[name]
            values = steps / metric.steps_per_unit
            assert metric.min <= values.min()
            assert values.max() <= metric.max


def test_a_failed_device_reports_its_stop_stands_still_and_boots_when_repaired(fleet: Scenario) -> None:
    for failure in fleet.troubles.failures[:40]:
        track = fleet.track_of[failure.device_id]
        stops = [plan for plan in track.messages if plan.fault and plan.fault.code == failure.code]
        assert any(0 <= plan.at_ms - failure.at_ms < 5000 for plan in stops)
        during = (track.at_ms > failure.at_ms) & (track.at_ms < failure.repaired_ms)
        usage = track.values[fleet.catalogue[track.machine.model].usage_metric][during]
        assert len(usage) > 30
        assert len(set(usage.tolist())) == 1
        assert failure.repaired_ms in track.boots_ms or failure.repaired_ms >= fleet.end_ms


def test_signs_grow_towards_a_failure_and_fade_where_they_come_to_nothing(fleet: Scenario) -> None:
    early = late = after = 0
    for failure in fleet.troubles.failures:
        if failure.precursor_ms is None:
            continue
        half = (failure.precursor_ms + failure.at_ms) // 2
        codes = fleet.catalogue[fleet.track_of[failure.device_id].machine.model].faults
        for plan in fleet.track_of[failure.device_id].messages:
            if plan.fault and codes[plan.fault.code].subsystem == failure.subsystem:
                early += failure.precursor_ms <= plan.fault.at_ms < half
                late += half <= plan.fault.at_ms < failure.at_ms
    for signs in fleet.troubles.false_precursors:
        for plan in fleet.track_of[signs.device_id].messages:
            after += plan.fault is not None and signs.until_ms <= plan.fault.at_ms < signs.until_ms + DAY_MS
    assert late > 1.6 * early > 0
    assert after < len(fleet.troubles.false_precursors)


def test_gauges_of_the_failing_subsystem_drift_in_most_devices(fleet: Scenario) -> None:
    drifts = []
    for failure in fleet.troubles.failures:
        if failure.precursor_ms is None:
            continue
        track = fleet.track_of[failure.device_id]
        for name, metric in fleet.catalogue[track.machine.model].metrics.items():
            if metric.subsystem == failure.subsystem:
                values = track.values[name]
                before = values[
                    (track.at_ms > failure.precursor_ms - 3 * DAY_MS) & (track.at_ms < failure.precursor_ms)
                ]
                last = values[(track.at_ms > failure.at_ms - DAY_MS) & (track.at_ms < failure.at_ms)]
                if len(before) and len(last):
                    drifts.append(abs(last.mean() - before.mean()) / max(before.std(), 1e-9))
    assert 1.0 < float(np.median(drifts)) < 5
    assert np.quantile(drifts, 0.15) < 1.0


def test_numbers_rise_by_one_a_message_and_begin_anew_with_each_boot(fleet: Scenario) -> None:
    for track in fleet.tracks[:30]:
        expected: dict[int, int] = defaultdict(lambda: 1)
        for plan in track.messages:
            assert plan.seq == expected[plan.boot]
            expected[plan.boot] += 1
            assert track.boots_ms[plan.boot] <= plan.at_ms
        assert all(earlier.at_ms <= later.at_ms for earlier, later in pairwise(track.messages))


def test_clocks_of_some_devices_are_off_by_minutes_and_never_too_far_ahead(fleet: Scenario) -> None:
    skews = [track.skew_ms for track in fleet.tracks]
    assert 8 <= sum(abs(skew) >= 30_000 for skew in skews) <= 45
    assert max(map(abs, skews)) < 300_000


def test_withdrawn_devices_are_dark_for_good(fleet: Scenario) -> None:
    gone = [fact for fact in fleet.course.withdrawals if fact.device_id in fleet.track_of]
    assert gone
    for fact in gone:
        assert max(plan.at_ms for plan in fleet.track_of[fact.device_id].messages) < fact.dark_ms + 10_000


def test_customers_who_leave_use_their_machines_less(fleet: Scenario) -> None:
    for churn in fleet.course.churn:
        if churn.kind == "withdrawn":
            continue
        before = after = 0
        for track in fleet.tracks:
            if track.machine.customer_id == churn.customer_id and track.machine.model != "ventilator":
                use = increments(fleet, track)
                at_ms = track.at_ms[1:]
                before += use[(at_ms > churn.onset_ms - 7 * DAY_MS) & (at_ms < churn.onset_ms)].sum()
                after += use[at_ms > fleet.end_ms - 7 * DAY_MS].sum()
        expected = min(1, (fleet.end_ms - churn.onset_ms) / max(1, churn.full_ms - churn.onset_ms)) * churn.decline
        assert after / before == pytest.approx(1 - expected, abs=0.25)


def test_nothing_is_published_while_a_gateway_is_off_line_and_all_of_it_afterwards(
    small_scenario: Scenario, published: list[Publication]
) -> None:
    outage = small_scenario.course.outages[0]
    own = [each for each in published if each.gateway_id == outage.gateway_id]
    assert not [each for each in own if outage.from_ms < each.at_ms < outage.until_ms]
    sent = {(each.device_id, each.boot, each.seq) for each in own if each.kind == "telemetry"}
    planned = {
        (track.machine.device_id, track.boots_ms[plan.boot] + track.skew_ms, plan.seq)
        for track in small_scenario.tracks
        if track.machine.gateway_id == outage.gateway_id
        for plan in track.messages
    }
    assert sent == planned


def test_some_gateways_deliver_live_data_before_their_backlog() -> None:
    #  outage           until      backlog
    #  |- - - - - - - - - |  live  live  | old old old
    outages = {fact: seed for seed in range(20) for fact in Scenario(seed, 20, 4, 10).course.outages}
    outage = next(fact for fact in outages if fact.backlog_ms > fact.until_ms + 1000)
    scenario = Scenario(outages[outage], 20, 4, 10)
    after = [
        each.body.sent
        for each in scenario.publications()
        if each.gateway_id == outage.gateway_id and each.kind == "telemetry" and isinstance(each.body, Telemetry)
        if outage.until_ms <= each.at_ms <= outage.delivered_ms
    ]
    assert after != sorted(after)
    assert after[0] > outage.until_ms - 300_000


def test_malformed_messages_are_all_different_and_hold_nothing_good() -> None:
    bad, seen = [], set()
    for seed in range(4):
        everything = list(Scenario(seed, devices=20, customers=4, days=10).publications())
        bad += [(each.topic, encode(each.body), each.device_id) for each in everything if each.kind == "malformed"]
        seen |= {(each.device_id, each.boot) for each in everything if each.kind == "telemetry"}
    assert len({(topic, payload) for topic, payload, _ in bad}) == len(bad) > 20
    readable = 0
    for _topic, payload, device_id in bad:
        try:
            body = json.loads(payload)
        except ValueError:
            continue
        readable += 1
        assert (device_id, body.get("boot")) not in seen
    assert 0 < readable < len(bad)


def test_duplicates_repeat_a_message_to_the_byte(published: list[Publication]) -> None:
    sent = {encode(each.body) for each in published if each.kind == "telemetry"}
    copies = [encode(each.body) for each in published if each.kind == "duplicate"]
    assert copies
    assert set(copies) <= sent


def test_every_boot_is_announced_before_its_messages(published: list[Publication]) -> None:
    born: set[tuple[str, int]] = set()
    live = [each for each in published if each.kind in ("birth", "telemetry")]
    for each in live:
        if isinstance(each.body, State):
            assert each.retain
            born.add((each.device_id, each.boot))
        else:
            assert (each.device_id, each.boot) in born


def test_devices_in_planned_maintenance_are_unused_and_some_are_switched_off(fleet: Scenario) -> None:
    works = fleet.course.maintenances[0]
    assert works.switched_off
    for track in fleet.tracks:
        if track.machine.site_id == works.site_id:
            inside = (track.at_ms > works.from_ms) & (track.at_ms < works.until_ms)
            usage = track.values[fleet.catalogue[track.machine.model].usage_metric][inside]
            assert len(set(usage[1:].tolist())) <= 1
            if track.machine.device_id in works.switched_off:
                assert len(usage) < 18
