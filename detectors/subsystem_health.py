"""Health of one subsystem: fault codes and gauges condensed into features that mean the same everywhere."""

import math
from array import array

import msgspec
from river import base

VERSION = "subsystem_health/1"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
WEEK_HOURS = 168

FEATURES = (
    "codes_6h",
    "codes_1d",
    "codes_3d",
    "codes_7d",
    "codes_rise",
    "level_z",
    "level_z_3d",
    "slope_z",
    "spread",
    "codes_and_level",
    "silent_gauges",
    "fresh_repair",
    "age",
    "since_service",
)
"""Names in the order of `SubsystemHealth.features`."""

_CODE_DAYS = (0.25, 1.0, 3.0, 7.0)
_SEVERITY_WEIGHT = {"warning": 1.0, "error": 2.0, "critical": 3.0}


class _Gauge(msgspec.Struct):
    week: "array[float]"
    """Usual level by hour of the week; NaN where never seen."""
    visits: int = 0
    day: float = math.nan
    """Mean of about a day and of about three days of deviations from the usual level."""
    days3: float = 0.0
    noise: float = 0.0
    """Usual square of an hour's deviation, of a day's mean deviation, and the present square of an hour's."""
    slow_noise: float = 0.0
    now_noise: float = 0.0
    off: int = 0
    """Hours in a row that the level was unusual."""
    last_ms: int = 0


