"""Sensor anomaly: each event once, in every unit, whatever the sensor's season, noise, gaps and intervals."""

import math
import pickle
import random
from collections.abc import Callable, Iterable
from time import process_time

import numpy as np
import pytest

from detectors.anomaly_news import ALARM, NEWS_DTYPE, QUIET, tell_news
from detectors.anomaly_tail import BLOCK, FORGET, PEAKS, WARM_BLOCKS, learn_peak, tail_evidence
from detectors.sensor_anomaly import SensorAnomaly

MINUTE_MS = 60_000
STEP_MS = 5 * MINUTE_MS
DAY = 288
ANNOUNCED = 0.5


def fed(values: Iterable[float], step_ms: int = STEP_MS, detector: SensorAnomaly | None = None) -> list[float]:
    detector = SensorAnomaly() if detector is None else detector
    return [detector.update(i * step_ms, value) for i, value in enumerate(values)]


def announced(scores: list[float]) -> list[int]:
    return [i for i, score in enumerate(scores) if score >= ANNOUNCED]


def noise(n: int, seed: int = 1) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(20.0, 1.0) for _ in range(n)]


def working_days(days: int, seed: int = 1) -> list[float]:
    """Low at night, high from 8 to 18 o'clock."""
    rng = random.Random(seed)
    return [(80.0 if 96 <= i % DAY < 216 else 20.0) + rng.gauss(0, 1) for i in range(days * DAY)]


def test_a_constant_signal_scores_nothing_and_its_first_change_is_announced() -> None:
    scores = fed([4.2] * 2000 + [4.3])
    assert set(scores[:-1]) == {0.0}
    assert scores[-1] > 0.7


