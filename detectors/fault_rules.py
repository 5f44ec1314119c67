"""Fault rules: what the fault events of a device say at once, by the catalogue's severities."""

import math
from sys import intern
from typing import Any, Literal

import msgspec

from detectors.alert_threshold import SCALES, surprise
from detectors.detector import Detector
from schema.findings import SEVERITIES, Finding, Severity
from schema.interned import same

VERSION = "fault_rule/1"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

Rule = Literal["immediate", "repeat", "burst", "cleared"]

THRESHOLD = SCALES["fault_rule"].start
"""Log odds of surprise at which repeats and bursts count before the budget knows better."""


class RuleJudgement(msgspec.Struct, frozen=True):
    """What the rules say about a subsystem: score 1.0 while a rule holds, 0.0 when it has been quiet."""

    subsystem: str
    at_ms: int
    onset_ms: int
    score: float
    severity: Severity
    rule: Rule
    codes: dict[str, int]
    """Faults of the last 24 h before the judgement, by code."""


class _Subsystem(msgspec.Struct, gc=False):
    recent: list[tuple[int, str]]
    """(time, code) of warnings and worse, oldest first, of the last 24 h."""
    usual: float
    """Warnings a day, learned while no rule holds."""
    learned_ms: int
    onset_ms: int = -1
    """Since when a rule holds; -1 while none does."""
    clear_at_ms: int = -1
    severity: Severity = "warning"
    rule: Rule = "cleared"
    stopped: bool = False
    odds: float = -40.0


