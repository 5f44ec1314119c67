"""How much a device is used in each ten minutes: week rhythm, customers who leave, holidays, standstill; counters."""

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from simulator.failures import Troubles
from simulator.fleet import DAY_MS, Machine
from simulator.plan import HOUR_MS, Course
from simulator.profiles import PROFILES, week_profile
from simulator.randomness import stream

SAMPLE_MS = 600_000
Samples = npt.NDArray[np.int64]
Levels = npt.NDArray[np.float64]


def local_hours(timezone: str, at_ms: Samples) -> Levels:
    """Local hours since Monday 0 h, in [0, 168), at each instant; daylight saving changes at full hours UTC."""
    hours = at_ms // HOUR_MS
    first, last = int(hours[0]), int(hours[-1])
    zone = ZoneInfo(timezone)
    offsets = np.array([_offset_ms(zone, hour * HOUR_MS) for hour in range(first, last + 1)], np.int64)
    local_ms = at_ms + offsets[hours - first]
    return np.asarray((local_ms / HOUR_MS + 72) % 168, np.float64)  # the epoch was a Thursday


def _offset_ms(zone: ZoneInfo, at_ms: int) -> int:
    offset = datetime.fromtimestamp(at_ms / 1000, zone).utcoffset()
    return 0 if offset is None else round(offset.total_seconds() * 1000)


def factors(machine: Machine, course: Course, troubles: Troubles, seed: int, at_ms: Samples) -> Levels:
    """What multiplies ordinary use at each instant: departure, moved work, holiday, maintenance and standstill."""
    rng = stream(seed, "factors", machine.index)
    scale = np.ones(at_ms.shape)
    for leaving in course.churn:
        if leaving.customer_id != machine.customer_id or leaving.kind == "withdrawn":
            continue
        decline = min(1.0, leaving.decline * (1 if leaving.kind == "stop" else rng.uniform(0.92, 1.08)))
        if leaving.full_ms > leaving.onset_ms:
            share = np.clip((at_ms - leaving.onset_ms) / (leaving.full_ms - leaving.onset_ms), 0, 1)
        else:
            share = (at_ms >= leaving.onset_ms).astype(np.float64)
        scale *= 1 - decline * share
    for drop in course.drops:
        after = at_ms >= drop.onset_ms
        if drop.device_id == machine.device_id:
            scale[after] *= 1 - drop.decline
        if drop.moved_to == machine.device_id:
            scale[after] *= 1 + 0.6 * drop.decline
    for holiday in course.holidays:
        if holiday.country == machine.country:
            scale[(at_ms >= holiday.from_ms) & (at_ms < holiday.until_ms)] *= PROFILES[machine.model].holiday
    for maintenance in course.maintenances:
        if maintenance.site_id == machine.site_id:
            scale[(at_ms >= maintenance.from_ms) & (at_ms < maintenance.until_ms)] = 0
    for failure in troubles.failures:
        if failure.device_id == machine.device_id:
            scale[(at_ms >= failure.at_ms) & (at_ms < failure.repaired_ms)] = 0
    return scale


def intensity(seed: int, machine: Machine, at_ms: Samples) -> tuple[Levels, Levels]:
    """Ordinary use in units of the counter per sample, and the load in [0, 1] relative to the busiest hour.

    Days and weeks differ: some are busier than others, for the device and for its whole hospital.
    """
    rng = stream(seed, "usage", machine.index)
    profile = PROFILES[machine.model]
    per_day = rng.uniform(*profile.per_day)
    week = week_profile(seed, machine.index, machine.model)
    hours = local_hours(machine.timezone, at_ms)
    shape = week[hours.astype(np.int64)]
    days = at_ms // DAY_MS
    days -= days[0]
    day_noise = rng.gamma(1 / 0.09**2, 0.09**2, int(days[-1]) + 1)
    hospital = stream(seed, "hospital weeks", machine.customer_id)
    week_noise = hospital.normal(1, 0.025, int(days[-1]) // 7 + 1)
    level = per_day / (DAY_MS // SAMPLE_MS) * shape * day_noise[days] * week_noise[days // 7]
    return level, np.asarray(shape / week.max(), np.float64)


def increments(seed: int, machine: Machine, expected: Levels, steps_per_unit: int) -> Samples:
    """Whole steps of the usage counter in each sample, with the given expectation in units."""
    rng = stream(seed, "counts", machine.index)
    if machine.model == "ventilator":
        # A running hours' meter cannot count more than the time that passed.
        most = SAMPLE_MS * steps_per_unit // HOUR_MS
        return np.asarray(rng.binomial(most, np.clip(expected * steps_per_unit / most, 0, 1)), np.int64)
    return np.asarray(rng.poisson(expected * steps_per_unit), np.int64)


def counter(start: int, steps: Samples, reset_at: npt.NDArray[np.bool_], wrap: int | None) -> Samples:
    """Cumulative counter from `start`, starting from 0 with each sample where `reset_at`, modulo `wrap`."""
    total = np.cumsum(steps) + start
    resets = np.flatnonzero(reset_at)
    for index in resets:
        total[index:] -= total[index] - steps[index]
    return np.asarray(total if wrap is None else total % wrap, np.int64)
