"""Change points: a new level or a new drift is told once, with its onset; wandering, rhythm and bursts are not."""

import math
import pickle
import random
from collections.abc import Iterable, Sequence
from itertools import accumulate
from time import process_time

import numpy as np
import pytest

from detectors.change_evidence import LEAST_AFTER, LEAST_BEFORE, LOOK_BACK, newest_change, onset_evidence
from detectors.change_point import ChangePoint

Observation = float | Sequence[float | None] | None


def told(values: Iterable[Observation], detector: ChangePoint | None = None) -> list[tuple[int, int]]:
    """(when, onset) of all changes."""
    detector = ChangePoint() if detector is None else detector
    found = []
    for value in values:
        detector.update(value)
        if detector.change is not None:
            found.append((detector.count - 1, detector.change))
    return found


def noise(length: int, seed: int, sigma: float = 1.0) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(0, sigma) for _ in range(length)]


def stepped(length: int, at: int, size: float, seed: int) -> list[float]:
    return [value + (size if i >= at else 0) for i, value in enumerate(noise(length, seed))]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [-4.0, 3.0, 20.0])
def test_a_new_level_is_told_once_with_its_onset(seed: int, size: float) -> None:
    [(when, onset)] = told(stepped(200, 120, size, seed))
    assert abs(onset - 120) <= 1
    assert onset + LEAST_AFTER - 2 <= when <= onset + LOOK_BACK


def test_a_change_names_the_levels_before_and_after() -> None:
    detector = ChangePoint()
    for value in stepped(200, 120, 10.0, 1):
        detector.update(20 + value)
        if detector.drift_detected:
            [shift] = detector.shifts()
            assert shift.before == pytest.approx(20, abs=1)
            assert shift.after == pytest.approx(30, abs=1)
            assert detector.certainty > 0.5
    assert detector.shifts() == []


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_a_rhythm_are_no_changes(seed: int) -> None:
    values = noise(300, seed)
    assert told(values) == []
    assert told(value + 6 * math.sin(i * math.tau / 12) for i, value in enumerate(values)) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_series_that_grows_has_changed_when_it_turns_back(seed: int) -> None:
    steps = [step + (2.0 if i < 100 else -2.0) for i, step in enumerate(noise(160, seed))]
    [(_, onset)] = told(accumulate(steps))
    assert abs(onset - 100) <= 3


def test_a_growth_may_speed_up_with_its_size() -> None:
    assert told(math.exp(0.03 * i) * (1 + 0.01 * error) for i, error in enumerate(noise(150, 1))) == []


def test_outliers_and_a_short_burst_are_no_changes() -> None:
    values = noise(200, 3)
    for i in (50, 90, 91, 130, 131, 132):
        values[i] += 12.0
    assert told(values) == []


def test_neither_unit_nor_offset_shows() -> None:
    values = stepped(200, 120, 5.0, 2)
    assert told(value * 1e-6 for value in values) == told(values) == told(4e6 + 1e3 * value for value in values)


@pytest.mark.parametrize("first", [-9_999_999.0, 1e8, 1e20, 1e39, 1e300])
@pytest.mark.parametrize("others", [[], [20.0]])
def test_a_first_value_far_away_makes_nobody_deaf(first: float, others: list[float]) -> None:
    values = [20 + value / 10 for value in stepped(300, 200, 4.0, 1)]
    [(_, onset)] = told([[first, *others], *([value, *others] for value in values)])
    assert abs(onset - 201) <= 1


def test_a_value_that_no_number_can_square_is_missing() -> None:
    values: list[float | None] = [*stepped(200, 120, 4.0, 1)]
    lost = [None if i == 50 else value for i, value in enumerate(values)]
    assert told(1e39 if i == 50 else value for i, value in enumerate(values)) == told(lost)


def test_a_signal_that_never_moves_is_quiet() -> None:
    assert told([7.25] * 300) == []


def test_missing_values_are_passed_over() -> None:
    values: list[float | None] = list(stepped(240, 120, 5.0, 4))
    for i in range(0, 240, 3):
        values[i] = None if i % 2 else math.nan
    values[116:120] = [None] * 4
    [(_, onset)] = told(values)
    assert 114 <= onset <= 122
    assert told([None] * 50) == []


def test_a_change_of_one_metric_of_several_names_it() -> None:
    rows = list(zip(noise(200, 1), stepped(200, 120, 5.0, 2), noise(200, 3), strict=True))
    detector = ChangePoint()
    found = []
    for row in rows:
        detector.update(row)
        found += [(detector.change, each.metric) for each in detector.shifts()[:1]]
    [(onset, metric)] = found
    assert metric == 1
    assert onset is not None
    assert abs(onset - 120) <= 2


