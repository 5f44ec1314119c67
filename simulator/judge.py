"""Whether what was found is true: one rule a kind of finding."""

from collections.abc import Iterable, Mapping

import msgspec

from simulator.findings import FiredAlert
from simulator.truth import (
    Churn,
    DeviceDrop,
    Failure,
    FalsePrecursor,
    Holiday,
    Maintenance,
    Outage,
    Truth,
    Withdrawal,
)

DAY_MS = 86_400_000
HORIZON_MS = 7 * DAY_MS
NOTICE_MS = DAY_MS
CHURN_WITHIN_MS = 14 * DAY_MS


class Churned(msgspec.Struct, frozen=True):
    """Customers who leave, how many of them were flagged in time and not before, and how many others were flagged."""

    truth: int
    flagged: int
    extra: int


class FailureCount(msgspec.Struct, frozen=True):
    """Failures of the second half, and how many of them were announced."""

    n: int
    announced: int


class Announcements(msgspec.Struct, frozen=True):
    """Failure-risk alerts that fired, counted again for every 7 days that they stayed up; and how many were true."""

    n: int
    true: int


class UsageDrops(msgspec.Struct, frozen=True):
    """Usage-drop alerts by what was the matter."""

    true: int = 0
    false: int = 0
    offline: int = 0
    holiday: int = 0
    maintenance: int = 0

    @property
    def wrong(self) -> int:
        """All that are not true."""
        return self.false + self.offline + self.holiday + self.maintenance


class SilenceCount(msgspec.Struct, frozen=True):
    """Gateway outages, how many of them raised an alert, and alerts outside an outage or a withdrawal."""

    outages: int
    alerted: int
    false: int


def judge_announcements(alerts: Iterable[FiredAlert], truth: Truth) -> tuple[FailureCount, Announcements]:
    """An announcement is true if a failure of that device starts 24 hours to 7 days later; it announces that one."""
    run = truth.run
    half_ms = run.start_ms + (run.end_ms - run.start_ms) // 2
    failures = truth.of(Failure)
    by_device: dict[str, list[Failure]] = {}
    for failure in failures:
        by_device.setdefault(failure.device_id, []).append(failure)
    announced: set[tuple[str, int]] = set()
    said = true = 0
    for alert in alerts:
        until_ms = min(alert.resolved_ms or run.end_ms, run.end_ms)
        for at_ms in [alert.fired_ms, *range(alert.fired_ms + HORIZON_MS, until_ms, HORIZON_MS)]:
            hits = [
                failure
                for failure in by_device.get(alert.device_id, ())
                if at_ms + NOTICE_MS <= failure.at_ms <= at_ms + HORIZON_MS
            ]
            announced.update((failure.device_id, failure.at_ms) for failure in hits)
            said += 1
            true += bool(hits)
    late = [failure for failure in failures if failure.at_ms >= half_ms]
    return (
        FailureCount(len(late), sum((failure.device_id, failure.at_ms) in announced for failure in late)),
        Announcements(said, true),
    )


def judge_churn(yellow_ms: Mapping[str, int], truth: Truth) -> Churned:
    """A leaving customer counts as flagged if first yellow or worse within 14 days from the onset, and not before."""
    leaving = truth.of(Churn)
    flagged = sum(
        fact.onset_ms <= yellow_ms.get(fact.customer_id, -1) <= fact.onset_ms + CHURN_WITHIN_MS for fact in leaving
    )
    return Churned(len(leaving), flagged, len(yellow_ms.keys() - {fact.customer_id for fact in leaving}))


def judge_usage_drops(alerts: Iterable[FiredAlert], truth: Truth) -> UsageDrops:
    """By cause: truly used less, else what overlaps the time from the onset to the firing, else nothing at all."""
    counts = {"true": 0, "false": 0, "offline": 0, "holiday": 0, "maintenance": 0}
    for alert in alerts:
        counts[_cause(alert, truth)] += 1
    return UsageDrops(**counts)