class SubsystemHealth(base.Base):  # type: ignore[misc]  # River publishes no types
    """Features of one subsystem, kept up to date by its faults and by the closed hourly windows of its gauges.

    Faults are counted with exponential forgetting over 6 h, 1, 3 and 7 days. A gauge is compared with its own usual
    level for the hour of the week; the deviation is averaged over about a day and put into units of what such an
    average usually is: z = day / sqrt(slow_noise); another unit, another model or a noisy sensor changes nothing.
    A level that is unusual (|z| > FREEZE_Z) is not learned, until it has lasted FREEZE_HOURS: then it is the new usual.

    * Range: counts as log(1 + n), z within +-Z_LIMIT taken to its absolute value, ages in years on a log scale;
      all features are finite and of the order of 1.
    * Warm-up: WARM_HOURS windows a gauge; its features are 0 until then.
    * Memory: 168 floats and 10 numbers a gauge, 5 numbers for faults: about 2 kB a gauge.
    * Source: exponentially weighted control charts, Roberts (1959), Technometrics 1(3).

    >>> health = SubsystemHealth()
    >>> for hour in range(24 * 21):
    ...     health.window((hour + 1) * HOUR_MS, "tube_cel", 60.0 + hour % 3, 6)
    >>> health.fault(hour * HOUR_MS, "warning")
    >>> features = health.features((hour + 1) * HOUR_MS, 365 * DAY_MS, 30 * DAY_MS)
    >>> round(features["codes_1d"], 2), features["level_z"] < 1
    (0.67, True)
    """

    WARM_HOURS = 96
    """Four days: the daily cycle is known, and what a day's average may be."""
    LEARN = 0.2
    """Least weight of a new week in the usual level of an hour of the week."""
    FREEZE_Z = 3.0
    FREEZE_HOURS = 240
    """Ten days: longer than any precursor, shorter than it would take to be blind for good."""
    Z_LIMIT = 12.0

    def __init__(self) -> None:
        self.codes = [0.0] * len(_CODE_DAYS)
        self.codes_ms = 0
        self.gauges: dict[str, _Gauge] = {}
        self.restored_ms = -1

    def fault(self, ts_ms: int, severity: str) -> None:
        """A fault of this subsystem; `info` does not count."""
        weight = _SEVERITY_WEIGHT.get(severity, 0.0)
        if weight:
            self._forget(ts_ms)
            self.codes = [count + weight for count in self.codes]

    def window(self, end_ms: int, metric: str, mean: float, count: int) -> None:
        """A closed hourly window of one of the subsystem's gauges: mean of `count` readings, at least one."""
        if count <= 0:
            return
        gauge = self.gauges.get(metric)
        if gauge is None:
            gauge = self.gauges[metric] = _Gauge(array("d", [math.nan]) * WEEK_HOURS)
        hour = (end_ms - 1) // HOUR_MS % WEEK_HOURS
        usual = gauge.week[hour]
        if usual != usual:
            usual = self._first_guess(gauge.week, hour, mean)
        deviation = mean - usual
        gauge.visits += 1
        if gauge.visits <= 24:
            gauge.week[hour] = mean
            return
        if gauge.day != gauge.day:
            gauge.day = gauge.days3 = deviation
            gauge.noise = gauge.slow_noise = gauge.now_noise = deviation * deviation
        limit = 4 * math.sqrt(gauge.noise) + 1e-12
        clipped = max(-limit, min(limit, deviation))
        gauge.day += (deviation - gauge.day) / 18
        gauge.days3 += (deviation - gauge.days3) / 54
        gauge.now_noise += ((deviation - gauge.day) ** 2 - gauge.now_noise) / 18
        gauge.last_ms = end_ms
        unusual = gauge.visits > self.WARM_HOURS and abs(self._z(gauge, gauge.day)) > self.FREEZE_Z
        gauge.off = gauge.off + 1 if unusual else 0
        if unusual and gauge.off < self.FREEZE_HOURS:
            if gauge.week[hour] != gauge.week[hour]:
                gauge.week[hour] = usual
            return
        rate = max(1 / gauge.visits, 1 / 240)
        gauge.noise += rate * (clipped * clipped - gauge.noise)
        gauge.slow_noise += rate * (gauge.day * gauge.day - gauge.slow_noise)
        gauge.week[hour] = usual + max(self.LEARN, WEEK_HOURS / (gauge.visits + WEEK_HOURS)) * deviation

    def restored(self, at_ms: int) -> None:
        """The subsystem was repaired: what led to the failure is over, what is usual stays."""
        self.restored_ms = at_ms
        self.codes = [0.0] * len(_CODE_DAYS)
        self.codes_ms = at_ms
        for gauge in self.gauges.values():
            gauge.off = 0
            if gauge.day == gauge.day:
                gauge.day = gauge.days3 = 0.0
                gauge.now_noise = gauge.noise

    def features(self, at_ms: int, device_age_ms: int, since_service_ms: int) -> dict[str, float]:
        """Features as of `at_ms`, in the order of `FEATURES`."""
        self._forget(at_ms)
        codes = [math.log1p(count) for count in self.codes]
        level = level3 = slope = spread = 0.0
        quiet = 0
        for gauge in self.gauges.values():
            if gauge.visits <= self.WARM_HOURS:
                continue
            if at_ms - gauge.last_ms > DAY_MS:
                quiet += 1
                continue
            level = max(level, abs(self._z(gauge, gauge.day)))
            level3 = max(level3, abs(self._z(gauge, gauge.days3)))
            slope = max(slope, abs(self._z(gauge, gauge.day - gauge.days3)))
            spread = max(spread, math.log1p(gauge.now_noise / (gauge.noise + 1e-18)) - math.log(2))
        fresh = math.exp(-(at_ms - self.restored_ms) / (14 * DAY_MS)) if self.restored_ms >= 0 else 0.0
        values = (
            *codes,
            codes[1] - codes[3] / 2,
            level,
            level3,
            slope,
            min(3.0, spread),
            codes[2] * min(level, 4.0) / 4,
            min(1.0, quiet),
            fresh,
            math.log1p(max(0, device_age_ms) / (365 * DAY_MS)),
            math.log1p(max(0, since_service_ms) / (365 * DAY_MS)),
        )
        return dict(zip(FEATURES, values, strict=True))

    def _forget(self, now_ms: int) -> None:
        days = (now_ms - self.codes_ms) / DAY_MS
        if days > 0:
            self.codes = [
                count * math.exp(-days / time) if count else 0.0
                for count, time in zip(self.codes, _CODE_DAYS, strict=True)
            ]
            self.codes_ms = now_ms

    def _z(self, gauge: _Gauge, deviation: float) -> float:
        scale = math.sqrt(max(gauge.slow_noise, gauge.noise / 36)) + 1e-9
        return max(-self.Z_LIMIT, min(self.Z_LIMIT, deviation / scale))

    @staticmethod
    def _first_guess(week: "array[float]", hour: int, mean: float) -> float:
        for days_before in range(1, 7):
            usual = week[(hour - 24 * days_before) % WEEK_HOURS]
            if usual == usual:
                return usual
        return mean
