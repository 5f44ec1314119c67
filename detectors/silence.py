"""Silence: has a device stopped talking, and has its whole site."""

from array import array
from collections.abc import Sequence
from math import log
from typing import Any

import msgspec

from detectors.bayes_logistic import sigmoid
from detectors.detector import Detector
from schema.findings import Finding

VERSION = "silence/2"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_MONDAY = 3  # 1970-01-01 was a Thursday
_AWAKE = 255
_ALWAYS_AWAKE = bytes([_AWAKE]) * (168 + 48)
_MOST_GAP_MS = 2**32 - 1
_MOST_HOURS = 14 * 24
"""Whoever sleeps for longer than that is overdue."""


class Cadence(Detector):
    """How often a device talks and in which hours of the week it sleeps, from the receive times of its messages.

    The interval is the upper quartile of the last GAPS gaps, so that messages in between (faults are sent at once) do
    not shorten it and a few outages do not lengthen it. Gaps below a tenth of the catalogue's interval are bursts (a
    backlog, several faults) and teach nothing; longer ones are clipped to LONGEST intervals. A device is overdue when

        MISSED x interval + SLACK_MS,   interval in [SHORTEST, LONGEST] x the catalogue's,

    of its waking hours have passed since it was heard last. For each hour of the week the share of weeks is smoothed in
    which it was heard, drawn towards that hour of all weekdays (or weekend days), which knows a night after four of
    them; an hour sleeps where it is below a half. A gap teaches up to LONGEST_SLEEP_MS, and not at all if it is
    explained otherwise (the whole site was offline); hours are UTC, so a change of clocks moves them for two weeks.

    * Range: a time; the finding's score is 1.0 from then on and 0.0 once the device is heard again.
    * Warm-up: none, the catalogue's interval holds until GAPS / 4 gaps are known; never heard is never overdue.
    * Memory: GAPS integers, 216 hours as bytes: about 750 bytes.
    * Source: upper quartile as the robust location of a censored renewal process; the rule itself is the usual
      "three missed heartbeats", counted in the operational time of a process that rests.

    >>> cadence = Cadence(1_800_000)
    >>> for at_ms in range(0, 36_000_000, 1_800_000):
    ...     cadence.heard(at_ms)
    >>> (cadence.overdue_at_ms() - cadence.last_ms) / 60_000
    100.0
    """

    GAPS = 32
    MISSED = 3
    """Messages that must be missing: one may be lost, two may be late."""
    SLACK_MS = 600_000
    """Two of the simulator's clocks, or a slow gateway."""
    SHORTEST = 0.5
    LONGEST = 4.0
    LONGEST_SLEEP_MS = 100 * HOUR_MS
    """From a Friday afternoon to the Tuesday morning after a holiday."""
    WEEK_RATE, DAY_RATE, WEEKEND_RATE = 3, 4, 6
    """One part in so many is forgotten of an hour of the week with each week, of an hour of the day with each day.
    Who sleeps in an hour of weekdays will do so at the weekend: each teaches that too, more slowly."""
    POOLED = 2
    """Weeks as which the hour of all such days counts beside the hour of the week itself."""

    __slots__ = ("catalogue_ms", "days", "excused_ms", "gaps", "hours", "last_ms", "week")

    def __init__(self, catalogue_ms: int = HOUR_MS // 2) -> None:
        """`catalogue_ms`: the catalogue's message interval, above 0."""
        self.catalogue_ms = catalogue_ms
        self.last_ms = -1
        self.gaps = array("I")
        self.excused_ms = -1
        self.hours = 0
        """Hours learned."""
        self.week = bytearray([_AWAKE]) * 168
        self.days = bytearray([_AWAKE]) * 48
        """Hours of weekdays, then of weekend days."""

    def __getstate__(self) -> tuple[Any, ...]:
        """Numbers as bytes, none of a device that has never slept: a state is written for each device at each cut."""
        numbers = (self.catalogue_ms, self.last_ms, self.excused_ms, self.hours)
        hours = bytes(self.week + self.days)
        return *numbers, self.gaps.tobytes(), b"" if min(hours) == _AWAKE else hours

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.catalogue_ms, self.last_ms, self.excused_ms, self.hours, gaps, hours = state
        hours = hours or _ALWAYS_AWAKE
        self.gaps, self.week, self.days = array("I", gaps), bytearray(hours[:168]), bytearray(hours[168:])

    def heard(self, receive_ms: int, explained: bool = False) -> None:
        """A message was received; times do not fall. `explained`: something else than the device kept it silent."""
        gap = receive_ms - self.last_ms
        if self.last_ms >= 0 and 10 * gap >= self.catalogue_ms:
            self.gaps.append(min(gap, int(self.LONGEST * self.catalogue_ms), _MOST_GAP_MS))
            del self.gaps[: -self.GAPS]
        hour = receive_ms // HOUR_MS
        if hour > self.last_ms // HOUR_MS >= 0:
            self._learn_hours(hour, gap, explained)
        self.last_ms = max(self.last_ms, receive_ms)

    def _learn_hours(self, hour: int, gap: int, explained: bool) -> None:
        if gap > self.LONGEST_SLEEP_MS or explained:
            self._learn_hour(hour, _AWAKE)
            return
        silent_from_ms = self.last_ms + 5 * self.interval_ms // 4 - HOUR_MS  # an hour in which it should have spoken
        for each in range(self.last_ms // HOUR_MS + 1, hour + 1):
            silent = each < hour and each * HOUR_MS >= silent_from_ms
            self._learn_hour(each, 0 if silent else _AWAKE)

    def _learn_hour(self, hour: int, seen: int) -> None:
        slot, of_day = _slots(hour)
        self._learn_share(self.week, slot, seen, self.WEEK_RATE)
        self._learn_share(self.days, of_day, seen, self.DAY_RATE)
        if of_day < 24 and not seen:
            self._learn_share(self.days, of_day + 24, seen, self.WEEKEND_RATE)
        self.hours += 1

    @staticmethod
    def _learn_share(shares: bytearray, place: int, seen: int, rate: int) -> None:
        step = -(-abs(seen - shares[place]) // rate)
        shares[place] += step if seen else -step

    def excuse(self, until_ms: int) -> None:
        """A holiday or planned work explains the silence until then: waking hours count from there."""
        self.excused_ms = max(self.excused_ms, until_ms)

    def sleeps(self, hour: int) -> bool:
        """Whether the device usually is silent in an hour (since the epoch)."""
        slot, of_day = _slots(hour)
        weeks = self.hours // 168
        return 2 * (weeks * self.week[slot] + self.POOLED * self.days[of_day]) < _AWAKE * (weeks + self.POOLED)

    @property
    def rests(self) -> bool:
        """Whether it sleeps in any hour of the week."""
        return min(self.week) < _AWAKE and any(map(self.sleeps, range(168)))

    @property
    def interval_ms(self) -> int:
        """Expected time between two messages."""
        if len(self.gaps) < self.GAPS // 4:
            return self.catalogue_ms
        quartile = sorted(self.gaps)[3 * len(self.gaps) // 4]
        return max(quartile, int(self.SHORTEST * self.catalogue_ms))

    def overdue_at_ms(self) -> int | None:
        """From when on the device counts as silent unless it is heard before; None if it was never heard."""
        if self.last_ms < 0:
            return None
        at_ms = max(self.last_ms, self.excused_ms)
        left_ms = self.MISSED * self.interval_ms + self.SLACK_MS
        for _ in range(_MOST_HOURS):
            hour = at_ms // HOUR_MS
            until_ms = (hour + 1) * HOUR_MS
            if not self.sleeps(hour):
                if left_ms <= until_ms - at_ms:
                    return at_ms + left_ms
                left_ms -= until_ms - at_ms
            at_ms = until_ms
        return at_ms


def _slots(hour: int) -> tuple[int, int]:
    """Index into the week, and into the hours of weekdays (first) and weekend days, of an hour since the epoch."""
    day, of_day = divmod(hour, 24)
    weekday = (day + _MONDAY) % 7
    return weekday * 24 + of_day, of_day + (24 if weekday >= 5 else 0)


class DeviceCadence(msgspec.Struct, frozen=True):
    """What a site's judgement needs of one device."""

    device_id: str
    last_ms: int
    overdue_at_ms: int
    interval_ms: int


class SiteJudgement(msgspec.Struct, frozen=True):
    """Whether a site is dark as a whole."""

    offline: bool
    since_ms: int
    """When the last of the dark devices was heard; the time of the judgement if the site is not offline."""
    dark: tuple[str, ...]
    """Devices that went dark together, sorted."""
    reporting: int
    """Devices that could have been heard: the dark ones and those that still talk."""
    certainty: float = 0.0
    """Probability that they share a cause, at least 0.5 if the site is offline, else 0."""


SITE_SHARE = 0.6
"""Share of a site's reporting devices that must be dark together: a gateway may serve only most of them."""
SITE_DEVICES = 2
"""One dark device is a dark device."""
OFF_A_DAY = 1 / 60
"""How often a site loses its connection, and how often a device falls silent by itself."""
OWN_LINE = 0.2
"""Share of devices with a line of their own."""


def judge_site(devices: Sequence[DeviceCadence], now_ms: int) -> SiteJudgement:
    """Tell a site that lost its connection from devices that fell silent one by one.

    Dark devices belong together when the times they were last heard lie within two of their longest intervals. Devices
    that were dark long before (switched off, withdrawn), and those that are not missed yet (they sleep, or talk more
    rarely) but were not heard since either, count neither for nor against the site. The certainty weighs that the k
    dark devices hang on one line, and the t that talk do not, against k devices silent by chance within w days:

        odds = OFF_A_DAY (1 - OWN_LINE)^k OWN_LINE^t / (k OFF_A_DAY^k w^(k - 1)),

    in logarithms, for the powers of hundreds of devices are no numbers any more.

    Pure: the order of `devices` does not matter.

    >>> talk = DeviceCadence("a", 900, 1500, 300)
    >>> judge_site([talk, DeviceCadence("b", 950, 1550, 300), DeviceCadence("c", 0, 600, 300)], 1600).dark
    ('a', 'b')
    """
    dark = sorted((each for each in devices if each.overdue_at_ms <= now_ms), key=lambda each: each.last_ms)
    together: list[DeviceCadence] = []
    for first in range(len(dark)):
        group = [each for each in dark[first:] if each.last_ms - dark[first].last_ms <= 2 * each.interval_ms]
        if len(group) >= len(together):
            together = group
    lost_ms = together[-1].last_ms if together else now_ms
    talking = sum(each.overdue_at_ms > now_ms and each.last_ms > lost_ms for each in devices)
    reporting, k = talking + len(together), len(together)
    offline = k >= SITE_DEVICES and k >= SITE_SHARE * reporting
    certainty = 0.0
    if offline:
        window_days = 2 * max(1, *(each.interval_ms for each in together)) / DAY_MS
        together_lost = log(OFF_A_DAY) + k * log(1 - OWN_LINE) + talking * log(OWN_LINE)
        by_chance = log(k) + k * log(OFF_A_DAY) + (k - 1) * log(window_days)
        certainty = sigmoid(together_lost - by_chance)
        offline = certainty >= 0.5
    return SiteJudgement(
        offline,
        lost_ms if offline else now_ms,
        tuple(sorted(each.device_id for each in together)),
        reporting,
        certainty if offline else 0.0,
    )


def finding(cadence: Cadence, silent: bool, at_ms: int, *, device_id: str, site_id: str, customer_id: str) -> Finding:
    """Put a device's silence (or its end) into alerting's words; policy raises at 1.0 and resolves at 0.0."""
    return Finding(
        detector="silence",
        device_id=device_id,
        site_id=site_id,
        customer_id=customer_id,
        subsystem="",
        at_ms=at_ms,
        onset_ms=cadence.last_ms,
        score=1.0 if silent else 0.0,
        severity="warning",
        evidence={
            "last_heard": cadence.last_ms,
            "expected_interval_ms": cadence.interval_ms,
            "sleeps_hours_a_week": sum(map(cadence.sleeps, range(168))),
            "version": VERSION,
            "advice": "check_connection",
        },
    )


def site_finding(judgement: SiteJudgement, at_ms: int, *, site_id: str, customer_id: str) -> Finding:
    """Put a site's judgement into alerting's words; the detector is `site_offline`, the device empty."""
    evidence: dict[str, Any] = {
        "dark": list(judgement.dark),
        "reporting": judgement.reporting,
        "certainty": round(judgement.certainty, 4),
        "version": VERSION,
        "advice": "check_gateway",
    }
    return Finding(
        detector="site_offline",
        device_id="",
        site_id=site_id,
        customer_id=customer_id,
        subsystem="",
        at_ms=at_ms,
        onset_ms=judgement.since_ms,
        score=judgement.certainty,
        severity="error",
        evidence=evidence,
    )
