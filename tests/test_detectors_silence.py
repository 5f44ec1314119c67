"""Silence of devices and sites, from the times at which messages were received."""

import itertools
import pickle

import pytest

from detectors.silence import Cadence, DeviceCadence, finding, judge_site, site_finding
from schema.catalogue import load_catalogue
from schema.messages import Message
from schema.record import Tick, decode, encode_telemetry
from schema.registry import Calendar, Customer, Device, Site
from schema.rows import AlertRow
from streams.partition import Partition

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


DAY_MS = 24 * 60 * MINUTE_MS
MONDAY_MS = 4 * DAY_MS


def office(days: int, *, weekends: bool = False) -> Cadence:
    """A device that talks half-hourly from 7 to 18 h, from a Monday on."""
    cadence = Cadence(HALF_HOUR_MS)
    for day in range(days):
        if weekends or day % 7 < 5:
            for half_hour in range(14, 37):
                cadence.heard(MONDAY_MS + day * DAY_MS + half_hour * HALF_HOUR_MS)
    return cadence


def overdue_hour(cadence: Cadence) -> float:
    """Hours after the midnight that begins the day on which it was heard last."""
    overdue_ms = cadence.overdue_at_ms()
    assert overdue_ms is not None
    return (overdue_ms - cadence.last_ms // DAY_MS * DAY_MS) / 3_600_000


@pytest.mark.parametrize(("evenings", "called_silent"), [(1, True), (4, False), (40, False)])
def test_a_device_that_sleeps_at_night_is_missed_in_the_morning(evenings: int, called_silent: bool) -> None:
    # 7 h |-|-| ... |-| 18 h          7 h    8:40
    #                    (asleep)     [awake--)
    hour = overdue_hour(office(evenings, weekends=True))
    assert (hour < 24) is called_silent
    if not called_silent:
        assert 24 + 7 < hour < 24 + 10


def test_a_weekend_off_is_no_silence_once_it_is_known() -> None:
    friday_evening = 7 * 5 + 5
    assert overdue_hour(office(friday_evening)) > 3 * 24 + 7


def test_a_device_that_always_talks_is_missed_at_night_too_though_it_once_was_off() -> None:
    cadence = regular(messages=48 * 20)
    cadence.heard(cadence.last_ms + 14 * 3_600_000)
    for _ in range(48 * 3):
        cadence.heard(cadence.last_ms + HALF_HOUR_MS)
    assert not cadence.rests
    assert wait_ms(cadence) == wait_ms(regular())


def test_silence_that_the_whole_site_explains_teaches_no_rhythm() -> None:
    cadence = Cadence(HALF_HOUR_MS)
    for day in range(30):
        for half_hour in range(14, 37):
            cadence.heard(day * DAY_MS + half_hour * HALF_HOUR_MS, explained=half_hour == 14)
    assert not cadence.rests


def test_a_holiday_puts_off_the_waking_hours_to_be_missed() -> None:
    cadence = office(40, weekends=True)
    cadence.excuse(cadence.last_ms // DAY_MS * DAY_MS + 36 * 3_600_000)
    assert 36 < overdue_hour(cadence) < 38


def test_devices_that_sleep_say_nothing_about_a_site() -> None:
    dark = site(100, 110)
    asleep = [DeviceCadence(f"s{n}", 20 * MINUTE_MS, 900 * MINUTE_MS, HALF_HOUR_MS) for n in range(5)]
    talking = [DeviceCadence(f"t{n}", 230 * MINUTE_MS, 330 * MINUTE_MS, HALF_HOUR_MS) for n in range(5)]
    assert judge_site(dark + asleep, 240 * MINUTE_MS).offline
    assert not judge_site(dark + talking, 240 * MINUTE_MS).offline


def test_the_more_devices_go_together_the_more_certain_it_is() -> None:
    certainties = [judge_site(site(*range(k)), 200 * MINUTE_MS).certainty for k in (2, 3, 5)]
    assert certainties == sorted(certainties)
    assert certainties[0] > 0.9


def test_a_site_alert_weighs_those_that_still_talk() -> None:
    alone = judge_site(site(0, 10, 20), 125 * MINUTE_MS).certainty
    with_one_that_talks = judge_site(site(0, 10, 20, 120), 125 * MINUTE_MS).certainty
    assert 0.5 < with_one_that_talks < alone


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


@pytest.mark.parametrize(("dark", "interval_ms"), [(1000, 4 * DAY_MS), (600, HALF_HOUR_MS)])
def test_a_site_of_a_thousand_devices_is_judged_too(dark: int, interval_ms: int) -> None:
    now_ms = 30 * DAY_MS
    lost = [DeviceCadence(f"d{n}", now_ms - 3 * interval_ms, now_ms - 1, interval_ms) for n in range(dark)]
    talking = [DeviceCadence(f"t{n}", now_ms, now_ms + interval_ms, interval_ms) for n in range(1000 - dark)]
    judgement = judge_site(lost + talking, now_ms)
    assert (judgement.offline, len(judgement.dark), judgement.reporting) == (True, dark, 1000)


@pytest.mark.parametrize(("dark", "talking", "interval_ms"), [(2, 1, DAY_MS), (5, 3, HALF_HOUR_MS), (60, 40, DAY_MS)])
def test_the_certainty_of_a_site_is_the_odds_that_are_promised(dark: int, talking: int, interval_ms: int) -> None:
    now_ms, window_days = 10 * DAY_MS, 2 * interval_ms / DAY_MS
    devices = [DeviceCadence(f"d{n}", now_ms - 3 * interval_ms, now_ms - 1, interval_ms) for n in range(dark)]
    devices += [DeviceCadence(f"t{n}", now_ms, now_ms + interval_ms, interval_ms) for n in range(talking)]
    odds = 0.8**dark * 0.2**talking / (dark * (1 / 60) ** (dark - 1) * window_days ** (dark - 1))
    assert judge_site(devices, now_ms).certainty == pytest.approx(odds / (1 + odds))


def test_a_site_names_since_when_and_which_devices() -> None:
    judgement = judge_site(site(0, 300, 310, 320), 450 * MINUTE_MS)
    assert judgement.since_ms == 320 * MINUTE_MS
    assert judgement.dark == ("d1", "d2", "d3")
    found = site_finding(judgement, 450 * MINUTE_MS, site_id="s", customer_id="c")
    assert (found.detector, found.device_id, found.subsystem) == ("site_offline", "", "")
    assert found.score > 0.99


def test_being_heard_again_is_a_finding_of_its_own() -> None:
    names = {"device_id": "d", "site_id": "s", "customer_id": "c"}
    assert finding(regular(), True, 10**9, **names).score == 1.0
    assert finding(regular(), False, 10**9, **names).score == 0.0


def test_an_office_that_rests_on_a_public_holiday_is_not_called_silent_before_the_day_after() -> None:
    # day 20      21          22 (holiday)     23
    # 7-18 h      7-18 h      -                -  silent from about 9 h
    partition = Partition(0, load_catalogue())
    first_ms = MONDAY_MS + 7 * DAY_MS
    holiday_ms = first_ms + 22 * DAY_MS
    partition.apply(
        (
            Customer(customer_id="c", name="c"),
            Site(site_id="s", customer_id="c", name="s", country="DE"),
            Device(device_id="d", model="ct", site_id="s", customer_id="c", installed_ms=0),
            Calendar(
                calendar_id="h", kind="holiday", name="h", from_ms=holiday_ms, until_ms=holiday_ms + DAY_MS,
                country="DE",
            ),
        )
    )  # fmt: skip
    partition.apply(Tick("bridge", first_ms, "joined"))
    fired: list[float] = []
    for half_hour in range(1, 48 * 24):
        at_ms, day = first_ms + half_hour * HALF_HOUR_MS, half_hour // 48
        if day < 22 and 14 <= half_hour % 48 < 37:
            message = Message("d", "telemetry", 1, half_hour, at_ms, at_ms)
            partition.apply(decode(encode_telemetry([message], source="bridge", receive_ms=at_ms)))
        partition.apply(Tick("bridge", at_ms))
        for row in partition.effects.rows.values():
            if isinstance(row, AlertRow) and row.detector == "silence" and row.fired_at is not None and day > 14:
                fired.append((row.fired_at - first_ms) / DAY_MS)
        partition.effects.clear()
    assert [int(day) for day in fired[:1]] == [23]
    assert 23 + 7 / 24 < fired[0] < 23 + 11 / 24
