"""Which findings count as true, announcement by announcement."""

from simulator.findings import FiredAlert
from simulator.judge import (
    is_false_fault_alert,
    judge_announcements,
    judge_churn,
    judge_silence,
    judge_usage_drops,
)
from simulator.truth import (
    Churn,
    DeviceDrop,
    Failure,
    FalsePrecursor,
    Holiday,
    Maintenance,
    Outage,
    Run,
    Truth,
    Withdrawal,
)

DAY_MS = 86_400_000
RUN = Run(seed=1, devices=10, customers=2, start_ms=0, end_ms=56 * DAY_MS)


def day(n: float) -> int:
    return round(n * DAY_MS)


def alert(
    detector: str, fired: float, resolved: float | None = None, device_id: str = "mri-7", onset: float | None = None
) -> FiredAlert:
    return FiredAlert(
        device_id=device_id,
        site_id="site-1",
        customer_id="hosp-1",
        country="CN",
        detector=detector,
        subsystem="gradient" if detector in ("fault_rule", "failure_risk") else "",
        severity="warning",
        onset_ms=day(fired if onset is None else onset),
        fired_ms=day(fired),
        resolved_ms=None if resolved is None else day(resolved),
    )


def failure(at: float, subsystem: str = "gradient") -> Failure:
    return Failure(
        device_id="mri-7",
        customer_id="hosp-1",
        subsystem=subsystem,
        code="GRD-900",
        part_ids=(),
        at_ms=day(at),
        repaired_ms=day(at + 1),
        precursor_ms=None,
    )


def outage(since: float, until: float) -> Outage:
    return Outage(
        gateway_id="gw-1",
        site_id="site-1",
        customer_id="hosp-1",
        from_ms=day(since),
        until_ms=day(until),
        backlog_ms=day(until),
        delivered_ms=day(until),
    )


def announcements(fired: float, resolved: float | None, *failures: Failure) -> tuple[int, int, int, int]:
    found, said = judge_announcements([alert("failure_risk", fired, resolved)], Truth([RUN, *failures]))
    return found.n, found.announced, said.n, said.true


def test_an_announcement_is_true_from_a_day_to_a_week_ahead() -> None:
    assert announcements(40, 41, failure(41)) == (1, 1, 1, 1)
    assert announcements(40, 41, failure(47)) == (1, 1, 1, 1)
    assert announcements(40, 41, failure(40.99)) == (1, 0, 1, 0)
    assert announcements(40, 41, failure(47.01)) == (1, 0, 1, 0)


def test_an_alert_that_stays_up_announces_again_every_week() -> None:
    # fired 30      37       44     fails 48
    # |-------------|--------|--------x
    assert announcements(30, 50, failure(48)) == (1, 1, 3, 1)


def test_an_alert_without_an_end_announces_until_the_end_of_the_run() -> None:
    assert announcements(30, None) == (0, 0, 4, 0)


def test_only_failures_of_the_second_half_are_asked_for() -> None:
    assert announcements(10, 11, failure(13)) == (0, 0, 1, 1)


def test_an_announcement_for_another_device_is_none() -> None:
    found, said = judge_announcements([alert("failure_risk", 40, 41, "ct-2")], Truth([RUN, failure(43)]))
    assert (found.announced, said.true) == (0, 0)


def churned(**yellow: float) -> tuple[int, int, int]:
    truth = Truth([RUN, Churn(customer_id="leaver", kind="step", onset_ms=day(30), full_ms=day(30), decline=0.5)])
    found = judge_churn({customer: day(at) for customer, at in yellow.items()}, truth)
    return found.truth, found.flagged, found.extra


def test_a_leaving_customer_is_flagged_within_two_weeks_and_not_before() -> None:
    assert churned(leaver=30) == (1, 1, 0)
    assert churned(leaver=44) == (1, 1, 0)
    assert churned(leaver=44.1) == (1, 0, 0)
    assert churned(leaver=29.9) == (1, 0, 0)
    assert churned(other=40) == (1, 0, 1)


def causes(found: FiredAlert, *facts: Churn | DeviceDrop | Failure | Outage | Holiday | Maintenance) -> str:
    counts = judge_usage_drops([found], Truth([RUN, *facts]))
    return next(cause for cause in ("true", "false", "offline", "holiday", "maintenance") if getattr(counts, cause))


def test_a_usage_drop_has_the_cause_that_its_time_overlaps() -> None:
    drop = alert("usage_drop", 34, onset=32)
    moved = DeviceDrop(device_id="mri-7", customer_id="hosp-1", onset_ms=day(31), decline=0.5, moved_to="mri-8")
    works = Maintenance(
        site_id="site-1", customer_id="hosp-1", from_ms=day(33), until_ms=day(33.5), switched_off=("mri-7",)
    )
    assert causes(drop, moved, outage(32.1, 32.4)) == "true"
    assert (
        causes(drop, Churn(customer_id="hosp-1", kind="stop", onset_ms=day(33), full_ms=day(33), decline=1)) == "true"
    )
    assert causes(drop, failure(33)) == "true"
    assert causes(drop, outage(32.1, 32.4)) == "offline"
    assert causes(drop, Holiday(country="CN", from_ms=day(33), until_ms=day(34))) == "holiday"
    assert causes(drop, Holiday(country="DE", from_ms=day(33), until_ms=day(34))) == "false"
    assert causes(drop, works) == "maintenance"
    assert causes(drop, outage(34.1, 34.4), failure(20)) == "false"


def test_silence_is_true_in_an_outage_or_after_a_withdrawal() -> None:
    gone = Withdrawal(device_id="mri-7", site_id="site-1", customer_id="hosp-1", dark_ms=day(50))
    truth = Truth([RUN, outage(10, 10.3), outage(20, 20.3), gone])
    alerts = [
        alert("site_offline", 10.1, 10.31, device_id=""),
        alert("silence", 10.1, 10.31),
        alert("silence", 15, 15.1),
        alert("silence", 50.1),
        alert("silence", 50.1, device_id="ct-2"),
        alert("site_offline", 51, device_id=""),
    ]
    found = judge_silence(alerts, truth)
    assert (found.outages, found.alerted, found.false) == (2, 1, 2)


def test_a_fault_alert_is_true_near_a_failure_or_its_signs() -> None:
    signs = FalsePrecursor(
        device_id="mri-7", customer_id="hosp-1", subsystem="gradient", from_ms=day(5), peak_ms=day(7), until_ms=day(8)
    )
    truth = Truth([RUN, failure(40), failure(20, "rf"), signs])
    false = {at: is_false_fault_alert(alert("fault_rule", at), truth) for at in (6, 12, 20, 32, 34, 40, 41.5)}
    assert false == {6: False, 12: True, 20: True, 32: True, 34: False, 40: False, 41.5: True}
