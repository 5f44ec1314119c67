"""Silence: has a device stopped talking, and has its whole site."""

from array import array
from collections.abc import Sequence
from typing import Any

import msgspec
from river import base

from schema.findings import Finding

VERSION = "silence/1"


class Cadence(base.Base):  # type: ignore[misc]  # River publishes no types
    """How often a device talks, learned from the receive times of its messages.

    The interval is the upper quartile of the last GAPS gaps, so that messages in between (faults are sent at once) do
    not shorten it and a few outages do not lengthen it. Gaps below a tenth of the catalogue's interval are bursts (a
    backlog, several faults) and teach nothing; longer ones are clipped to LONGEST intervals. A device is overdue

        MISSED x interval + SLACK_MS after it was heard last,   interval in [SHORTEST, LONGEST] x the catalogue's.

    * Range: a time; the finding's score is 1.0 from then on and 0.0 once the device is heard again.
    * Warm-up: none, the catalogue's interval holds until GAPS / 4 gaps are known; never heard is never overdue.
    * Memory: GAPS integers, about 500 bytes.
    * Source: upper quartile as the robust location of a censored renewal process; the rule itself is the usual
      "three missed heartbeats".

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

    __slots__ = ("catalogue_ms", "gaps", "last_ms")

    def __init__(self, catalogue_ms: int) -> None:
        """`catalogue_ms`: the catalogue's message interval, above 0."""
        self.catalogue_ms = catalogue_ms
        self.last_ms = -1
        self.gaps = array("q")

    def __getstate__(self) -> tuple[int, int, bytes]:
        """Gaps as bytes: a state is written for each device at each cut."""
        return self.catalogue_ms, self.last_ms, self.gaps.tobytes()

    def __setstate__(self, state: tuple[int, int, bytes]) -> None:
        self.catalogue_ms, self.last_ms, gaps = state
        self.gaps = array("q", gaps)

    def heard(self, receive_ms: int) -> None:
        """A message was received; times do not fall."""
        gap = receive_ms - self.last_ms
        if self.last_ms >= 0 and 10 * gap >= self.catalogue_ms:
            self.gaps.append(min(gap, int(self.LONGEST * self.catalogue_ms)))
            del self.gaps[: -self.GAPS]
        self.last_ms = max(self.last_ms, receive_ms)

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
        return self.last_ms + self.MISSED * self.interval_ms + self.SLACK_MS


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


SITE_SHARE = 0.6
"""Share of a site's reporting devices that must be dark together: a gateway may serve only most of them."""
SITE_DEVICES = 2
"""One dark device is a dark device."""


def judge_site(devices: Sequence[DeviceCadence], now_ms: int) -> SiteJudgement:
    """Tell a site that lost its connection from devices that fell silent one by one.

    Dark devices belong together when the times they were last heard lie within two of their longest intervals. Devices
    that were dark long before (switched off, withdrawn) count neither for nor against the site. Pure: the order of
    `devices` does not matter.

    >>> talk = DeviceCadence("a", 900, 1500, 300)
    >>> judge_site([talk, DeviceCadence("b", 950, 1550, 300), DeviceCadence("c", 0, 600, 300)], 1600).dark
    ('a', 'b')
    """
    dark = sorted((each for each in devices if each.overdue_at_ms <= now_ms), key=lambda each: each.last_ms)
    talking = len(devices) - len(dark)
    together: list[DeviceCadence] = []
    for first in range(len(dark)):
        group = [each for each in dark[first:] if each.last_ms - dark[first].last_ms <= 2 * each.interval_ms]
        if len(group) >= len(together):
            together = group
    reporting = talking + len(together)
    offline = len(together) >= SITE_DEVICES and len(together) >= SITE_SHARE * reporting
    since_ms = together[-1].last_ms if offline else now_ms
    return SiteJudgement(offline, since_ms, tuple(sorted(each.device_id for each in together)), reporting)


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
            "version": VERSION,
            "advice": "check_connection",
        },
    )


def site_finding(judgement: SiteJudgement, at_ms: int, *, site_id: str, customer_id: str) -> Finding:
    """Put a site's judgement into alerting's words; the detector is `site_offline`, the device empty."""
    evidence: dict[str, Any] = {
        "dark": list(judgement.dark),
        "reporting": judgement.reporting,
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
        score=1.0 if judgement.offline else 0.0,
        severity="error",
        evidence=evidence,
    )