@pytest.mark.parametrize("unit", [1e6, 1e-6, -1.0])
def test_the_unit_of_a_sensor_does_not_matter(unit: float) -> None:
    values = working_days(6)
    values[1500] += 100
    assert fed([unit * value for value in values]) == pytest.approx(fed(values), abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_a_level_shift_is_announced_once_and_becomes_the_usual_level(seed: int) -> None:
    #            /~~~~~~~~~~~|~~~~
    # ~~~~~~~~~~/  announced  spike
    values = noise(2000, seed) + [value + 12 for value in noise(2500, seed + 50)]
    detector = SensorAnomaly()
    scores = fed(values, detector=detector)
    assert len(announced(scores[2000:3000])) == 1
    assert max(scores[3000:]) < 0.7
    assert not detector.standing
    assert detector.expected == pytest.approx(32, abs=1)


@pytest.mark.parametrize("size", [12, -12])
def test_a_spike_is_announced_at_once(size: float) -> None:
    values = noise(3000)
    values[2500] += size
    assert fed(values)[2500] > 0.7


def test_an_event_is_announced_once_and_stands_until_it_is_over() -> None:
    values = noise(2000)
    detector = SensorAnomaly()
    fed(values, detector=detector)
    event = [detector.update((2000 + i) * STEP_MS, 40.0) for i in range(20)]
    assert event[0] >= ANNOUNCED
    assert detector.standing
    assert len(announced(event)) == 1
    for i, value in enumerate(noise(8 * QUIET, seed=2)):
        detector.update((2020 + i) * STEP_MS, value)
    assert not detector.standing


def test_what_exceeds_a_standing_event_by_far_is_announced_again() -> None:
    detector = SensorAnomaly()
    fed(noise(2000), detector=detector)
    scores = [detector.update((2000 + i) * STEP_MS, value) for i, value in enumerate([28.0, 28.0, 28.0, 20_000.0])]
    assert scores[-1] >= ANNOUNCED > max(scores[1:3])


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_a_missing_value_scores_nothing_and_teaches_nothing(missing: float | None) -> None:
    detector = SensorAnomaly()
    fed(noise(500), detector=detector)
    before = pickle.dumps(detector)
    assert detector.update(500 * STEP_MS, missing) == 0.0
    assert pickle.dumps(detector) == before


@pytest.mark.parametrize("number", [int, np.int64, np.float32])
def test_any_kind_of_number_is_a_value(number: Callable[[float], float]) -> None:
    values = [float(i % 7) for i in range(400)] + [1e20]
    assert fed([number(value) for value in values[:-1]]) == fed(values[:-1])
    assert fed([*values[:-1], int(values[-1])]) == fed(values)


def test_a_tenth_of_the_values_missing_leaves_a_spike_where_it_is() -> None:
    rng = random.Random(3)
    values: list[float] = [math.nan if rng.random() < 0.1 else value for value in noise(3000)]
    values[2500] = 35.0
    assert fed(values)[2500] > 0.7


def test_a_day_that_does_not_begin_is_announced_although_each_value_is_usual() -> None:
    #  __    __    __
    # |  |__|  |__|  |________
    values = working_days(6)
    values[5 * DAY :] = noise(DAY, seed=4)
    scores = fed(values)
    assert announced(scores[3 * DAY : 5 * DAY + 90]) == []
    found = announced(scores[5 * DAY :])
    assert found
    assert 96 <= found[0] < 120


def test_a_sunday_like_wednesday_is_announced_after_some_weeks() -> None:
    def hour(i: int) -> float:
        weekday, of_day = i // 24 % 7, i % 24
        return 50.0 if weekday < 5 and 7 <= of_day < 19 else 10.0

    rng = random.Random(5)
    values = [hour(i) + rng.gauss(0, 2) for i in range(24 * 7 * 10)]
    wednesday = 24 * (7 * 9 + 2)
    values[wednesday : wednesday + 24] = [10.0 + rng.gauss(0, 2) for _ in range(24)]
    scores = fed(values, step_ms=60 * MINUTE_MS)
    assert any(wednesday + 7 <= i < wednesday + 19 for i in announced(scores))
    assert announced(scores[24 * 7 * 6 : wednesday + 7]) == []


def test_the_step_over_a_gap_is_no_spike() -> None:
    #  /\  /\      \  /\
    # /  \/   (gap)  \/
    detector = SensorAnomaly()

    def wave(i: int) -> float:
        return 20.0 + 5.0 * math.sin(2 * math.pi * i / 200) + 0.01 * (i * 7919 % 11)

    fed([wave(i) for i in range(2000)], detector=detector)
    over_gap = detector.update(2050 * STEP_MS, wave(2050))
    without = fed([*(wave(i) for i in range(2000)), wave(2050)])[-1]
    assert over_gap < 0.3 < 0.8 < without


@pytest.mark.parametrize("step_ms", [MINUTE_MS, 10 * MINUTE_MS, 60 * MINUTE_MS])
def test_the_interval_of_the_values_does_not_matter(step_ms: int) -> None:
    values = noise(2000)
    values[1800] = 40.0
    scores = fed(values, step_ms=step_ms)
    assert scores[1800] > 0.7
    assert len(announced(scores)) <= 8


def test_values_out_of_order_are_judged_as_they_come() -> None:
    rng = random.Random(6)
    detector = SensorAnomaly()
    times = [i * STEP_MS - rng.randrange(3) * 2 * STEP_MS for i in range(1000)]
    scores = [detector.update(at_ms, rng.gauss(0, 1)) for at_ms in times]
    assert all(0.0 <= score < 1.0 for score in scores)


def test_the_score_does_not_saturate() -> None:
    scores = []
    for size in (1e2, 1e4, 1e8, 1e16, 1e28):
        detector = SensorAnomaly()
        fed(noise(1000), detector=detector)
        scores.append(detector.update(1000 * STEP_MS, size))
        assert 0 < detector.tail_probability == pytest.approx(math.exp(-scores[-1] / (1 - scores[-1])))
    assert scores == sorted(set(scores))
    assert scores[-1] < 1.0


def autoregressive(rng: random.Random, before: float) -> float:
    return 0.95 * before + rng.gauss(0, 1)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, _: rng.gauss(0, 1),
        lambda rng, _: rng.expovariate(1),
        lambda rng, _: rng.paretovariate(2),
        lambda rng, _: float(rng.randrange(5)),
        autoregressive,
    ],
    ids=["gauss", "exponential", "pareto", "few values", "autoregressive"],
)
def test_where_nothing_happens_little_is_announced(draw: Callable[[random.Random, float], float]) -> None:
    sure, said = 0, 0
    for seed in range(4):
        rng, value, values = random.Random(seed), 0.0, []
        for _ in range(5000):
            value = draw(rng, value)
            values.append(value)
        scores = fed(values)
        said += len(announced(scores))
        sure += sum(score > 0.75 for score in scores)
    assert said <= 4 * 12
    assert sure <= 4 * 2


