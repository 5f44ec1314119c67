"""Fault patterns: codes that are new on a device, or come more often than its own and its fleet's rate explain."""

import math
from collections.abc import Sequence
from sys import intern
from typing import Any, Literal

import msgspec

from detectors.alert_threshold import surprise
from detectors.detector import Detector
from schema.findings import Finding

VERSION = "fault_pattern/1"
DAY_MS = 86_400_000
_Events = tuple[int, dict[str, int]]
"""Device-days watched, and events by code."""
_EVENTS = msgspec.msgpack.Decoder(_Events)


class CodeRates(Detector):
    """How often each fault code comes on devices of one model, over the whole fleet.

    * Range: events a device-day, above 0. Warm-up: none, EVENTS in DAYS device-days are believed beforehand.
    * Memory: a number a code, CODES at most.

    >>> rates = CodeRates()
    >>> rates.seen("XR-101"), rates.watched(100)
    (None, None)
    >>> rates.absorb([rates.contribution()])
    >>> rates.rate("XR-101") > rates.rate("XR-102")
    True
    """

    CONTRIBUTION = 1
    EVENTS, DAYS = 0.5, 50.0
    FADE = 0.5 ** (1 / 90)
    """What a day leaves of what is known: three months count half."""
    CODES = 500
    """Of a day those that come first in the order of names: of them all events are counted, whoever saw which first."""

    def __init__(self) -> None:
        self.events: dict[str, float] = {}
        self.days = 0.0
        self.events_today: dict[str, int] = {}
        self.days_today = 0

    def rate(self, code: str) -> float:
        """Events of the code a device and day."""
        return (self.events.get(code, 0.0) + self.EVENTS) / (self.days + self.DAYS)

    def seen(self, code: str) -> None:
        """A device has reported the code."""
        self.events_today[code] = self.events_today.get(code, 0) + 1
        if len(self.events_today) > self.CODES:
            del self.events_today[max(self.events_today)]

    def watched(self, device_days: int) -> None:
        """So many device-days were watched."""
        self.days_today += device_days

    def contribution(self) -> bytes:
        """What this partition adds for the day that closes; the next one begins."""
        if not (self.days_today or self.events_today):
            return b""
        packed = msgspec.msgpack.encode((self.days_today, dict(sorted(self.events_today.items()))))
        self.days_today, self.events_today = 0, {}
        return packed

    @staticmethod
    def read(contribution: bytes) -> _Events:
        """What a contribution says; ValueError if it is none."""
        days, events = _EVENTS.decode(contribution)
        if min([days, *events.values()]) < 0:
            raise ValueError("fewer events than none")
        return days, events

    def absorb(self, contributions: Sequence[bytes]) -> None:
        """Take in what all partitions have added for a day: sums of whole numbers, so their order does not show."""
        days, today = 0, dict[str, int]()
        for more, events in [self.read(packed) for packed in contributions if packed]:
            days += more
            for code, count in events.items():
                today[code] = today.get(code, 0) + count
        first = sorted(today)[: self.CODES]
        sums = dict.fromkeys(self.events, 0) | {code: today[code] for code in first}
        self.days = self.FADE * self.days + days
        known = {code: self.FADE * self.events.get(code, 0.0) + count for code, count in sums.items()}
        kept = sorted(known, key=lambda code: (-known[code], code))[: self.CODES]
        self.events = {intern(code): known[code] for code in sorted(kept) if known[code] > 1e-3}


class PatternJudgement(msgspec.Struct, frozen=True):
    """How surprising the codes of a subsystem are."""

    subsystem: str
    at_ms: int
    onset_ms: int
    odds: float
    """Log odds of surprise; see `detectors.alert_threshold.surprise`."""
    kind: Literal["new", "burst", "cleared"]
    code: str
    count: int
    window_days: int
    expected: float
    """Events of the code in such a window, from the device's own past and the fleet's rate."""
    fleet_a_day: float


