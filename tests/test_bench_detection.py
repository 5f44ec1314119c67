"""Detection benchmarks: adapters keep the protocol of the scripts, and no figure goes missing unnoticed."""

import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks import adapters
from benchmarks.detection import ROOT

START = datetime(2020, 1, 6)
Ask = Callable[[Any, random.Random, int], float]


def usage(adapter: Any, rng: random.Random, hour: int) -> float:
    busy = 8 <= hour % 24 < 18
    belief: float = adapter.update(START + timedelta(hours=hour), float(rng.randrange(9)) if busy else 0.0)
    return belief


def reading(adapter: Any, rng: random.Random, hour: int) -> float:
    score: float = adapter.update(START + timedelta(hours=hour), 20 + hour % 24 + rng.gauss(0, 1))
    return score


def change(adapter: Any, rng: random.Random, hour: int) -> float:
    """Where the change lies that is told, as a share of what was seen; 0 if none is."""
    index = adapter.update(hour, [rng.gauss(5.0 * (hour // 200 % 2), 1), rng.choice([None, 1.0])])
    assert index is None or 0 <= index <= hour
    return 0.0 if index is None else index / (hour + 1)


def risk(adapter: Any, rng: random.Random, hour: int) -> float:
    for device, age in (("a", 3), ("b", 9)):
        event = {"t": float(hour), "device": device}
        if hour == 0:
            adapter.learn(event | {"kind": "info", "data": {"model": "m", "age": age}})
        adapter.learn(event | {"kind": "telemetry", "data": {"volt": rng.gauss(170, 9)}})
        if rng.random() < 0.1:
            adapter.learn(event | {"kind": "fault", "data": {"code": rng.choice(["e1", "e2"])}})
        if rng.random() < 0.02:
            adapter.learn(event | {"kind": "failure", "data": {}})
            adapter.learn(event | {"kind": "maint", "data": {"what": "comp1"}})
    answer: float = adapter.predict(float(hour), rng.choice("ab"))
    return answer


ADAPTERS = [
    pytest.param(adapters.usage_drop, usage, id="usage_drop"),
    pytest.param(lambda: adapters.failure_risk(24.0), risk, id="failure_risk"),
    pytest.param(adapters.anomaly, reading, id="anomaly"),
    pytest.param(adapters.change_point, change, id="change_point"),
]


def run(adapter: Any, ask: Ask, first: int, stop: int) -> list[float]:
    rng = random.Random(first)
    return [ask(adapter, rng, hour) for hour in range(first, stop)]


@pytest.mark.parametrize(("make", "ask"), ADAPTERS)
def test_an_adapter_answers_within_its_range_and_the_same_each_time(make: Callable[[], Any], ask: Ask) -> None:
    answers = run(make(), ask, 0, 900)
    assert all(0.0 <= answer <= 1.0 for answer in answers)
    assert len(set(answers)) > 1
    assert run(make(), ask, 0, 900) == answers


@pytest.mark.parametrize(("make", "ask"), ADAPTERS)
def test_an_adapter_from_a_pickle_gives_the_same_next_answer(make: Callable[[], Any], ask: Ask) -> None:
    adapter = make()
    run(adapter, ask, 0, 700)
    copy = pickle.loads(pickle.dumps(adapter))
    assert run(copy, ask, 700, 900) == run(adapter, ask, 700, 900)


def test_a_machine_of_which_nothing_is_known_yet_is_judged_all_the_same() -> None:
    risk = adapters.failure_risk(24.0)
    assert 0.0 < risk.predict(5.0, "new") < 0.5
    risk.learn({"t": 6.0, "device": "old", "kind": "info", "data": {"model": "m"}})
    assert 0.0 < risk.predict(7.0, "old") < 0.5


def test_no_label_counts_before_its_horizon_has_passed() -> None:
    #  judged    fails                        known
    # ---|---------X----------------------------|------
    #    6         7                            30 h
    answers: dict[bool, dict[tuple[int, str], float]] = {}
    for fails in (False, True):
        adapter = adapters.failure_risk(24.0)
        answers[fails] = {}
        for hour in range(6, 43, 6):
            for device in "ab":
                event = {"t": hour - 0.5, "device": device, "kind": "fault", "data": {"code": "e1"}}
                adapter.learn(event)
                answers[fails][hour, device] = adapter.predict(float(hour), device)
            if fails and hour == 6:
                adapter.learn({"t": 7.0, "device": "a", "kind": "failure", "data": {}})
    differ = [hour for (hour, device), answer in answers[True].items() if answer != answers[False][hour, device]]
    assert min(differ) == 30


PRINTED = {
    "drops.py": (
        "step60   caught  59/ 60  median delay 7.00 days\nstop     caught  60/ 60  median delay 3.00 days\n"
        "false alarms 18 in 94.8 series-years = 0.19 a year; precision 0.920\nDROPS tune F1 0.8903"
    ),
    "failure.py": "FAILURE azure AP 0.9900 F1 0.9000",
    "nab.py": "standard  81.58  windows\nreward_low_FP_rate  73.47\nreward_low_FN_rate  -86.55\nNAB 81.58",
    "change_points.py": "TCPD F1 0.7636 COVER 0.7129",
}


def reported(folder: Path, *options: str, **printed: str) -> tuple[int, dict[str, Any]]:
    """Exit code and figures of a run over scripts that print PRINTED, or else what is given for them."""
    for name, text in PRINTED.items():
        (folder / name).write_text(f"print({printed.get(name.partition('.')[0], text)!r})", "utf-8")
    environment = os.environ | {"WARDWATCH_BENCH_FILE": str(folder / "bench.json")}
    command = [sys.executable, "-m", "benchmarks.detection", str(folder), *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True)
    return done.returncode, json.loads((folder / "bench.json").read_text("utf-8"))


def test_what_the_scripts_print_becomes_figures(tmp_path: Path) -> None:
    code, figures = reported(tmp_path)
    assert code == 0
    assert None not in figures.values()
    names = ("usage_drop_f1_worst", "usage_drop_false_a_year", "cmapss_ap_mean", "nab_reward_low_fn_rate")
    assert [figures[name] for name in names] == [0.8903, 0.19, 0.99, -86.55]
    assert [figures[name] for name in ("usage_drop_delay_stop_days", "change_points_cover")] == [3.0, 0.7129]


def test_a_figure_that_is_not_printed_any_more_is_not_measured_and_a_failure(tmp_path: Path) -> None:
    code, figures = reported(tmp_path, change_points="TCPD F1 0.7636 coverage 0.7129")
    assert code == 1
    assert figures["change_points_cover"] is None
    assert figures["nab_standard"] == 81.58
    assert "change_points" in figures["details"]["change_points_cover"]["unavailable"]


def test_figures_of_runs_that_were_left_out_are_not_missed(tmp_path: Path) -> None:
    code, figures = reported(tmp_path, "--only", "nab", drops="nothing")
    assert code == 0
    assert "usage_drop_f1_mean" not in figures
