"""Usage drops on made usage whose truth is known: found in time, and nothing else is taken for one."""

import math
import pickle
import random
from collections.abc import Callable, Iterator
from time import process_time

import pytest

from detectors.usage_drop import DAY_MS, HOUR_MS, UsageDrop
from detectors.usage_judgement import UsageJudgement, finding

Share = Callable[[int], float]


def hourly(
    per_day: float, share: Share, days: int, fed: Callable[[int], bool] = lambda _: True, seed: int = 1
) -> list[UsageJudgement]:
    """Judgements, one a day, of a machine used from 8 to 18 h on five days a week; `fed`: which hours are judged."""
    rng = random.Random(seed)
    detector = UsageDrop()
    judgements = []
    for hour in range(24 * days):
        day, hour_of_day = divmod(hour, 24)
        busy = 8 <= hour_of_day < 18 and day % 7 not in (2, 3)  # the epoch was a Thursday
        mean = share(day) * per_day / 10 if busy else 0.0
        count = sum(rng.random() < mean / 100 for _ in range(100))
        if fed(hour):
            judgement = detector.update((hour + 1) * HOUR_MS, float(count))
        if hour_of_day == 0:
            judgements.append(judgement)
    return judgements


def first_alarm(judgements: list[UsageJudgement]) -> int | None:
    return next((day for day, judgement in enumerate(judgements) if judgement.belief >= 0.5), None)


@pytest.mark.parametrize("per_day", [8, 40, 400])
def test_a_steady_week_is_no_drop_whatever_the_size_of_the_counts(per_day: float) -> None:
    assert first_alarm(hourly(per_day, lambda _: 1.0, 120)) is None