def test_a_snapshot_is_small_and_goes_on_the_same() -> None:
    detector = SensorAnomaly()
    fed(working_days(20), detector=detector)
    pickled = pickle.dumps(detector)
    assert len(pickled) < 2000
    copy = pickle.loads(pickled)
    rest = [((20 * DAY + i) * STEP_MS, value) for i, value in enumerate(noise(500))]
    assert [copy.update(*each) for each in rest] == [detector.update(*each) for each in rest]


def test_an_update_costs_less_than_30_us() -> None:
    values = noise(5000)
    fed(values[:10])
    costs = []
    for _ in range(3):
        begun = process_time()
        fed(values)
        costs.append((process_time() - begun) / len(values))
    assert min(costs) < 30e-6


def peaks_of(*sizes: float) -> np.ndarray:
    peaks = np.zeros(PEAKS, np.float32)
    for size in sizes:
        learn_peak(peaks, size)
    return peaks


def test_what_the_known_peaks_cover_is_no_evidence() -> None:
    peaks = peaks_of(*range(10, 40))
    assert tail_evidence(peaks, 30, 20.0) == 0.0
    assert tail_evidence(peaks, 30, 50.0) > tail_evidence(peaks, 30, 41.0) > math.log(2)


def test_the_largest_of_many_blocks_is_about_one_of_the_history() -> None:
    rng = random.Random(7)
    evidence = []
    for _ in range(200):
        sizes = [max(abs(rng.gauss(0, 1)) for _ in range(BLOCK)) for _ in range(100)]
        evidence.append(tail_evidence(peaks_of(*sizes), 100, max(sizes)))
    assert sum(evidence) / len(evidence) == pytest.approx(math.log(PEAKS), abs=0.7)


def test_peaks_that_vary_little_make_an_excess_more_surprising_than_heavy_tails_do() -> None:
    alike = peaks_of(*(100 + i % 3 for i in range(20)))
    heavy = peaks_of(*(100 * 1.5 ** (i % 10) for i in range(20)))
    assert tail_evidence(alike, 20, 2 * alike[0]) > tail_evidence(heavy, 20, 2 * heavy[0])


def test_a_sensor_that_rarely_moves_has_as_few_peaks_as_it_has_moved() -> None:
    assert tail_evidence(peaks_of(0, 0, 0, 0, 0, 0, 0, 0), 8, 1.0) == pytest.approx(math.log(2 * PEAKS))
    assert tail_evidence(peaks_of(5, 0, 0, 0, 0, 0, 0, 0), 8, 1.0) == 0.0
    assert tail_evidence(peaks_of(5, 0, 0, 0, 0, 0, 0, 0), 8, 5.1) > math.log(PEAKS)


def test_nothing_is_judged_before_the_warm_up() -> None:
    assert tail_evidence(peaks_of(1, 1, 1), WARM_BLOCKS - 1, 1e9) == 0.0


def test_an_old_peak_is_forgotten() -> None:
    peaks = peaks_of(1000.0, *[1.0] * (3 * FORGET // BLOCK))
    assert peaks[0] < 100.0
    assert tail_evidence(peaks, 9999, 200.0) > 2 + tail_evidence(peaks_of(1000.0, *[1.0] * 50), 50, 200.0)


def told(evidence: Iterable[float]) -> list[int]:
    news = np.zeros(1, NEWS_DTYPE)
    return [i for i, each in enumerate(evidence) if tell_news(news, each) >= ALARM]


def test_an_event_is_over_when_it_was_quiet_for_long_enough() -> None:
    assert told([3.0, 0.0, 3.0]) == [0]
    assert told([3.0, *[0.0] * (QUIET - 1), 3.0]) == [0]
    assert told([3.0, *[0.0] * (QUIET + 1), 3.0]) == [0, QUIET + 2]


def test_a_sensor_that_has_become_restless_is_announced_ever_less() -> None:
    restless = told(2.0 if i % 100 == 0 else 0.0 for i in range(20_000))
    assert len([i for i in restless if i < 1000]) > 2 * len([i for i in restless if i >= 19_000]) > 0