class _Code(msgspec.Struct, gc=False):
    subsystem: str
    count: float
    """Events before those in `recent`, faded."""
    recent: list[int]
    """Times of the last LONGEST days, oldest first, of which nobody has been told yet."""
    faded_ms: int


class FaultPatterns(Detector):
    """Tail of the negative binomial distribution of each code's counts on one device.

    A code's rate on a device is Gamma distributed about the fleet's rate f with shape SHAPE (devices differ), and the
    device's own past, n events in T days, makes it Gamma(SHAPE + n, SHAPE / f + T). So the count K of w days to come
    is negative binomial, and of k events in the last w days the chance a day to begin something like it is

        mean rate x P(K_w >= k - 1),

    the least of it over WINDOWS, times their number. A code's first event is the case k = 1: rare where the code is new
    on the device and rare in its fleet. `info` says nothing. A pattern is over when QUIET_MS have passed without.

    * Range: log odds of surprise, at most 40. Warm-up: none, the fleet's rate and the prior speak.
    * Memory: CODES codes of at most KEPT times: of a usual device 200 bytes, 9 kB at most.
    * Source: Gamma-Poisson shrinkage as in DuMouchel (1999), Bayesian data mining in large frequency tables, The
      American Statistician 53(3).

    >>> patterns, rates = FaultPatterns(), CodeRates()
    >>> rates.watched(3000)
    >>> rates.absorb([rates.contribution()])
    >>> patterns.watched(200)
    >>> patterns.fault(200 * DAY_MS, "XR-777", "tube", rates.rate("XR-777")).kind
    'new'
    """

    SHAPE = 0.5
    """Rates differ between devices by 140 %."""
    WINDOWS = (1, 7)
    LONGEST = 7
    FADE_DAYS = 90.0
    QUIET_MS = 2 * DAY_MS
    KEPT = 16
    CODES = 64
    LEAST_RATE = 1e-6
    """Events a device-day of a code that is said never to come."""

    __slots__ = ("codes", "days", "up")

    def __init__(self) -> None:
        self.days = 0.0
        """Days watched, faded."""
        self.codes: dict[str, _Code] = {}
        self.up: dict[str, tuple[int, int]] = {}
        """By subsystem with a pattern: since when, and when it clears."""

    def __getstate__(self) -> tuple[Any, ...]:
        """Plain values: a state is written for each device at each cut."""
        return [(code, *msgspec.structs.astuple(each)) for code, each in self.codes.items()], self.up, self.days

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        codes, self.up, self.days = state
        self.codes = {intern(code): _Code(intern(subsystem), *rest) for code, subsystem, *rest in codes}

    def watched(self, days: int = 1) -> None:
        """The device was heard on so many days more."""
        for _ in range(days):
            self.days = self.days * math.exp(-1 / self.FADE_DAYS) + 1

    def fault(self, at_ms: int, code: str, subsystem: str, fleet_a_day: float) -> PatternJudgement:
        """Take in a fault event of a severity above `info`.

        Args:
            at_ms: Time of the fault; one that is told late counts where it belongs.
            code: The fault code.
            subsystem: Where it belongs.
            fleet_a_day: The fleet's rate (`CodeRates.rate`).
        """
        known = self.codes.get(code)
        if known is None:
            if len(self.codes) == self.CODES:
                del self.codes[min(self.codes, key=lambda each: (self.codes[each].faded_ms, each))]
            known = self.codes[code] = _Code(subsystem, 0.0, [], at_ms)
        self._fade(known, at_ms)
        known.recent.append(at_ms)
        known.recent.sort()
        over = max(0, len(known.recent) - self.KEPT)
        known.count += over
        del known.recent[:over]
        first = known.count < 1e-3 and len(known.recent) == 1
        shape = self.SHAPE + known.count
        rate = self.SHAPE / max(fleet_a_day, self.LEAST_RATE) + max(0.0, self.days - self.LONGEST)
        chance, count, window = 1.0, 1, self.WINDOWS[0]
        for days in self.WINDOWS:
            seen = sum(at_ms - days * DAY_MS < each <= at_ms for each in known.recent)
            found = len(self.WINDOWS) * shape / rate * self._at_least(seen - 1, shape, days / (rate + days))
            if found < chance:
                chance, count, window = found, seen, days
        since_ms = at_ms if subsystem not in self.up else self.up[subsystem][0]
        return PatternJudgement(
            subsystem, at_ms, since_ms, surprise(chance), "new" if first else "burst", code, count, window,
            shape / rate * window, fleet_a_day,
        )  # fmt: skip

    def raised(self, judgement: PatternJudgement) -> None:
        """The judgement is above the threshold: it holds until it has been quiet."""
        self.up[judgement.subsystem] = judgement.onset_ms, judgement.at_ms + self.QUIET_MS

    def told(self, subsystem: str, repaired: bool = False) -> None:
        """What came so far is known: it belongs to the past, or to a part that has been repaired."""
        for known in self.codes.values():
            if known.subsystem == subsystem:
                known.count += 0 if repaired else len(known.recent)
                known.recent.clear()

    def deadline_ms(self) -> int | None:
        """When `tick` would next clear something; None if nothing waits."""
        return min((clear_ms for _, clear_ms in self.up.values()), default=None)

    def tick(self, now_ms: int) -> list[PatternJudgement]:
        """Clear what has been quiet by `now_ms`, in the order of subsystems."""
        quiet = sorted(name for name, (_, clear_ms) in self.up.items() if clear_ms <= now_ms)
        for name in quiet:
            self.told(name)
        return [
            PatternJudgement(name, now_ms, self.up.pop(name)[0], -40.0, "cleared", "", 0, 0, 0.0, 0.0)
            for name in quiet
        ]

    def _fade(self, known: _Code, at_ms: int) -> None:
        old = [each for each in known.recent if each <= at_ms - self.LONGEST * DAY_MS]
        del known.recent[: len(old)]
        elapsed_days = max(0, at_ms - known.faded_ms) / DAY_MS
        known.count = known.count * math.exp(-elapsed_days / self.FADE_DAYS) + len(old)
        known.faded_ms = max(known.faded_ms, at_ms)

    @staticmethod
    def _at_least(count: int, shape: float, odds: float) -> float:
        """P(K >= count) of a negative binomial with this shape; `odds` is the chance that another one follows."""
        term = below = math.exp(shape * math.log1p(-odds))
        if count <= 0:
            return 1.0
        for each in range(1, count):
            term *= (shape + each - 1) / each * odds
            below += term
        tail = 1 - below
        if tail > 1e-9:
            return tail
        term *= (shape + count - 1) / count * odds
        return term / (1 - odds)  # the first term that is not below, and what follows it at most


def finding(
    judgement: PatternJudgement,
    score: float,
    threshold: float,
    *,
    device_id: str,
    site_id: str,
    customer_id: str,
) -> Finding:
    """Put a judgement into alerting's words; policy raises at a score of 0.5 and resolves below 0.25."""
    return Finding(
        detector="fault_pattern",
        device_id=device_id,
        site_id=site_id,
        customer_id=customer_id,
        subsystem=judgement.subsystem,
        at_ms=judgement.at_ms,
        onset_ms=judgement.onset_ms,
        score=score,
        severity="info",
        evidence={
            "pattern": judgement.kind,
            "codes": {judgement.code: judgement.count} if judgement.code else {},
            "window": [judgement.at_ms - judgement.window_days * DAY_MS, judgement.at_ms],
            "expected": round(judgement.expected, 3),
            "fleet_a_device_day": round(judgement.fleet_a_day, 5),
            "false_once_in_days": round(math.exp(min(judgement.odds, 20.0))),
            "raised_from_days": round(math.exp(min(threshold, 20.0))),
            "version": VERSION,
            "advice": "read_device_log",
        },
    )
