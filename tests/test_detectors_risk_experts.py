"""The experts behind the failure risk: what each can see, and that partitions learn the same in any number."""

import pickle
import random

import numpy as np
import pytest

from detectors.bayes_logistic import BayesianLogistic
from detectors.failure_risk import FailureRisk
from detectors.risk_crosses import SparseCrosses
from detectors.risk_experts import RiskExperts
from detectors.risk_learned import LearnedRisk
from detectors.risk_reliability import EDGES, Reliability
from detectors.risk_signs import Labelled, Signs
from detectors.risk_trees import RefittedTrees
from detectors.risk_words import words
from detectors.subsystem_health import HOUR_MS, SubsystemHealth


def examples(many: int, seed: int = 1) -> list[Labelled]:
    """A failure follows where the pressure is high and the code `arc` came 20 to 24 h ago."""
    rng, made = random.Random(seed), []
    for number in range(many):
        arc_h, pressure = 48 * rng.random(), rng.gauss(0, 1)
        signs = Signs.of({"level kpa": pressure, "codes_1d": 0.5}, {"since code arc": arc_h}, {})
        happened = 20 <= arc_h < 24 and pressure > -0.5
        odds = (-4.0, 0.0, 0.0, 0.0)
        made.append(Labelled(number * HOUR_MS, f"d{number % 7}", "tube", "ct", signs, odds, 1.0, happened))
    return made


def test_a_pair_of_hours_has_a_weight_of_its_own() -> None:
    model, rng = SparseCrosses(), random.Random(1)
    for _ in range(4000):
        arc_h, visit_h = rng.randrange(6), rng.randrange(6)
        model.learn_one({"arc": arc_h, "visit": visit_h}, arc_h == visit_h)
    together = [model.predict_proba_one({"arc": h, "visit": h})[True] for h in range(6)]
    apart = [model.predict_proba_one({"arc": h, "visit": (h + 1) % 6})[True] for h in range(6)]
    assert min(together) > 0.7 > 0.1 > max(apart)


def test_what_is_unknown_negative_or_long_ago_is_no_token() -> None:
    ages_h = {"a": float("nan"), "b": -1.0, "c": 1e9, "d": 3.0}
    assert len(SparseCrosses.tokens(ages_h)) == 1


def test_compiled_trees_say_what_the_library_says() -> None:
    lightgbm = pytest.importorskip("lightgbm")
    trees, rng = RefittedTrees(), np.random.default_rng(1)
    for _ in range(3):
        trees.widen(0.0)
    x = rng.normal(size=(600, 3)).astype(np.float32)
    y = x[:, 0] * x[:, 1] > 0.3
    for row, happened in zip(x, y, strict=True):
        trees.learn(row, bool(happened), 1.0)
    trees.refit()
    from detectors.risk_trees import _FIT

    data = lightgbm.Dataset(x, y.astype(float), weight=np.ones(600), params={"verbosity": -1})
    expected = lightgbm.train(_FIT, data, trees.ROUNDS).predict(x, raw_score=True, num_threads=1)
    assert [trees.odds(row) for row in x] == pytest.approx(expected.tolist())
    moved = trees.moved(x[0])
    assert abs(moved[:2]).sum() > abs(moved[2])


def test_trees_keep_a_bounded_sample_that_weighs_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RefittedTrees, "MOST", 300)
    trees = RefittedTrees()
    trees.widen(0.0)
    for number in range(2000):
        trees.learn(np.array([number], np.float32), number % 50 == 0, 1.0)
        assert trees.many <= 300
    labels = trees.labels[: trees.many]
    assert labels.sum() == 40
    assert trees.weights[: trees.many][labels == 0].sum() == pytest.approx(1960, rel=0.1)


def test_trees_are_refitted_only_when_a_tenth_more_is_known() -> None:
    learned = LearnedRisk()
    learned.learn(examples(600))
    assert learned.refit()
    assert not learned.refit()
    learned.learn(examples(600, seed=2))
    assert learned.refit()


def test_the_number_of_partitions_and_their_order_do_not_show() -> None:
    alone, shared = LearnedRisk(), LearnedRisk()
    day = examples(400)
    parts = [LearnedRisk() for _ in range(3)]
    for number, each in enumerate(day):
        parts[number % 3].gather([each])
    alone.gather(day)
    contributions = [part.contribution() for part in parts]
    alone.absorb([alone.contribution()])
    shared.absorb(contributions[::-1])
    signs = day[3].signs
    assert alone.judge("ct", signs) == shared.judge("ct", signs)
    assert parts[0].contribution() == b""


