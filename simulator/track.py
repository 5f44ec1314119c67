"""The whole life of one device in a run: boots, samples, faults, and the messages that carry them.

Instants are true time unless named otherwise; what the device writes into a message is its own clock, which is off by
`skew_ms`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schema.catalogue import DeviceModel
from simulator.failures import Stress, Troubles
from simulator.fleet import DAY_MS, Machine
from simulator.gauges import gauge
from simulator.plan import Course
from simulator.profiles import PROFILES
from simulator.randomness import stream
from simulator.usage import SAMPLE_MS, Samples, counter, factors, increments, intensity

SAMPLES_PER_MESSAGE = 3
_REBOOT_DAYS = 14
_RESET_SHARE = 0.4
_FIRST_SIGNS_PER_DAY = 0.7
_LAST_SIGNS_PER_DAY = 4.0
_ERROR_SHARE = 0.35


class FaultEvent(NamedTuple):
    """A fault at a true instant, as the catalogue describes it."""

    at_ms: int
    code: str


class MessagePlan(NamedTuple):
    """A message of a device: three samples at most, or one fault."""

    at_ms: int
    boot: int
    """Index of the boot."""
    seq: int
    first: int
    stop: int
    """Samples [first, stop); none for a fault."""
    fault: FaultEvent | None


@dataclass(frozen=True, slots=True)
class Track:
    """Everything that one device samples and sends, gateway outages left aside."""

    machine: Machine
    skew_ms: int
    boots_ms: tuple[int, ...]
    """True instants of the starts."""
    at_ms: Samples
    """True instants of the samples taken, rising."""
    values: dict[str, Samples]
    """Whole steps of each metric's resolution, one a sample."""
    messages: tuple[MessagePlan, ...]
    """In the order of sending, which is that of (boot, seq)."""


def build_track(
    seed: int, machine: Machine, model: DeviceModel, course: Course, troubles: Troubles, start_ms: int, end_ms: int
) -> Track:
    """Draw the life of `machine` in [start_ms, end_ms)."""
    rng = stream(seed, "track", machine.index)
    phase_ms = int(rng.integers(60, 600)) * 1000
    delay_ms = int(rng.integers(500, 8000))
    skewed = rng.random() < 0.15
    skew_ms = int(rng.integers(30_000, 270_000)) * int(rng.choice([-1, 1])) if skewed else int(rng.integers(-900, 900))
    at_ms = np.arange(start_ms + phase_ms, end_ms, SAMPLE_MS, dtype=np.int64)
    dark_ms = next((gone.dark_ms for gone in course.withdrawals if gone.device_id == machine.device_id), end_ms)
    off = _off(rng, machine, course)
    boots = _boots(rng, machine, troubles, off, start_ms, phase_ms, min(dark_ms, end_ms))

    expected, load = intensity(seed, machine, at_ms)
    scale = factors(machine, course, troubles, seed, at_ms)
    usage = model.metrics[model.usage_metric]
    steps = increments(seed, machine, expected * scale, usage.steps_per_unit)
    stresses = troubles.stresses.get(machine.device_id, ())
    values = {
        model.usage_metric: counter(
            _counter_start(rng, usage.wrap, usage.steps_per_unit, machine, start_ms, float(expected.sum())),
            steps,
            _resets(rng, machine, boots[1:], at_ms),
            usage.wrap,
        )
    }
    for name, metric in model.metrics.items():
        if metric.kind == "gauge":
            values[name] = gauge(seed, machine, name, metric, at_ms, load * scale, stresses)

    taken = at_ms < dark_ms
    for since_ms, until_ms in off:
        taken &= (at_ms < since_ms) | (at_ms >= until_ms)
    kept = np.flatnonzero(taken)
    faults = [
        fault
        for fault in _faults(seed, machine, model, troubles, stresses, at_ms)
        if fault.at_ms < min(dark_ms, end_ms) and not any(since <= fault.at_ms < until for since, until in off)
    ]
    messages = _messages(at_ms, kept, delay_ms, faults, boots, end_ms, rng)
    return Track(
        machine,
        skew_ms,
        tuple(boots),
        at_ms[kept],
        {name: values[name][kept] for name in model.metric_names if name in values},
        messages,
    )


def _off(rng: np.random.Generator, machine: Machine, course: Course) -> list[tuple[int, int]]:
    return [
        (
            maintenance.from_ms + int(rng.integers(5, 30)) * 60_000,
            maintenance.until_ms - int(rng.integers(15, 60)) * 60_000,
        )
        for maintenance in course.maintenances
        if machine.device_id in maintenance.switched_off
    ]


def _boots(
    rng: np.random.Generator,
    machine: Machine,
    troubles: Troubles,
    off: list[tuple[int, int]],
    start_ms: int,
    phase_ms: int,
    until_ms: int,
) -> list[int]:
    """Instants of all starts: at the beginning, after repairs and maintenance, and now and then for no reason."""
    first_ms = start_ms + int(rng.integers(1000, phase_ms))
    count = int(rng.poisson((until_ms - start_ms) / DAY_MS / _REBOOT_DAYS))
    boots = [first_ms + int(share * (until_ms - first_ms)) for share in rng.random(count)]
    boots += [failure.repaired_ms for failure in troubles.failures if failure.device_id == machine.device_id]
    boots = [at_ms for at_ms in boots if not any(since <= at_ms < until for since, until in off)]
    boots += [until for _, until in off]
    spaced = [first_ms]
    for at_ms in sorted(boots):
        if spaced[-1] + 2 * SAMPLE_MS < at_ms < until_ms:
            spaced.append(at_ms)
    return spaced


