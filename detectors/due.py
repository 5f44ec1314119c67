"""Due: service limits that a counter is about to reach, and dates that come up; each is planned work, not a fault."""

import math
from datetime import UTC, datetime
from sys import intern
from typing import Any

import msgspec

from detectors.counter_forecast import CounterForecast, Forecast
from detectors.detector import Detector
from schema.catalogue import SERVICE, Limit
from schema.findings import Finding, Severity

VERSION = "due/1"
DAY_MS = 86_400_000


class LimitJudgement(msgspec.Struct, frozen=True):
    """What is known of a limit at the end of a day."""

    chance: float
    """Probability that it is reached within its lead time."""
    used: float
    """What the counter has grown since the last service."""
    remaining: float
    """At most 0 once the limit is reached."""
    at_ms: int
    forecast: Forecast | None
    """In how many days from then it is reached; None while that is far off."""


class Told(msgspec.Struct, frozen=True):
    """How right the forecast was by which a limit was announced, now that the counter has reached it."""

    error_days: float
    """Days that it took, less the median foretold."""
    within: bool
    """It came between the first and the ninth decile."""


class _Limit(msgspec.Struct):
    used: float = -1.0
    """-1 before the first reading."""
    foretold: tuple[int, float, float, float] | None = None
    """The day of the announcement, and early, median and late days from then."""


class Dues(Detector):
    """How far each counter of a device is from its service limits, and since when each date runs.

    Before a service is known, services are taken to have been at whole multiples of the limit: a counter at 23,400 with
    a service every 10,000 has 6,600 left. A service, or a part that was replaced, sets the counter of its limits back.

    * Range: a chance in [0, 1], 0.5 where the limit is as likely as not to be reached within the lead time.
    * Warm-up: see `CounterForecast`. Memory: a forecast a counter, three numbers a limit: 600 bytes.

    >>> dues, limit = Dues(), Limit(metric="scans", every=1000.0, lead_days=14)
    >>> for day in range(70):
    ...     dues.counter("scans", day, 1.0, 12.0)
    ...     judged, told = dues.judge("tube", limit, day, 12.0, 5012.0 + 12.0 * day)
    >>> round(judged.remaining), judged.chance > 0.5, round(judged.forecast.days)
    (160, True, 13)
    """

    SAYS = 0.02
    """Chance from which on a day is foretold."""

    def __init__(self) -> None:
        self.counters: dict[str, CounterForecast] = {}
        self.limits: dict[str, _Limit] = {}
        self.served_ms: dict[str, int] = {}

    def __getstate__(self) -> tuple[Any, ...]:
        """Plain values: a state is written for each device at each cut."""
        counters = {metric: forecast.__getstate__() for metric, forecast in self.counters.items()}
        limits = {name: msgspec.structs.astuple(limit) for name, limit in self.limits.items()}
        return counters, limits, self.served_ms

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        counters, limits, served_ms = state
        self.counters = {}
        for metric, known in counters.items():
            forecast = self.counters[intern(metric)] = CounterForecast.__new__(CounterForecast)
            forecast.__setstate__(known)
        self.limits = {intern(name): _Limit(*known) for name, known in limits.items()}
        self.served_ms = {intern(name): at_ms for name, at_ms in served_ms.items()}

    def counter(self, metric: str, day: int, span_days: float, growth: float) -> None:
        """A day of a counter is over (see `CounterForecast.update`); before the limits on it are judged."""
        if metric not in self.counters:
            self.counters[metric] = CounterForecast()
        self.counters[metric].update(day, span_days, growth)

    def judge(
        self, name: str, limit: Limit, day: int, growth: float, reading: float
    ) -> tuple[LimitJudgement | None, Told | None]:
        """Judge a limit at the end of a UTC day on which its counter has grown; `reading` is its highest value then.

        None while no whole day of the counter is known, or no reading. What is no number has not grown.
        """
        state = self.limits.setdefault(name, _Limit())
        if state.used >= 0:
            state.used += growth if math.isfinite(growth) else 0.0
        elif math.isfinite(reading):
            state.used = reading % limit.every
        if limit.metric not in self.counters or state.used < 0:
            return None, None
        counter, next_day = self.counters[limit.metric], day + 1
        remaining = limit.every - state.used
        chance = counter.chance(next_day, remaining, limit.lead_days)
        forecast = counter.forecast(next_day, remaining) if chance >= self.SAYS else None
        told = None
        if remaining > 0 and chance >= 0.5 and forecast is not None and state.foretold is None:
            state.foretold = (day, forecast.early_days, forecast.days, forecast.late_days)
        elif remaining <= 0 and state.foretold is not None and state.foretold[0] >= 0:
            said, early, median, late = state.foretold
            took = day - said
            told = Told(took - median, early - 1 <= took <= late + 1)
            state.foretold = (-1, 0.0, 0.0, 0.0)
        return LimitJudgement(chance, state.used, remaining, next_day * DAY_MS, forecast), told

    def served(self, name: str, at_ms: int) -> None:
        """The maintenance of a limit or date has been done."""
        self.served_ms[name] = at_ms
        if name in self.limits:
            self.limits[name].used = 0.0
            self.limits[name].foretold = None

    def next_service_ms(self, installed_ms: int, interval_ms: int, now_ms: int) -> int:
        """When the periodic service is due; the first time it is asked for, services were at whole multiples."""
        last_ms = self.served_ms.get(SERVICE)
        if last_ms is None:
            last_ms = installed_ms + max(0, now_ms - installed_ms) // interval_ms * interval_ms
            self.served_ms[SERVICE] = last_ms
        return last_ms + interval_ms