def test_what_was_learned_goes_on_from_a_snapshot() -> None:
    learned = LearnedRisk()
    learned.learn(examples(500))
    learned.refit()
    copy = pickle.loads(pickle.dumps(learned))
    for each in (learned, copy):
        each.learn(examples(200, seed=3))
    signs = examples(1, seed=9)[0].signs
    assert copy.judge("ct", signs) == learned.judge("ct", signs)


def test_judging_teaches_nothing() -> None:
    learned = LearnedRisk()
    learned.learn(examples(300))
    before = learned.judge("ct", examples(1)[0].signs)
    for each in examples(50, seed=4):
        learned.judge("ct", each.signs)
    assert learned.judge("ct", examples(1)[0].signs) == before


def test_a_model_of_which_nothing_is_known_is_judged_by_what_all_have_taught() -> None:
    learned = LearnedRisk()
    calm = Signs.of({"codes_1d": 0.0}, {}, {})
    before = learned.judge("new", calm).probability
    learned.learn(Labelled(n, "d", "tube", "ct", calm, (0.0, 0.0, 0.0, 0.0), 8.0, False) for n in range(500))
    assert learned.judge("new", calm).probability < before


def test_reasons_name_what_moved_the_odds() -> None:
    risk, learned = FailureRisk(), LearnedRisk()
    learned.learn(examples(800))
    learned.refit()
    learned.blend.mean[:] = (0.0, 0.0, 0.3, 0.3, 0.4)
    judged = risk.judge(learned, 0, "d", "tube", {"level kpa": 1.0}, {"since code arc": 22.0}, "ct")
    reasons = learned.reasons("ct", judged.signs)
    assert next(iter(reasons)) == "since code arc"
    assert reasons["since code arc"] > 0
    assert words(reasons, judged.signs)[0].startswith("code arc 22 h ago: odds x")


def test_reliability_adds_up_by_bin_and_begins_anew() -> None:
    reliability = Reliability()
    reliability.add(0.31, True, 1.0)
    reliability.add(0.39, False, 8.0)
    reliability.add(1.0, True, 1.0)
    taken = reliability.take()
    assert taken["reliability_30_judged"] == 9.0
    assert taken["reliability_30_foretold"] == pytest.approx(0.31 + 8 * 0.39)
    assert taken["reliability_30_happened"] == 1.0
    assert taken[f"reliability_{100 * EDGES[-1]:.0f}_judged"] == 1.0
    assert reliability.take() == {}


def test_a_subsystem_tells_how_long_ago_things_happened_and_how_its_gauges_trend() -> None:
    health = SubsystemHealth()
    for hour in range(100):
        health.window((hour + 1) * HOUR_MS, "kpa", float(hour), 6)
    health.fault(90 * HOUR_MS, "warning", "arc")
    health.fault(95 * HOUR_MS, "error", "leak")
    ages_h = health.ages_h(100 * HOUR_MS)
    assert ages_h == {"since code #1": 5.0, "since code #2": 10.0, "since code arc": 10.0, "since code leak": 5.0}
    trends = health.trends(100 * HOUR_MS)
    assert trends["level kpa"] == pytest.approx(88, abs=2)
    assert trends["slope kpa"] > 10
    assert health.trends(200 * HOUR_MS) == {}


def test_what_happened_is_remembered_for_a_bounded_number_of_things() -> None:
    health = SubsystemHealth()
    for number in range(100):
        health.happened(number * HOUR_MS, "code", f"c{number}")
    assert len(health.happened_ms) == health.HAPPENED
    assert "code c99" in health.happened_ms


def test_codes_that_devices_make_up_get_only_so_many_columns_and_gauges_all_of_theirs() -> None:
    learned, odds = LearnedRisk(), (-4.0, 0.0, 0.0, 0.0)
    for number in range(600):
        gauge = {"codes_1d": 0.5, "level z_kpa" if number == 599 else "level a_kpa": 1.0}
        signs = Signs.of(gauge, {f"since code {number:03}": 5.0}, {})
        learned.learn([Labelled(number, "d", "tube", "ct", signs, odds, 1.0, number % 9 == 0)])
    columns = learned.experts["ct"].columns
    assert len(columns) == RiskExperts.COLUMNS + 1
    assert {"since code 000", "level a_kpa", "level z_kpa"} < columns.keys()
    assert 0 < learned.judge("ct", signs).probability < 1


@pytest.mark.parametrize("model", [BayesianLogistic(), SparseCrosses()], ids=["logistic", "crosses"])
def test_none_is_as_if_it_were_missing(model: BayesianLogistic | SparseCrosses) -> None:
    for _ in range(20):
        model.learn_one({"arc": 20.0}, True)
        model.learn_one({"arc": None}, False)
    assert model.predict_proba_one({"arc": None}) == model.predict_proba_one({})
    assert model.predict_proba_one({"arc": None})[True] < model.predict_proba_one({"arc": 20.0})[True]
