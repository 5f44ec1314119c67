"""What a tick does: all that joins several devices, in canonical order, and all that happens when nothing happens."""

from functools import partial

from alerting.usage import DeviceDay
from detectors import failure_risk, fault_rules, silence
from detectors.risk_learned import LearnedRisk
from schema.record import Tick
from schema.rows import ModelMetricRow, NoticedRow
from streams import budgets, dues, habits, patterns, repairs
from streams.device import DeviceState
from streams.fleet import KINDS, Given
from streams.pane_rows import DAY_MS, HOUR_MS
from streams.state import PartitionState
from streams.telemetry import apply_message

DARK_MS = 7 * DAY_MS
"""A device that is silent for longer is evidence of its own: it was unplugged."""
EXPLAINED_FROM = 0.25
"""A risk is explained from the score on at which its alert may be up."""
DAY_CLOSES_AFTER_MS = 2 * HOUR_MS
"""A day is summed up for customers when the messages of its last hour have had time to come."""
DEVICES_A_TICK = 2_000
"""A day is summed up over as many ticks as it takes, customer by customer: nothing else waits for it meanwhile."""
KINDS[LearnedRisk.__name__] = LearnedRisk


def time_after(state: PartitionState, tick: Tick) -> int:
    """The partition's time when a tick has been taken, in ms; it never goes back."""
    sources, now_ms = _sources_after(state, tick), state.shared.now_ms
    return now_ms if tick.state == "joined" or not sources else max(now_ms, min(sources.values()))


def _sources_after(state: PartitionState, tick: Tick) -> dict[str, int]:
    sources = state.shared.sources
    if tick.state == "left":
        return {source: at_ms for source, at_ms in sources.items() if source != tick.source}
    return {**sources, tick.source: max(tick.at_ms, sources.get(tick.source, 0))}


def closed_day(now_ms: int) -> int:
    """The last day that is closed at a time."""
    return (now_ms - DAY_CLOSES_AFTER_MS) // DAY_MS - 1


def handle_tick(state: PartitionState, tick: Tick, given: Given | None = None) -> None:
    """Move the partition's time on, and do what has come due; `given` as `Fleet.close` wants it."""
    shared = state.shared
    now_ms = time_after(state, tick)
    shared.sources = _sources_after(state, tick)
    if now_ms == shared.now_ms:
        return
    if shared.now_ms == 0:
        shared.days_done = now_ms // DAY_MS
    elif now_ms // HOUR_MS != shared.now_ms // HOUR_MS:
        _tell_counts(state)
    shared.now_ms = now_ms
    release(state)
    _silence(state, now_ms)
    _clear_rules(state, now_ms)
    _judge_risks(state, now_ms)
    _sum_up_days(state, now_ms)
    state.effects.put(shared.desk.tick(now_ms))
    labels = shared.desk.labels()
    for label in labels:
        dues.served(state, label)
        repairs.parts_replaced(state, label)
        budgets.judged(state, label)
    repairs.learnt(state, labels)
    _share(state, given)


def _share(state: PartitionState, given: Given | None) -> None:
    """Exchange with the other partitions what a day has taught; last, so that all of the tick belongs to the day."""
    fleet, day = state.shared.fleet, closed_day(state.shared.now_ms)
    if fleet.begun is not None and day > fleet.closed:
        budgets.watched(state, day - fleet.closed)
        habits.look_at_all(state)
    row = fleet.close(state.number, day, given, partial(state.count, "fleet_refused"))
    if row is not None:
        state.effects.put([row])
        if row.missed:
            state.count("fleet_missing", len(row.missed))


def _tell_counts(state: PartitionState) -> None:
    """At the end of an hour, write what was counted since the last one that had something."""
    shared = state.shared
    at_ms = shared.now_ms // HOUR_MS * HOUR_MS
    for what, count in sorted(shared.counts.items()):
        if since := count - shared.told.get(what, 0):
            state.effects.put([NoticedRow(state.number, at_ms, what, since)])
            shared.told[what] = count


def release(state: PartitionState) -> None:
    """Apply what waits for a message before it, device by device."""
    state.shared.arrived = 0
    for device_id in sorted(state.shared.waiting):
        device = state.devices[device_id]
        state.changed.add(device_id)
        for message in device.release(partial(state.count, "gap")):
            apply_message(state, device, message)
        device.sequencer.forget(state.count)
    state.shared.waiting.clear()