def test_a_shift_too_small_for_each_metric_shows_in_all_together() -> None:
    series = [stepped(200, 120, 1.4, seed) for seed in range(10, 16)]
    assert [told(each) for each in series].count([]) >= 3
    [(_, onset)] = told(zip(*series, strict=True))
    assert abs(onset - 120) <= 4


def test_other_metrics_than_before_are_refused() -> None:
    detector = ChangePoint()
    detector.update([1.0, 2.0])
    with pytest.raises(ValueError, match="3 metrics, 2 before"):
        detector.update([1.0, 2.0, 3.0])


def test_a_change_with_a_known_reason_is_not_told() -> None:
    detector = ChangePoint()
    values = stepped(200, 120, 6.0, 5)
    assert told(values[:120], detector) == []
    detector.restart()
    assert told(values[120:], detector) == []


def test_a_higher_threshold_tells_later_and_with_more_certainty() -> None:
    values = stepped(200, 120, 4.0, 6)
    calm, eager = ChangePoint(), ChangePoint()
    calm.told_from = 5.0
    [(late, _)], [(soon, _)] = told(values, calm), told(values, eager)
    assert soon < late


def test_a_change_is_told_from_the_first_observations_that_allow_it() -> None:
    #  0 . . . . . 20 20 20 ...
    values = noise(LEAST_BEFORE + 3, 1, 0.1) + [20 + value for value in noise(20, 2, 0.1)]
    [(when, onset)] = told(values)
    assert abs(onset - LEAST_BEFORE - 3) <= 1
    assert when <= onset + LEAST_AFTER


def test_only_what_is_kept_is_remembered() -> None:
    sizes = []
    detector = ChangePoint(keep=50)
    for length in (60, 1000):
        told(noise(length, 1), detector)
        sizes.append(len(pickle.dumps(detector)))
    assert sizes[1] < sizes[0] + 20
    assert sizes[1] < 50 * 4 + 250


def test_a_detector_from_a_snapshot_goes_on_as_if_nothing_had_happened() -> None:
    rows = list(zip(stepped(200, 120, 5.0, 2), noise(200, 3), strict=True))
    detector = ChangePoint()
    told(rows[:122], detector)
    copy = pickle.loads(pickle.dumps(detector))
    assert told(rows[122:], copy) == told(rows[122:], detector) != []
    assert copy.log_odds == detector.log_odds


@pytest.mark.parametrize("kernel", ["compiled", "python"])
def test_compiled_and_python_tell_the_same(kernel: str) -> None:
    series = np.array(stepped(60, 40, 4.0, 1))
    series[[5, 30, 41]] = np.nan
    evidence = np.empty(60)
    function = onset_evidence if kernel == "compiled" else onset_evidence.py_func  # type: ignore[attr-defined]
    assert function(series, 0, evidence)
    assert int(np.argmax(evidence)) in (39, 40, 41, 42)
    assert evidence.max() == pytest.approx(newest_evidence(series), abs=1e-9)
    assert evidence[41] == evidence[42]
    assert np.isneginf(evidence[: LEAST_BEFORE - 1]).all()


def newest_evidence(series: np.ndarray) -> float:
    evidence = np.empty(len(series))
    place, _ = newest_change(series.reshape(-1, 1), 0)
    onset_evidence(series, 0, evidence)
    return float(evidence[place])


def test_an_update_takes_less_than_30_us() -> None:
    values, best = noise(1000, 1), math.inf
    for _ in range(5):
        detector = ChangePoint()
        begun = process_time()
        for value in values:
            detector.update(value)
        best = min(best, (process_time() - begun) / len(values))
    assert best < 30e-6


def test_what_has_no_metric_yet_is_counted_and_judged_once_it_has() -> None:
    detector, changes = ChangePoint(), []
    for index, value in enumerate(noise(200, 1)):
        detector.update([] if index < 20 else [value + 9 * (index >= 100)])
        changes += [detector.change] if detector.drift_detected else []
    assert changes == [100]


@pytest.mark.parametrize("then", [[1.0] * 50, [50.0] * 50, [9.0 + each for each in noise(50, 1)]])
def test_a_level_that_had_never_moved_is_left_once_another_one_has_lasted(then: list[float]) -> None:
    assert told([0.0] * 150 + then) == [(150 + LEAST_AFTER - 1, 150)]


def test_levels_without_noise_are_told_again_and_again() -> None:
    values = [float(index // 150 % 2) for index in range(600)]
    assert [change for _, change in told(values)] == [150, 300, 450]


@pytest.mark.parametrize(
    "values",
    [
        [float(index % 200 in range(100, 100 + LEAST_AFTER - 1)) for index in range(800)],
        [0.0] * (LEAST_BEFORE - 1) + [1.0] * (LEAST_AFTER - 1),
        [float(each > 2) for each in noise(2000, 2)],
    ],
    ids=["bursts", "too short", "rare events"],
)
def test_what_does_not_last_leaves_no_level(values: list[float]) -> None:
    assert told(values) == []