def limit_finding(
    judgement: LimitJudgement, name: str, limit: Limit, unit: str, *, device_id: str, site_id: str, customer_id: str
) -> Finding:
    """Put a limit into alerting's words; policy raises at a chance of 0.5 and resolves below 0.25."""
    at_ms, forecast = judgement.at_ms, judgement.forecast
    evidence: dict[str, Any] = {
        "what": limit.text or name,
        "metric": limit.metric,
        "unit": unit,
        "every": limit.every,
        "used": round(judgement.used, 2),
        "remaining": round(judgement.remaining, 2),
        "lead_days": limit.lead_days,
        "version": VERSION,
        "advice": "plan_maintenance",
    }
    if forecast is not None:
        days = (forecast.early_days, forecast.days, forecast.late_days)
        evidence |= _due(*(at_ms + round(each * DAY_MS) for each in days))
    names = {"device_id": device_id, "site_id": site_id, "customer_id": customer_id}
    severity: Severity = "warning" if judgement.remaining <= 0 else "info"
    return _finding("due", name, at_ms, judgement.chance, severity, evidence, names)


def date_finding(
    detector: str,
    name: str,
    due_ms: int,
    lead_days: int,
    now_ms: int,
    text: str,
    *,
    device_id: str,
    site_id: str,
    customer_id: str,
) -> Finding:
    """Put a date into alerting's words: `due` opens planned work, `expiring` tells of a warranty or contract.

    Work stays due until it is done; what has ended expires no more. `due_ms` is 0 where there is no such date.
    """
    evidence: dict[str, Any] = {
        "what": text,
        "lead_days": lead_days,
        "version": VERSION,
        "advice": "plan_maintenance" if detector == "due" else "offer_extension",
        **_due(due_ms, due_ms, due_ms),
    }
    names = {"device_id": device_id, "site_id": site_id, "customer_id": customer_id}
    severity: Severity = "warning" if due_ms <= now_ms and detector == "due" else "info"
    near = due_ms > 0 and due_ms - lead_days * DAY_MS <= now_ms
    over = detector == "expiring" and due_ms <= now_ms
    return _finding(detector, name, now_ms, 1.0 if near and not over else 0.0, severity, evidence, names)


def _due(early_ms: int, due_ms: int, late_ms: int) -> dict[str, Any]:
    """A day for people, and for work orders the times of the first decile, the median and the ninth decile."""
    day = datetime.fromtimestamp(due_ms / 1000, UTC).date().isoformat()
    return {"due": day, "due_ms": [early_ms, due_ms, late_ms]}


def _finding(
    detector: str,
    subsystem: str,
    at_ms: int,
    score: float,
    severity: Severity,
    evidence: dict[str, Any],
    names: dict[str, str],
) -> Finding:
    return Finding(
        detector=detector,
        subsystem=subsystem,
        at_ms=at_ms,
        onset_ms=at_ms,
        score=score if math.isfinite(score) else 0.0,
        severity=severity,
        evidence=evidence,
        **names,
    )