def _resets(rng: np.random.Generator, machine: Machine, reboots: list[int], at_ms: Samples) -> npt.NDArray[np.bool_]:
    """Samples with which the counter starts from 0: the first ones after some reboots of models that forget."""
    marks = np.zeros(at_ms.shape, np.bool_)
    for reboot_ms in reboots:
        forgets = rng.random() < _RESET_SHARE
        index = int(np.searchsorted(at_ms, reboot_ms))
        if forgets and PROFILES[machine.model].volatile_counter and index < len(marks):
            marks[index] = True
    return marks


def _counter_start(
    rng: np.random.Generator, wrap: int | None, steps_per_unit: int, machine: Machine, start_ms: int, expected: float
) -> int:
    if wrap is not None:
        near = rng.random() < 0.3
        return int(wrap - rng.uniform(0.05, 0.8) * expected) if near else int(rng.integers(0, wrap // 2))
    age_days = (start_ms - machine.installed_ms) / DAY_MS
    return int(age_days * rng.uniform(0.6, 0.9) * 10) * steps_per_unit


def _faults(
    seed: int,
    machine: Machine,
    model: DeviceModel,
    troubles: Troubles,
    stresses: tuple[Stress, ...],
    at_ms: Samples,
) -> list[FaultEvent]:
    """Everyday codes, the signs of troubles, and the hard failures themselves; none while the device stands still."""
    rng = stream(seed, "faults", machine.index)
    days = (int(at_ms[-1]) - int(at_ms[0])) / DAY_MS
    events: list[FaultEvent] = []
    by_severity: dict[str, list[str]] = {}
    for code, fault in model.faults.items():
        if not fault.stops_device:
            by_severity.setdefault(fault.severity, []).append(code)
    rates = {"info": rng.uniform(0.1, 0.3), "warning": rng.uniform(0.02, 0.04), "error": 0.003}
    for severity, rate in rates.items():
        codes = by_severity.get(severity, [])
        if codes:
            for share in rng.random(int(rng.poisson(rate * days))):
                event_ms = int(at_ms[0]) + int(share * days * DAY_MS)
                events.append(FaultEvent(event_ms, codes[int(rng.integers(len(codes)))]))
    for stress in stresses:
        if not stress.shows:
            continue
        warnings = [code for code in by_severity.get("warning", ()) if model.faults[code].subsystem == stress.subsystem]
        errors = [code for code in by_severity.get("error", ()) if model.faults[code].subsystem == stress.subsystem]
        level = stress.level(at_ms)
        span = _LAST_SIGNS_PER_DAY - _FIRST_SIGNS_PER_DAY
        per_day = np.where(level > 0, _FIRST_SIGNS_PER_DAY + span * level, 0) * rng.uniform(0.75, 1.25)
        counts = rng.poisson(per_day * SAMPLE_MS / DAY_MS)
        for index in np.repeat(np.arange(len(at_ms)), counts):
            codes = errors if errors and rng.random() < _ERROR_SHARE else warnings
            event_ms = int(at_ms[index]) + int(rng.integers(SAMPLE_MS))
            events.append(FaultEvent(event_ms, codes[int(rng.integers(len(codes)))]))
    failures = [failure for failure in troubles.failures if failure.device_id == machine.device_id]
    events = [
        event for event in events if not any(failure.at_ms <= event.at_ms < failure.repaired_ms for failure in failures)
    ]
    events += [FaultEvent(failure.at_ms, failure.code) for failure in failures]
    return sorted(set(events))


def _messages(
    at_ms: Samples,
    kept: Samples,
    delay_ms: int,
    faults: list[FaultEvent],
    boots: list[int],
    end_ms: int,
    rng: np.random.Generator,
) -> tuple[MessagePlan, ...]:
    """Cut the samples into messages, add the faults, and number all within their boots.

    Three samples make a message; a reboot in between sends the ones before it first, so that none is lost.
    """
    edges = np.searchsorted(at_ms[kept], np.array(boots[1:], np.int64))
    groups = kept // SAMPLES_PER_MESSAGE
    cuts = np.flatnonzero(np.diff(groups)) + 1
    firsts = np.unique(np.concatenate([np.zeros(1, np.int64), cuts, edges])) if len(kept) else np.zeros(0, np.int64)
    firsts = firsts[firsts < len(kept)]
    stops = np.append(firsts[1:], len(kept))
    boot_at = np.array([*boots, 2**62], np.int64)
    sends: list[tuple[int, int, int, FaultEvent | None]] = []
    for first, stop in zip(firsts.tolist(), stops.tolist(), strict=True):
        last_ms = int(at_ms[kept[stop - 1]])
        next_boot_ms = int(boot_at[np.searchsorted(boot_at, last_ms, "right")])
        sends.append((min(last_ms + delay_ms, next_boot_ms - 1), first, stop, None))
    sends += [
        (min(fault.at_ms + int(rng.integers(500, 3000)), _next(boots, fault.at_ms) - 1), 0, 0, fault)
        for fault in faults
        if fault.at_ms >= boots[0]
    ]
    sends.sort(key=lambda send: send[:3])
    plans: list[MessagePlan] = []
    boot = seq = 0
    for send_ms, first, stop, fault in sends:
        if send_ms >= end_ms:
            break
        while boot + 1 < len(boots) and boots[boot + 1] <= send_ms:
            boot, seq = boot + 1, 0
        seq += 1
        plans.append(MessagePlan(send_ms, boot, seq, first, stop, fault))
    return tuple(plans)


def _next(boots: list[int], at_ms: int) -> int:
    return next((boot_ms for boot_ms in boots if boot_ms > at_ms), 2**62)