class FaultRules(Detector):
    """Immediate, repeat and burst rules over the fault events of one device.

    * immediate: a fault of severity `error` or `critical` of the catalogue.
    * repeat: the same warning REPEAT times within 24 h, or more often where that is usual.
    * burst: BURST warnings of one subsystem within 24 h, or more where that is usual.

    More where that is usual: with a usual rate of r a day, n faults come by chance r x P(Poisson(r) >= n - 1) times a
    day, and only counts rarer than the alert budget's threshold are reported. `info` says nothing.

    A rule holds until nothing but `info` has come for QUIET_MS; a fault that stops the device holds until the device
    was `restored` (booted after its repair), however quiet it is.

    * Range: score 1.0 (holds) or 0.0 (cleared). Warm-up: none.
    * Memory: at most KEPT faults a subsystem, about 8 kB; of a usual day none to three.
    * Source: repeat and burst rules of service desks; the count comes from the tail of the Poisson distribution.

    >>> rules = FaultRules()
    >>> [rules.fault(hour * HOUR_MS, "XR-101", "warning", "tube") is not None for hour in range(6)]
    [False, False, False, True, True, True]
    >>> rules.deadline_ms() == (5 + 24) * HOUR_MS
    True
    """

    REPEAT = 4
    BURST = 5
    QUIET_MS = DAY_MS
    KEPT = 64
    USUAL = 0.1
    """Warnings a day of a subsystem before anything is known."""
    MEMORY_DAYS = 30.0
    """Time constant of the usual rate."""
    FORGOTTEN = 1e-3
    """A usual rate that says nothing any more: that of five quiet months."""

    __slots__ = ("subsystems",)

    def __init__(self) -> None:
        self.subsystems: dict[str, _Subsystem] = {}

    def __getstate__(self) -> list[tuple[Any, ...]]:
        """Plain values: a state is written for each device at each cut."""
        return [(name, *msgspec.structs.astuple(each)) for name, each in self.subsystems.items()]

    def __setstate__(self, state: list[tuple[Any, ...]]) -> None:
        self.subsystems = {
            intern(name): _Subsystem([(at_ms, intern(code)) for at_ms, code in recent], *map(same, rest))
            for name, recent, *rest in state
        }

    def fault(
        self,
        ts_ms: int,
        code: str,
        severity: Severity,
        subsystem: str,
        stops_device: bool = False,
        threshold: float = THRESHOLD,
    ) -> RuleJudgement | None:
        """Take in a fault event; the judgement if a rule holds for its subsystem now, else None.

        `threshold` are the log odds of surprise from which repeats and bursts count, of the alert budget.
        """
        if severity == "info":
            return None
        state = self.subsystems.get(subsystem)
        if state is None:
            self._forget(ts_ms)
            state = self.subsystems[subsystem] = _Subsystem([], self.USUAL, ts_ms)
        self._learn(state, ts_ms)
        state.recent.append((ts_ms, code))
        del state.recent[: -self.KEPT]
        found = self._rule(state, code, severity, threshold)
        if found == "cleared" and state.onset_ms < 0:
            return None
        if state.onset_ms < 0:
            same = [at for at, other in state.recent if found != "repeat" or other == code]
            state.onset_ms = ts_ms if found == "immediate" else same[0]
            state.severity = severity
            state.rule = found
        elif found == "immediate":
            state.rule = found
        if SEVERITIES.index(severity) > SEVERITIES.index(state.severity):
            state.severity = severity
        state.stopped = state.stopped or stops_device
        state.clear_at_ms = max(state.clear_at_ms, ts_ms + self.QUIET_MS)
        return self._judgement(subsystem, state, ts_ms)

    def restored(self, at_ms: int) -> list[RuleJudgement]:
        """The device booted and works again: what had stopped it is over. Judgements in the order of subsystems."""
        return [self._clear(name, at_ms) for name in self.stopped()]

    def stopped(self) -> list[str]:
        """Subsystems that have stopped the device, sorted."""
        return sorted(name for name, state in self.subsystems.items() if state.stopped)

    def deadline_ms(self) -> int | None:
        """When `tick` would next clear something if no further fault comes; None if nothing waits."""
        waiting = [s.clear_at_ms for s in self.subsystems.values() if s.onset_ms >= 0 and not s.stopped]
        return min(waiting, default=None)

    def tick(self, now_ms: int) -> list[RuleJudgement]:
        """Clear what has been quiet long enough by `now_ms`; judgements in the order of subsystems."""
        quiet = [
            name
            for name, state in sorted(self.subsystems.items())
            if state.onset_ms >= 0 and not state.stopped and state.clear_at_ms <= now_ms
        ]
        return [self._clear(name, now_ms) for name in quiet]

    def _forget(self, ts_ms: int) -> None:
        """Drop subsystems that have been quiet for so long that nothing is known of them."""
        for name, state in list(self.subsystems.items()):
            elapsed_days = (ts_ms - state.learned_ms) / DAY_MS
            usual = state.usual * math.exp(-max(0.0, elapsed_days) / self.MEMORY_DAYS)
            if state.onset_ms < 0 and usual < self.FORGOTTEN:
                del self.subsystems[name]

    def _learn(self, state: _Subsystem, ts_ms: int) -> None:
        while state.recent and state.recent[0][0] <= ts_ms - DAY_MS:
            del state.recent[0]
        elapsed_days = max(0, ts_ms - state.learned_ms) / DAY_MS
        state.learned_ms = max(state.learned_ms, ts_ms)
        state.usual *= math.exp(-elapsed_days / self.MEMORY_DAYS)
        if state.onset_ms < 0:
            state.usual += 1 / self.MEMORY_DAYS

    def candidate(self, subsystem: str) -> float:
        """Log odds of surprise of the last warning of a subsystem; -40 if it made neither a repeat nor a burst."""
        known = self.subsystems.get(subsystem)
        return known.odds if known is not None else -40.0

    def _rule(self, state: _Subsystem, code: str, severity: Severity, threshold: float) -> Rule:
        state.odds = -40.0
        if severity != "warning":
            return "immediate"
        same, many = sum(other == code for _, other in state.recent), len(state.recent)
        if same < self.REPEAT and many < self.BURST:
            return "cleared"
        of_same = self._odds(state.usual, same) if same >= self.REPEAT else -40.0
        of_all = self._odds(state.usual, many) if many >= self.BURST else -40.0
        state.odds = max(of_same, of_all)
        if state.odds < threshold:
            return "cleared"
        return "repeat" if of_same >= threshold else "burst"

    @staticmethod
    def _odds(usual: float, count: int) -> float:
        """Log odds of surprise of so many warnings in 24 h, the last one included, at a usual rate a day."""
        term = below = math.exp(-usual)
        for n in range(1, count - 1):
            term *= usual / n
            below += term
        return surprise(usual * max(0.0, 1 - below))

    def _judgement(self, subsystem: str, state: _Subsystem, at_ms: int, score: float = 1.0) -> RuleJudgement:
        codes: dict[str, int] = {}
        for _, code in state.recent:
            codes[code] = codes.get(code, 0) + 1
        return RuleJudgement(subsystem, at_ms, state.onset_ms, score, state.severity, state.rule, codes)

    def _clear(self, subsystem: str, at_ms: int) -> RuleJudgement:
        state = self.subsystems[subsystem]
        judgement = self._judgement(subsystem, state, at_ms, score=0.0)
        state.onset_ms = state.clear_at_ms = -1
        state.stopped = False
        state.rule, state.severity = "cleared", "warning"
        state.recent.clear()
        return judgement


def finding(judgement: RuleJudgement, *, device_id: str, site_id: str, customer_id: str) -> Finding:
    """Put a judgement into alerting's words; policy raises at 1.0 and resolves at 0.0."""
    return Finding(
        detector="fault_rule",
        device_id=device_id,
        site_id=site_id,
        customer_id=customer_id,
        subsystem=judgement.subsystem,
        at_ms=judgement.at_ms,
        onset_ms=judgement.onset_ms,
        score=judgement.score,
        severity=judgement.severity,
        evidence={
            "rule": judgement.rule,
            "codes": judgement.codes,
            "window": [judgement.at_ms - DAY_MS, judgement.at_ms],
            "version": VERSION,
            "advice": "dispatch_engineer" if judgement.severity == "critical" else "inspect_subsystem",
        },
    )