def _silence(state: PartitionState, now_ms: int) -> None:
    shared = state.shared
    sites = set()
    for device_id in sorted(shared.heard):
        device = state.devices[device_id]
        assert device.cadence is not None
        state.changed.add(device_id)
        device.silent = False
        state.observe(silence.finding(device.cadence, False, now_ms, **state.names(device.entry)))
        state.watch_silence(device)
        sites.add(device.entry.site_id)
    shared.heard.clear()
    fell_silent = []
    for (device_id,) in shared.overdue.due(now_ms):
        device = state.devices[device_id]
        assert device.cadence is not None
        at_ms = device.cadence.overdue_at_ms()
        assert at_ms is not None
        if at_ms > now_ms:
            state.watch_silence(device)
        elif device.cadence.rests and state.excused(device.entry, now_ms - 1, now_ms):
            state.changed.add(device_id)
            device.cadence.excuse(now_ms)
            state.watch_silence(device)
        else:
            fell_silent.append(device.entry.device_id)
    for device_id in sorted(fell_silent):
        device = state.devices[device_id]
        assert device.cadence is not None
        state.changed.add(device_id)
        device.silent = True
        state.observe(silence.finding(device.cadence, True, now_ms, **state.names(device.entry)))
        sites.add(device.entry.site_id)
    for site_id in sorted(sites):
        _judge_site(state, site_id, now_ms)


def _judge_site(state: PartitionState, site_id: str, now_ms: int) -> None:
    devices = [
        silence.DeviceCadence(device.entry.device_id, device.cadence.last_ms, at_ms, device.cadence.interval_ms)
        for device in state.places.at_site.get(site_id, ())
        if device.cadence is not None and (at_ms := device.cadence.overdue_at_ms()) is not None
    ]
    judgement = silence.judge_site(devices, now_ms)
    if judgement.offline or site_id in state.shared.sites_offline:
        state.observe(
            silence.site_finding(
                judgement, now_ms, site_id=site_id, customer_id=state.shared.sites[site_id].customer_id
            )
        )
    (state.shared.sites_offline.add if judgement.offline else state.shared.sites_offline.discard)(site_id)


def _clear_rules(state: PartitionState, now_ms: int) -> None:
    for device_id in sorted(device_id for (device_id,) in state.shared.quiet.due(now_ms)):
        device = state.devices[device_id]
        state.changed.add(device_id)
        for judgement in device.rules.tick(now_ms):
            state.observe(fault_rules.finding(judgement, **state.names(device.entry)))
        patterns.quiet(state, device, now_ms)
        state.shared.quiet.set((device_id,), patterns.deadline_ms(device))


def _judge_risks(state: PartitionState, now_ms: int) -> None:
    shared = state.shared
    for at_ms, device_id, subsystem in sorted(shared.failures):
        budgets.failed(state, device_id, subsystem)
        shared.risk.failed(device_id, subsystem, at_ms)
    shared.failures.clear()
    learned = shared.fleet.of(LearnedRisk, "")
    learned.gather(shared.risk.mature(now_ms))
    for due in sorted(shared.risks):
        if due.device_id not in state.devices:  # it has left
            continue
        entry = state.devices[due.device_id].entry
        shared.risk.announcements.allow(entry.model, budgets.allowance(state, entry.model, "failure_risk"))
        risk = shared.risk.judge(
            learned, due.end_ms, due.device_id, due.subsystem, due.features, due.ages_h, entry.model
        )
        reasons = learned.reasons(entry.model, risk.signs) if risk.score >= EXPLAINED_FROM else {}
        state.observe(
            failure_risk.finding(
                risk,
                reasons,
                due.codes,
                due.end_ms,
                due.end_ms,
                subsystem=due.subsystem,
                **state.names(entry),
            )
        )
    shared.risks.clear()


def _sum_up_days(state: PartitionState, now_ms: int) -> None:
    shared = state.shared
    left = DEVICES_A_TICK
    while left > 0 and (shared.days_done + 1) * DAY_MS + DAY_CLOSES_AFTER_MS <= now_ms:
        day = shared.days_done
        end_ms = (day + 1) * DAY_MS
        for customer_id, devices in state.places.of_customer.items():
            if customer_id <= shared.day_customer:
                continue
            for device in devices:
                if device.usage is not None:
                    dues.dates(state, device, end_ms)
            of_customer = [_device_day(device, day) for device in devices if device.usage is not None]
            state.effects.put(shared.desk.day(customer_id, end_ms, of_customer))
            shared.day_customer = customer_id
            left -= len(devices)
            if left <= 0:
                return
        shared.days_done, shared.day_customer = day + 1, ""
        state.forget_calendars(now_ms)
        state.effects.put(
            ModelMetricRow(state.number, end_ms, "failure_risk", metric, value)
            for metric, value in (shared.risk.metrics() | shared.risk.reliability.take()).items()
            if value == value
        )
        state.effects.put(budgets.metric_rows(state, end_ms))
        state.effects.put(dues.metric_rows(state, end_ms))


def _device_day(device: DeviceState, day: int) -> DeviceDay:
    assert device.usage is not None
    assert device.cadence is not None
    device_id, end_ms = device.entry.device_id, (day + 1) * DAY_MS
    usage = device.usage_of(day)
    if usage is not None:
        return DeviceDay(device_id, *usage, "reporting")
    if device.silent and device.cadence.last_ms <= end_ms - DARK_MS:
        hours = range(day * DAY_MS + HOUR_MS, end_ms + HOUR_MS, HOUR_MS)
        return DeviceDay(device_id, 0.0, sum(device.usage.expected(hour) for hour in hours), "dark")
    return DeviceDay(device_id, 0.0, 0.0, "excused")
