"""Health of one subsystem: fault codes and gauges condensed into features that mean the same everywhere."""

import math
from array import array
from sys import intern
from typing import Any

from detectors.detector import Detector, is_number
from schema.interned import one_of

VERSION = "subsystem_health/3"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
HOURS = 48
"""What is usual is known by the hour of working days, and by that of weekends."""
_SATURDAY = 2  # 1970-01-01 was a Thursday

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


_VISITS, _DAY, _DAYS3, _NOISE, _SLOW_NOISE, _NOW_NOISE, _OFF, _LAST_MS, _FAST, _SLOW = range(10)
"""Numbers of a gauge: windows seen; mean of about a day and of about three days of deviations from the usual level;
usual square of an hour's deviation, of a day's mean deviation, and the present square of an hour's; hours in a row that
the level was unusual; end of the last window; mean of about FAST_H and of about SLOW_H hours as they are."""
_NUMBERS = 10
_CODES = len(_CODE_DAYS)
_NO_CODES = array("d", [0.0] * _CODES)
_NEW_WEEK = array("f", [math.nan] * HOURS)
_NEW_NUMBERS = array("d", [0.0, math.nan] + [0.0] * 8)


class SubsystemHealth(Detector):
    """Features of one subsystem, kept up to date by its faults and by the closed hourly windows of its gauges.

    Faults are counted with exponential forgetting over 6 h, 1, 3 and 7 days. A gauge is compared with its own usual
    level for the hour of such a day; the deviation is averaged over about a day and put into units of what such
    an average usually is: z = day / sqrt(slow_noise); another unit, another model or a noisy sensor changes nothing.
    A level that is unusual (|z| > FREEZE_Z) is not learned, until it has lasted FREEZE_HOURS: then it is the new usual.

    * Range: counts as log(1 + n), z within +-Z_LIMIT taken to its absolute value, ages in years on a log scale;
      all features are finite and of the order of 1.
    * Warm-up: WARM_HOURS windows a gauge; its features are 0 until then.
    * Memory: 48 single and 10 double floats a gauge, 6 numbers for faults: about 280 bytes a gauge; some 40 bytes for
      each of the HAPPENED last things that happened.
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
    LEARN = 0.06
    """Least weight of a window in what is usual at its hour: five working days have a quarter."""
    FREEZE_Z = 3.0
    FREEZE_HOURS = 240
    """Ten days: longer than any precursor, shorter than it would take to be blind for good."""
    Z_LIMIT = 12.0
    FAST_H, SLOW_H = 12, 36
    """Hours over which a gauge's level, and the level that it drifts from, are averaged."""
    HAPPENED = 24
    ORDER = 3
    """How many of the newest things of a kind are told whatever they were."""

    __slots__ = ("codes_ms", "gauges", "happened_ms", "numbers", "restored_ms", "weeks")

    def __init__(self) -> None:
        self.codes_ms = 0
        self.gauges: tuple[str, ...] = ()
        self.weeks: array[float] = array("f")
        """Usual level by HOURS, gauge after gauge; NaN where never seen. Single precision is more than any
        sensor's."""
        self.numbers: array[float] = _NO_CODES[:]
        """Faded counts of faults, then `_NUMBERS` of each gauge."""
        self.restored_ms = -1
        self.happened_ms: dict[str, int] = {}
        """When each thing happened last, by its kind and, after a blank, what it is."""

    def __getstate__(self) -> tuple[Any, ...]:
        """Numbers as bytes: a state is written for each subsystem at each cut."""
        return (
            self.codes_ms,
            self.restored_ms,
            self.gauges,
            self.weeks.tobytes(),
            self.numbers.tobytes(),
            list(self.happened_ms.items()),
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.codes_ms, self.restored_ms, gauges, weeks, numbers, happened = state
        self.happened_ms = {intern(what): at_ms for what, at_ms in happened}
        self.gauges = one_of(gauges)
        self.weeks, self.numbers = array("f", weeks)[:], array("d", numbers)[:]  # [:]: no room to grow

    def happened(self, at_ms: int, kind: str, what: str) -> None:
        """Note that something happened, for `ages_h`; of more than HAPPENED the one longest ago is forgotten."""
        times, named = self.happened_ms, intern(f"{kind} {what}")
        times[named] = max(at_ms, times.get(named, at_ms))
        if len(times) > self.HAPPENED:
            del times[min(times, key=lambda each: (times[each], each))]

    def fault(self, ts_ms: int, severity: str, code: str = "") -> None:
        """A fault of this subsystem; `info` does not count."""
        weight = _SEVERITY_WEIGHT.get(severity, 0.0)
        if weight:
            self.happened(ts_ms, "code", code)
            self._forget(ts_ms)
            for place in range(_CODES):
                self.numbers[place] += weight

    def window(self, end_ms: int, metric: str, mean: float | None, count: int) -> None:
        """A closed hourly window of one of the gauges, the mean of `count` readings; nothing if it is no number."""
        if count <= 0 or not is_number(mean):
            return
        place = self._place_of(metric)
        gauge, week = _CODES + place * _NUMBERS, place * HOURS
        numbers, weeks = self.numbers, self.weeks
        hour = _hour_of(end_ms - 1)
        known = weeks[week + hour]
        usual = known if known == known else self._first_guess(week, hour, mean)
        deviation = mean - usual
        visits = numbers[gauge] = numbers[gauge] + 1
        for place, hours in ((_FAST, self.FAST_H), (_SLOW, self.SLOW_H)):
            numbers[gauge + place] += (mean - numbers[gauge + place]) / min(visits, hours)
        numbers[gauge + _LAST_MS] = end_ms
        learn = max(self.LEARN, HOURS / (visits + HOURS))
        if visits <= 24:
            weeks[week + hour] = usual + learn * deviation
            return
        _, day, days3, noise, slow_noise, now_noise, off, *_ = numbers[gauge : gauge + _NUMBERS]
        if day != day:
            day = days3 = deviation
            noise = slow_noise = now_noise = deviation * deviation
        limit = 4 * math.sqrt(noise) + 1e-12
        clipped = max(-limit, min(limit, deviation))
        day += (deviation - day) / 18
        days3 += (deviation - days3) / 54
        now_noise += ((deviation - day) ** 2 - now_noise) / 18
        unusual = visits > self.WARM_HOURS and abs(self._z(day, slow_noise, noise)) > self.FREEZE_Z
        off = off + 1 if unusual else 0
        if unusual and off < self.FREEZE_HOURS:
            if known != known:
                weeks[week + hour] = usual
        else:
            rate = max(1 / visits, 1 / 240)
            noise += rate * (clipped * clipped - noise)
            slow_noise += rate * (day * day - slow_noise)
            weeks[week + hour] = usual + learn * deviation
        numbers[gauge : gauge + _LAST_MS] = array("d", (visits, day, days3, noise, slow_noise, now_noise, off))

    def restored(self, at_ms: int) -> None:
        """The subsystem was repaired: what led to the failure is over, what is usual stays."""
        self.restored_ms = at_ms
        self.happened(at_ms, "repair", "")
        self.numbers[:_CODES] = _NO_CODES
        self.codes_ms = at_ms
        numbers = self.numbers
        for gauge in range(_CODES, len(numbers), _NUMBERS):
            numbers[gauge + _OFF] = 0
            if numbers[gauge + _DAY] == numbers[gauge + _DAY]:
                numbers[gauge + _DAY] = numbers[gauge + _DAYS3] = 0.0
                numbers[gauge + _NOW_NOISE] = numbers[gauge + _NOISE]

    def features(self, at_ms: int, device_age_ms: int, since_service_ms: int) -> dict[str, float]:
        """Features as of `at_ms`, in the order of `FEATURES`."""
        self._forget(at_ms)
        codes = [math.log1p(count) for count in self.numbers[:_CODES]]
        level = level3 = slope = spread = 0.0
        quiet = 0
        for gauge in range(_CODES, len(self.numbers), _NUMBERS):
            visits, day, days3, noise, slow_noise, now_noise, _, last_ms, *_ = self.numbers[gauge : gauge + _NUMBERS]
            if visits <= self.WARM_HOURS:
                continue
            if at_ms - last_ms > DAY_MS:
                quiet += 1
                continue
            level = max(level, abs(self._z(day, slow_noise, noise)))
            level3 = max(level3, abs(self._z(days3, slow_noise, noise)))
            slope = max(slope, abs(self._z(day - days3, slow_noise, noise)))
            spread = max(spread, math.log1p(now_noise / (noise + 1e-18)) - math.log(2))
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

    def trends(self, at_ms: int) -> dict[str, float]:
        """Level and slope of each gauge heard within a day, in the gauge's own unit.

        The level is a mean of about FAST_H hours, the slope how far that is from the mean of SLOW_H.
        """
        trends = {}
        for place, gauge in enumerate(self.gauges):
            first = _CODES + place * _NUMBERS
            numbers = self.numbers[first : first + _NUMBERS]
            if at_ms - numbers[_LAST_MS] <= DAY_MS:
                trends[f"level {gauge}"] = numbers[_FAST]
                trends[f"slope {gauge}"] = numbers[_FAST] - numbers[_SLOW]
        return trends

    def ages_h(self, at_ms: int) -> dict[str, float]:
        """Hours since each thing happened last, and since the ORDER newest of each kind (#1 the newest)."""
        ages: dict[str, float] = {}
        many: dict[str, int] = {}
        for at, what in sorted(((at, what) for what, at in self.happened_ms.items()), reverse=True):
            age_h = ages[f"since {what}"] = (at_ms - at) / HOUR_MS
            kind = what.partition(" ")[0]
            number = many[kind] = many.get(kind, 0) + 1
            if number <= self.ORDER:
                ages[f"since {kind} #{number}"] = age_h
        return dict(sorted(ages.items()))

    def _forget(self, now_ms: int) -> None:
        days = (now_ms - self.codes_ms) / DAY_MS
        if days > 0:
            for place, time in enumerate(_CODE_DAYS):
                self.numbers[place] *= math.exp(-days / time)
            self.codes_ms = now_ms

    def _place_of(self, metric: str) -> int:
        if metric not in self.gauges:
            self.gauges = one_of((*self.gauges, metric))
            self.weeks += _NEW_WEEK
            self.numbers += _NEW_NUMBERS
        return self.gauges.index(metric)

    def _z(self, deviation: float, slow_noise: float, noise: float) -> float:
        scale = math.sqrt(max(slow_noise, noise / 36)) + 1e-9
        return max(-self.Z_LIMIT, min(self.Z_LIMIT, deviation / scale))

    def _first_guess(self, week: int, hour: int, mean: float) -> float:
        usual = self.weeks[week + (hour + 24) % HOURS]
        return usual if usual == usual else mean


def _hour_of(at_ms: int) -> int:
    """Place of an hour among HOURS (UTC)."""
    days, hour = divmod(at_ms // HOUR_MS, 24)
    return int(hour + 24 * ((days - _SATURDAY) % 7 < 2))
