"""Gauges: a level of their own, noise with memory, the day's cycle, load, ageing, and the drift before a failure."""

import numpy as np

from schema.catalogue import Metric
from simulator.failures import Stress
from simulator.fleet import DAY_MS, Machine
from simulator.plan import HOUR_MS
from simulator.profiles import PROFILES, GaugeProfile
from simulator.randomness import stream
from simulator.usage import Levels, Samples, local_hours

_MEMORY = 0.85
"""Correlation of the noise of neighbouring samples; after 64 samples nothing is left of it."""
_KERNEL = np.power(_MEMORY, np.arange(64)) * np.sqrt(1 - _MEMORY**2)
_WEAK_SHARE = 0.3


def gauge(
    seed: int,
    machine: Machine,
    name: str,
    metric: Metric,
    at_ms: Samples,
    load: Levels,
    stresses: tuple[Stress, ...],
) -> Samples:
    """Whole steps of a gauge at each instant; `load` in [0, 1] is how busy the device is.

    Before a failure of its subsystem the gauge goes 2 to 5 standard deviations of its noise astray, in some devices
    hardly at all.
    """
    profile = PROFILES[machine.model].gauges[name]
    rng = stream(seed, "gauge", machine.index, name)
    level = rng.normal(profile.level, profile.spread)
    noise = np.convolve(rng.normal(0, profile.sigma, len(at_ms) + len(_KERNEL) - 1), _KERNEL, "valid")
    hours = local_hours(machine.timezone, at_ms) % 24
    values = level + noise + profile.swing * np.cos((hours - 15) * np.pi / 12) + profile.load * _smoothed(load)
    values += profile.per_day * (at_ms - at_ms[0]) / DAY_MS
    if profile.tank:
        values -= _drained(profile, load, float(rng.random()))
    for stress in stresses:
        weak = rng.random() < _WEAK_SHARE
        sigmas = rng.uniform(0.3, 1.5) if weak else rng.uniform(2, 5)
        if stress.subsystem == metric.subsystem:
            values += profile.fails * sigmas * profile.sigma * stress.level(at_ms) ** 1.3
    steps = np.rint(np.clip(values, metric.min, metric.max) * metric.steps_per_unit)
    return np.asarray(steps, np.int64)


def _smoothed(load: Levels) -> Levels:
    """Warmth follows work within about an hour."""
    kernel = np.exp(-np.arange(18) / 6)
    return np.convolve(load, kernel / kernel.sum())[: len(load)]


def _drained(profile: GaugeProfile, load: Levels, filled: float) -> Levels:
    """What is missing from a tank that is filled up when three quarters are gone."""
    use = load / max(float(load.mean()), 1e-9) * profile.tank * (600_000 / (24 * HOUR_MS))
    capacity = profile.level * 0.75
    return np.asarray((np.cumsum(use) + filled * capacity) % capacity, np.float64)