def _cause(alert: FiredAlert, truth: Truth) -> str:
    if _used_less(alert, truth):
        return "true"
    if any(fact.site_id == alert.site_id and _overlaps(alert, fact) for fact in truth.of(Outage)):
        return "offline"
    if any(fact.site_id == alert.site_id and _overlaps(alert, fact) for fact in truth.of(Maintenance)):
        return "maintenance"
    if any(fact.country == alert.country and _overlaps(alert, fact) for fact in truth.of(Holiday)):
        return "holiday"
    return "false"


def _used_less(alert: FiredAlert, truth: Truth) -> bool:
    """Whether the device really was used less before the alert fired: departure, moved work, or standing still."""
    return (
        any(fact.customer_id == alert.customer_id and fact.onset_ms < alert.fired_ms for fact in truth.of(Churn))
        or any(fact.device_id == alert.device_id and fact.onset_ms < alert.fired_ms for fact in truth.of(DeviceDrop))
        or any(
            fact.device_id == alert.device_id and fact.at_ms < alert.fired_ms and alert.onset_ms < fact.repaired_ms
            for fact in truth.of(Failure)
        )
    )


def _overlaps(alert: FiredAlert, fact: Outage | Holiday | Maintenance) -> bool:
    return fact.from_ms < alert.fired_ms and min(alert.onset_ms, alert.fired_ms - 1) < fact.until_ms


def judge_silence(alerts: Iterable[FiredAlert], truth: Truth) -> SilenceCount:
    """An alert is true if it is up during an outage of its site or after a withdrawal of its device or site."""
    outages = truth.of(Outage)
    gone = truth.of(Withdrawal)
    alerted: set[tuple[str, int]] = set()
    false = 0
    for alert in alerts:
        until_ms = alert.resolved_ms or truth.run.end_ms
        hit = [
            fact
            for fact in outages
            if fact.site_id == alert.site_id and alert.fired_ms < fact.until_ms and fact.from_ms < until_ms
        ]
        alerted.update((fact.gateway_id, fact.from_ms) for fact in hit)
        withdrawn = any(
            fact.site_id == alert.site_id and alert.device_id in ("", fact.device_id) and fact.dark_ms < until_ms
            for fact in gone
        )
        false += not hit and not withdrawn
    return SilenceCount(len(outages), len(alerted), false)


def is_false_fault_alert(alert: FiredAlert, truth: Truth) -> bool:
    """Whether an alert of a fault rule has nothing to do with a failure, nor with signs of one.

    It is true from 7 days before a failure of that device and subsystem until its repair, and during signs that came
    to nothing: those the device did report.
    """
    for failure in truth.of(Failure):
        if _same(alert, failure) and failure.at_ms - HORIZON_MS <= alert.fired_ms <= failure.repaired_ms:
            return False
    return not any(
        _same(alert, signs) and signs.from_ms <= alert.fired_ms <= signs.until_ms + DAY_MS
        for signs in truth.of(FalsePrecursor)
    )


def is_false_sensor_alert(alert: FiredAlert, truth: Truth) -> bool:
    """Whether the sensors of the alert's subsystem had nothing to show between its onset and its firing.

    They show signs of a failure, also those that came to nothing, until a day after their end or the repair; and that
    the device begins to be used less, or does the work of another one, within a week.
    """
    since_ms, until_ms = alert.onset_ms - DAY_MS, alert.fired_ms
    astray = [
        (failure.at_ms if failure.precursor_ms is None else failure.precursor_ms, failure.repaired_ms + DAY_MS)
        for failure in truth.of(Failure)
        if _same(alert, failure)
    ]
    astray += [(signs.from_ms, signs.until_ms + DAY_MS) for signs in truth.of(FalsePrecursor) if _same(alert, signs)]
    astray += [
        (fact.onset_ms, fact.full_ms + HORIZON_MS)
        for fact in truth.of(Churn)
        if fact.customer_id == alert.customer_id
    ]
    astray += [
        (fact.onset_ms, fact.onset_ms + HORIZON_MS)
        for fact in truth.of(DeviceDrop)
        if alert.device_id in (fact.device_id, fact.moved_to)
    ]
    return not any(from_ms <= until_ms and since_ms <= end_ms for from_ms, end_ms in astray)


def _same(alert: FiredAlert, fact: Failure | FalsePrecursor) -> bool:
    return fact.device_id == alert.device_id and alert.subsystem in ("", fact.subsystem)
