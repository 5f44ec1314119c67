"""Silence of devices and sites, from the times at which messages were received."""

import itertools
import pickle

import pytest

from detectors.silence import Cadence, DeviceCadence, finding, judge_site, site_finding

MINUTE_MS = 60_000
HALF_HOUR_MS = 30 * MINUTE_MS


def regular(interval_ms: int = HALF_HOUR_MS, messages: int = 50) -> Cadence:
    cadence = Cadence(HALF_HOUR_MS)
    for number in range(messages):
        cadence.heard(number * interval_ms)
    return cadence


def wait_ms(cadence: Cadence) -> int:
    overdue_ms = cadence.overdue_at_ms()
    assert overdue_ms is not None
    return overdue_ms - cadence.last_ms


def test_a_device_never_heard_is_never_overdue() -> None:
    assert Cadence(HALF_HOUR_MS).overdue_at_ms() is None


def test_half_hourly_messages_are_missed_within_two_hours() -> None:
    assert 60 * MINUTE_MS < wait_ms(regular()) <= 120 * MINUTE_MS


def test_a_backlog_at_once_does_not_shorten_the_cadence() -> None:
    cadence = regular()
    before = wait_ms(cadence)
    for _ in range(200):
        cadence.heard(cadence.last_ms)
    assert wait_ms(cadence) == before


def test_faults_between_messages_do_not_shorten_the_cadence() -> None:
    #  m     f m     m   f   m     m
    #  |-----|-|-----|---|---|-----|
    cadence = Cadence(HALF_HOUR_MS)
    for number in range(60):
        cadence.heard(number * HALF_HOUR_MS)
        if number % 3 == 0:
            cadence.heard(number * HALF_HOUR_MS + 12 * MINUTE_MS)
    assert cadence.interval_ms == HALF_HOUR_MS


def test_an_outage_does_not_lengthen_the_cadence() -> None:
    cadence = regular()
    back_ms = cadence.last_ms + 600 * MINUTE_MS
    for number in range(10):
        cadence.heard(back_ms + number * HALF_HOUR_MS)
    assert cadence.interval_ms == HALF_HOUR_MS


def test_a_slower_cadence_is_learned_within_its_bound() -> None:
    assert regular(interval_ms=50 * MINUTE_MS).interval_ms == 50 * MINUTE_MS
    assert regular(interval_ms=900 * MINUTE_MS).interval_ms == 4 * HALF_HOUR_MS


def test_a_learned_cadence_survives_a_snapshot() -> None:
    cadence = regular(interval_ms=50 * MINUTE_MS)
    assert pickle.loads(pickle.dumps(cadence)).overdue_at_ms() == cadence.overdue_at_ms()


def site(*last_minutes: int) -> list[DeviceCadence]:
    return [
        DeviceCadence(f"d{number}", last * MINUTE_MS, (last + 100) * MINUTE_MS, HALF_HOUR_MS)
        for number, last in enumerate(last_minutes)
    ]


@pytest.mark.parametrize(
    ("last_minutes", "now", "offline"),
    [
        ((0, 10, 20), 125, True),
        ((0, 10, 120), 125, True),  # one device has a line of its own
        ((0, 110, 120), 125, False),  # one dark device is a dark device
        ((0,), 125, False),
        ((0, 300, 310, 320), 450, True),  # d0 was dark long before
        ((0, 300, 600), 900, False),  # one after another
    ],
)
def test_a_site_is_offline_when_its_devices_go_together(last_minutes: tuple[int, ...], now: int, offline: bool) -> None:
    for devices in itertools.permutations(site(*last_minutes)):
        assert judge_site(devices, now * MINUTE_MS).offline is offline


def test_a_site_names_since_when_and_which_devices() -> None:
    judgement = judge_site(site(0, 300, 310, 320), 450 * MINUTE_MS)
    assert judgement.since_ms == 320 * MINUTE_MS
    assert judgement.dark == ("d1", "d2", "d3")
    found = site_finding(judgement, 450 * MINUTE_MS, site_id="s", customer_id="c")
    assert (found.detector, found.device_id, found.subsystem, found.score) == ("site_offline", "", "", 1.0)


def test_being_heard_again_is_a_finding_of_its_own() -> None:
    names = {"device_id": "d", "site_id": "s", "customer_id": "c"}
    assert finding(regular(), True, 10**9, **names).score == 1.0
    assert finding(regular(), False, 10**9, **names).score == 0.0