#      learning                 drop
# |--------------------|--------X=========|
# 0                   21       40        54
@pytest.mark.parametrize(("left", "within_days"), [(0.0, 7), (0.3, 11), (0.5, 14)])
def test_a_lasting_drop_is_found_within_two_weeks(left: float, within_days: int) -> None:
    judgements = hourly(20, lambda day: 1.0 if day < 40 else left, 60)
    alarm = first_alarm(judgements)
    assert alarm is not None
    assert 40 < alarm <= 40 + within_days
    found = judgements[40 + within_days]
    assert abs(found.since_ms // DAY_MS - 40) <= 3
    assert found.drop_pct == pytest.approx(100 * (1 - left), abs=20)


def test_a_decline_over_four_weeks_is_not_learned_away() -> None:
    judgements = hourly(20, lambda day: 1 - 0.6 * min(1.0, max(0, day - 40) / 28), 75)
    assert first_alarm(judgements) is not None


@pytest.mark.parametrize(
    ("shape", "share"),
    [
        ("step", lambda day: 1.0 if day < 40 else 0.4),
        ("ramp", lambda day: 1 - 0.6 * min(1.0, max(0, day - 40) / 28)),
        ("stop", lambda day: 1.0 if day < 40 else 0.0),
    ],
)
def test_step_ramp_and_stop_are_told_apart(shape: str, share: Share) -> None:
    judgement = hourly(60, share, 65)[-1]
    assert judgement.shape == shape
    assert judgement.shape_certainty > 0.5
    assert judgement.fall_pct == pytest.approx(100 * (1 - share(63)), abs=15)
    assert abs(judgement.since_ms // DAY_MS - 40) <= 4


def test_days_that_look_like_sundays_are_no_drop() -> None:
    # A working day has its use in the morning, a rest day half as much in the afternoon; all days rest from day 91 on.
    def beliefs(hours_of_rest: bool) -> list[float]:
        rng = random.Random(1)
        detector, found = UsageDrop(), []
        for hour in range(24 * 112):
            day, hour_of_day = divmod(hour, 24)
            weekend = day % 7 in (2, 3)
            rests = weekend or (hours_of_rest and day >= 91)
            mean = (6.0 if 13 <= hour_of_day < 18 else 0.0) if rests else (12.0 if 7 <= hour_of_day < 12 else 0.0)
            mean *= 0.5 if day >= 91 and not hours_of_rest else 1.0
            count = sum(rng.random() < mean / 100 for _ in range(100))
            found.append(detector.update((hour + 1) * HOUR_MS, float(count)).belief)
        return found

    assert max(beliefs(hours_of_rest=True)) < 0.5
    assert max(beliefs(hours_of_rest=False)) >= 0.5


#      usual          stop            usual              a drop
# |------------|__________________|----------------|------X=======|
# 0           60                                back + 60
@pytest.mark.parametrize("stop_days", [15, 22, 27, 32, 45, 90])
def test_use_that_is_back_after_a_stop_is_usual_at_once(stop_days: int) -> None:
    back = 60 + stop_days

    def share(day: int) -> float:
        return 0.0 if 60 <= day < back else 0.3 if day >= back + 60 else 1.0

    judgements = hourly(40, share, back + 82)
    week = judgements[59].expected
    assert judgements[back].belief > 0.9
    assert max(each.belief for each in judgements[back + 14 : back + 60]) < 0.5
    assert judgements[back + 14].expected == pytest.approx(week, rel=0.2)
    assert max(each.belief for each in judgements[back + 60 :]) > 0.9


def test_a_stop_is_told_for_as_long_as_it_lasts() -> None:
    judgements = hourly(40, lambda day: 1.0 if day < 60 else 0.0, 200)
    assert min(each.belief for each in judgements[70:]) > 0.9


def test_a_level_that_has_risen_becomes_usual() -> None:
    judgements = hourly(20, lambda day: 1.0 if day < 40 else 1.6, 75)
    assert judgements[-1].expected == pytest.approx(5 * 32, rel=0.2)


def test_two_dead_days_are_no_drop() -> None:
    assert first_alarm(hourly(20, lambda day: 0.0 if day in (46, 47) else 1.0, 80)) is None


def test_hours_that_are_not_fed_are_no_drop() -> None:
    # Offline from 10 h on, every day from day 40 on: what is judged is as usual.
    judgements = hourly(40, lambda _: 1.0, 80, fed=lambda hour: hour < 24 * 40 or hour % 24 < 10)
    assert first_alarm(judgements) is None


def test_a_level_that_stays_low_becomes_usual_after_four_weeks() -> None:
    judgements = hourly(20, lambda day: 1.0 if day < 40 else 0.4, 110)
    assert judgements[-1].belief < 0.5


def test_days_are_judged_as_hours_are() -> None:
    rng = random.Random(1)
    detector = UsageDrop()
    beliefs = []
    for day in range(60):
        mean = 200 if day < 40 else 80
        beliefs.append(detector.update((day + 1) * DAY_MS, rng.gauss(mean, mean**0.5)).belief)
    assert max(beliefs[:41]) < 0.5 <= max(beliefs[41:54])


def test_fractional_hours_of_use_are_judged_too() -> None:
    rng = random.Random(1)
    detector = UsageDrop()
    beliefs = []
    for hour in range(24 * 60):
        used = 0.6 if hour < 24 * 40 else 0.24
        beliefs.append(detector.update((hour + 1) * HOUR_MS, min(1.0, rng.uniform(0.5, 1.5) * used)).belief)
    assert max(beliefs[: 24 * 40]) < 0.5 <= max(beliefs[24 * 40 : 24 * 54])


def test_what_is_expected_follows_the_day() -> None:
    detector = UsageDrop()
    for hour in range(24 * 28):
        detector.update((hour + 1) * HOUR_MS, 4.0 if 8 <= hour % 24 < 18 else 0.0)
    night, noon = (28 * 24 + 3) * HOUR_MS, (28 * 24 + 12) * HOUR_MS
    assert detector.expected(night) < 0.3
    assert detector.expected(noon) == pytest.approx(4, rel=0.15)


def test_a_finding_carries_the_evidence() -> None:
    judgement = hourly(40, lambda day: 1.0 if day < 40 else 0.3, 55)[-1]
    found = finding(judgement, 55 * DAY_MS, device_id="ct-1", site_id="s", customer_id="c", unit="{scan}")
    assert (found.detector, found.score, found.severity) == ("usage_drop", judgement.belief, "error")
    assert found.evidence["observed"] < found.evidence["expected"]
    assert found.onset_ms == judgement.since_ms
    assert found.evidence["shape"] == "step"
    assert found.evidence["fall_pct"] == pytest.approx(70, abs=10)


def test_a_detector_from_a_snapshot_in_the_middle_of_a_fall_goes_on_the_same_way() -> None:
    def run(detector: UsageDrop, first: int, stop: int) -> list[UsageJudgement]:
        days = range(first, stop)
        return [detector.update((day + 1) * DAY_MS, float(30 + day % 3 if day < 40 else 12)) for day in days]

    detector = UsageDrop()
    run(detector, 0, 46)
    packed = pickle.dumps(detector)
    assert len(packed) < 3500
    assert run(pickle.loads(packed), 46, 60) == run(detector, 46, 60)


def after(*fed: tuple[int, float, float]) -> UsageJudgement:
    """Sixty usual days, then day, count and exposure of what is `fed`, two usual months, and a drop of three weeks."""
    rng, detector = random.Random(1), UsageDrop()
    days = [(day, rng.gauss(40, 6) * (1.0 if day < 120 else 0.25), 1.0) for day in range(141)]
    for day, count, exposure in [*days[:60], *fed, *days[61:]]:
        detector.update((day + 1) * DAY_MS, count, exposure)
    return detector.judgement


@pytest.mark.parametrize("count", [math.inf, -math.inf, -1.0, -1e9, 1e39, 1e300])
def test_what_is_no_count_is_as_if_it_had_not_been_fed(count: float) -> None:
    assert after((60, count, 1.0)) == after((60, math.nan, 1.0)) == after()


@pytest.mark.parametrize("days", [1, 20, 50])
def test_a_day_that_is_over_is_not_opened_again(days: int) -> None:
    judgement = after((60, 40.0, 1.0), (60 - days, 40.0, 1.0))
    assert judgement == after((60, 40.0, 1.0))
    assert judgement.belief > 0.9


def test_an_exposure_that_is_no_number_counts_as_not_watched() -> None:
    assert after((60, 0.0, math.nan)) == after((60, 0.0, 0.0)) == after()


def test_a_late_hour_of_the_same_day_counts() -> None:
    hours = [*range(24)]
    late = [*range(9), *range(10, 24), 9]
    expected = []
    for order in (hours, late):
        detector = UsageDrop()
        for day in range(30):
            for hour in order:
                detector.update(day * DAY_MS + (hour + 1) * HOUR_MS, float(hour))
        expected.append((detector.judgement, detector.expected(30 * DAY_MS)))
    assert expected[0] == expected[1]


@pytest.mark.parametrize("hours", [range(23, 24), range(1), range(24), range(8, 18)], ids=str)
def test_a_day_is_judged_as_soon_as_the_hours_have_come_that_are_usually_watched(hours: range) -> None:
    detector = UsageDrop()
    for day in range(30):
        for hour in hours:
            before = detector.judgement
            detector.update(day * DAY_MS + (hour + 1) * HOUR_MS, 4.0)
            assert day < 20 or (detector.judgement is not before) == (hour == hours[-1])
    assert detector.judged_day == 29


def test_an_hour_that_comes_after_its_day_was_judged_is_waited_for_on_the_next() -> None:
    detector, judged_at = UsageDrop(), []
    for day in range(30):
        for hour in range(8, 18 if day < 25 else 20):
            before = detector.judgement
            detector.update(day * DAY_MS + (hour + 1) * HOUR_MS, 4.0)
            if detector.judgement is not before and day >= 24:
                judged_at.append((day, hour))
    assert judged_at == [(24, 17), (25, 17), (26, 19), (27, 19), (28, 19), (29, 19)]
    assert detector.judgement.belief < 0.1


def test_a_window_that_comes_again_counts_once() -> None:
    once, twice = UsageDrop(), UsageDrop()
    for end_ms, count in busy(40, range(24)):
        assert twice.update(end_ms, count) == once.update(end_ms, count) == twice.update(end_ms, count)


def busy(days: int, hours: range) -> Iterator[tuple[int, float]]:
    """End and count of the windows of a machine that is used much."""
    rng = random.Random(1)
    for day in range(days):
        for hour in hours:
            yield day * DAY_MS + (hour + 1) * HOUR_MS, float(rng.randrange(30, 60))


@pytest.mark.parametrize("hours", [range(24), range(1)], ids=["hour", "day, which is judged at once"])
def test_an_update_takes_less_than_30_us(hours: range) -> None:
    windows, costs = list(busy(200, hours)), []
    for _ in range(8):
        detector, begun = UsageDrop(), process_time()
        for end_ms, count in windows:
            detector.update(end_ms, count)
        costs.append((process_time() - begun) / len(windows))
    assert min(costs) < 30e-6


@pytest.mark.parametrize("hours", [range(24), range(1)], ids=["hours", "days"])
def test_a_device_that_is_used_as_usual_takes_less_than_2400_bytes(hours: range) -> None:
    detector = UsageDrop()
    for end_ms, count in busy(200, hours):
        detector.update(end_ms, count)
    assert detector.judgement.belief < 0.1
    assert len(pickle.dumps(detector)) < 2400


def test_a_count_that_is_no_number_counts_as_not_watched() -> None:
    detector, watched = UsageDrop(), UsageDrop()
    for day in range(40):
        if day % 9:
            watched.update((day + 1) * DAY_MS, 20.0)
        detector.update((day + 1) * DAY_MS, 20.0 if day % 9 else math.nan)
    assert detector.judgement.belief < 0.1
    assert detector.expected(41 * DAY_MS) == pytest.approx(watched.expected(41 * DAY_MS), rel=0.01)
