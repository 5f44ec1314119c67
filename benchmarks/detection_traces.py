"""What the detectors say about series whose truth is known, for the plots of `docs/detection.md`.

Nothing of the public data: three made-up devices whose use falls (a step, a ramp, a stop, each after a holiday), a
made-up gauge with a spike and a level shift, and how probabilities of failure come true in a simulated fleet. All
seeded; written to `build/detection_traces.json` and drawn by `benchmarks.detection_plots`, which runs where matplotlib
is.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fleet_learning import Run, Truth, hours
from detectors.risk_reliability import EDGES
from detectors.sensor_anomaly import SensorAnomaly
from detectors.sensor_watch import SensorWatch
from detectors.usage_drop import DAY_MS, HOUR_MS, UsageDrop
from simulator.scenario import Scenario

FILE = Path(__file__).resolve().parents[1] / "build" / "detection_traces.json"
MONDAY_MS = 20_458 * DAY_MS
"""5 January 2026."""

USAGE_DAYS, HOLIDAYS, ONSET_DAY = 147, (70, 71, 72), 98
USES = 24.0
"""Of a usual weekday."""
WEEKDAYS = np.array([1.0, 1.05, 1.0, 1.0, 0.9, 0.35, 0.2])
DAY_SPREAD = 0.15
"""Standard deviation of a day's rate, as a share."""
OPEN = np.array([0] * 7 + [1, 3, 4, 4, 3, 2, 3, 4, 3, 2, 1] + [0] * 6, float)
OPEN_AT_REST = np.array([0] * 9 + [1, 2, 2, 2, 2, 1] + [0] * 9, float)
FALLS: dict[str, Callable[[int], float]] = {
    "step by 60 %": lambda _: 0.4,
    "ramp to 50 % in 28 days": lambda age: max(0.5, 1 - 0.5 * (age + 1) / 28),
    "stop": lambda _: 0.0,
}
"""What is left of the use, by days since the onset."""

GAUGE_DAYS, SPIKE_DAY, SHIFT_DAY = 42, 26.4, 34.25
SAMPLE_MS = HOUR_MS // 2

FLEET = Scenario(11, devices=40, customers=16, days=84)


def _used(rng: np.random.Generator, day: int, left: float) -> Iterator[float]:
    """Uses in each hour of a day; on a holiday as on a Sunday, also by the hours."""
    weekday = 6 if day in HOLIDAYS else day % 7
    profile = OPEN_AT_REST if weekday >= 5 else OPEN
    rate = USES * WEEKDAYS[weekday] * rng.gamma(1 / DAY_SPREAD**2, DAY_SPREAD**2)
    full = rng.poisson(rate * profile / profile.sum())
    yield from rng.binomial(full, left).astype(float)


def usage_traces() -> list[dict[str, Any]]:
    """By day: use, what was expected of it the evening before, belief when it was over; first and last word on it."""
    traces = []
    for name, left in FALLS.items():
        rng, usage = np.random.default_rng(3), UsageDrop()
        days: list[tuple[float, float]] = []
        beliefs: list[float] = []
        first: dict[str, Any] = {}
        last: dict[str, Any] = {}
        for day in range(USAGE_DAYS + 1):
            start_ms = MONDAY_MS + day * DAY_MS
            ends = [start_ms + (hour + 1) * HOUR_MS for hour in range(24)]
            used = list(_used(rng, day, left(day - ONSET_DAY) if day >= ONSET_DAY else 1.0))
            told = usage.update(ends[0], used[0])
            if day:
                beliefs.append(told.belief)
            if told.belief >= 0.5:
                last = {
                    "told_day": day - 1,
                    "shape": told.shape,
                    "shape_certainty": told.shape_certainty,
                    "onset_day": (told.since_ms - MONDAY_MS) // DAY_MS,
                    "fall_pct": told.fall_pct,
                }
                first = first or last
            days.append((sum(used), sum(usage.expected(end_ms) for end_ms in ends)))
            for end_ms, count in zip(ends[1:], used[1:], strict=True):
                usage.update(end_ms, count)
        observed, expected = zip(*days[:-1], strict=True)
        series = {"observed": observed, "expected": expected, "belief": beliefs}
        traces.append({"name": name, **series, "first": first, "last": last})
    return traces


def gauge_trace() -> dict[str, Any]:
    """A gauge read every half hour: each value's score, and what a `SensorWatch` of its hours tells of its level."""
    rng, anomaly, watch = np.random.default_rng(4), SensorAnomaly(), SensorWatch()
    trace: dict[str, list[float]] = {"day": [], "value": [], "expected": [], "score": []}
    shifts, noise, hour_sum = [], 0.0, 0.0
    for place in range(GAUGE_DAYS * 48):
        day = place / 48
        noise = 0.8 * noise + rng.normal(0, 0.06)
        value = 36.0 + 0.5 * math.sin(2 * math.pi * (day - 0.3)) * (1.0 if int(day) % 7 < 5 else 0.4) + noise
        value += 1.6 if SPIKE_DAY <= day < SPIKE_DAY + 2.5 / 48 else 0.0
        value += 0.7 if day >= SHIFT_DAY else 0.0
        at_ms = MONDAY_MS + place * SAMPLE_MS
        score = anomaly.update(at_ms, value)
        for name, each in zip(trace, (day, value, anomaly.expected, score), strict=True):
            trace[name].append(round(each, 4))
        hour_sum += value
        if place % 2:
            told = watch.window(at_ms + SAMPLE_MS, {"detector_cel": hour_sum / 2})
            hour_sum = 0.0
            for shift in told.shifts if told is not None else ():
                shifts.append(
                    {
                        "told_day": (at_ms + SAMPLE_MS - MONDAY_MS) / DAY_MS,
                        "onset_day": (shift.onset_ms - MONDAY_MS) / DAY_MS,
                        "before": shift.before,
                        "after": shift.after,
                    }
                )
    return {**trace, "shifts": shifts, "spike_day": SPIKE_DAY, "shift_day": SHIFT_DAY}


def reliability(scenario: Scenario = FLEET) -> dict[str, Any]:
    """Judgements of a simulated fleet after four weeks, by what they foretold, and how many came true."""
    run, truth = Run(scenario, 1, together=True), Truth(scenario)
    for end_ms, sent in hours(scenario):
        run.hour(sent, end_ms)
    edges = np.array((*EDGES, 1.0))
    judged, foretold, happened = np.zeros(len(EDGES)), np.zeros(len(EDGES)), np.zeros(len(EDGES))
    failures: list[set[tuple[str, str]]] = [set() for _ in EDGES]
    for at_ms, device_id, subsystem, probability in run.seen.risks:
        label = truth.label(at_ms, device_id, subsystem)
        if label is not None:
            place = min(len(EDGES) - 1, int(np.searchsorted(edges, probability, "right")) - 1)
            judged[place] += 1
            foretold[place] += probability
            happened[place] += label
            failures[place].add((device_id, subsystem))
    return {
        "devices": scenario.devices,
        "days": scenario.days,
        "seed": scenario.seed,
        "judged": judged.tolist(),
        "foretold": foretold.tolist(),
        "happened": happened.tolist(),
        "places": [len(each) for each in failures],
        "cpu_s": round(run.seen.cpu_s, 1),
    }


def main() -> None:
    """Write all of it."""
    traces = {"usage": usage_traces(), "gauge": gauge_trace(), "reliability": reliability()}
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(traces))


if __name__ == "__main__":
    main()
