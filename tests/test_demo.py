"""Acceptance: the whole way, at 10 days and 20 devices, driven as a user would; nothing that happens to it shows."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from grafana_source import View, choose, misfits, run

from grafana.publish import boards
from streams.upsert import instant
from wardwatch.demo import DemoOptions, run_demo
from wardwatch.settings import load_settings

SIZE = ("--devices", "20", "--customers", "4", "--days", "10")


def demo(folder: Path, *options: str, seed: int = 7) -> dict[str, Any]:
    """Run the demo's command line; return its summary."""
    command = [sys.executable, "-m", "wardwatch.cli", "demo", "--seed", str(seed), "--exit", *SIZE]
    done = subprocess.run(
        [*command, "--data", str(folder), *options], capture_output=True, text=True, timeout=300, check=False
    )
    logs = "".join(path.read_text("utf-8")[-3000:] for path in folder.glob("log/*.log")) if done.returncode else ""
    assert done.returncode == 0, done.stdout + done.stderr + logs
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text("utf-8"))
    return summary


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return demo(reachable(tmp_path_factory))


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reachable(tmp_path_factory)


def reachable(factory: pytest.TempPathFactory) -> Path:
    """A folder that the database's user may enter, too."""
    made = factory.mktemp("demo")
    for each in (made, made.parent, made.parent.parent):
        each.chmod(0o755)
    return made / "data"


def test_each_reading_is_stored_once_and_each_malformed_message_is_in_the_quarantine(
    undisturbed: dict[str, Any],
) -> None:
    assert undisturbed["readings_published_unique"] > 100_000
    assert undisturbed["readings_stored"] == undisturbed["readings_published_unique"]
    assert undisturbed["quarantined"] == undisturbed["malformed_sent"] > 0


def test_outages_are_alerted_and_nothing_else_is_called_silent(undisturbed: dict[str, Any]) -> None:
    silence = undisturbed["silence"]
    assert silence["alerted"] == silence["outages"] > 0
    assert silence["false"] == 0


def test_no_usage_drop_comes_from_an_offline_gateway_a_holiday_or_planned_maintenance(
    undisturbed: dict[str, Any],
) -> None:
    drops = undisturbed["usage_drop"]
    assert (drops["offline"], drops["holiday"], drops["maintenance"]) == (0, 0, 0)


def test_alerts_are_few_and_lead_to_work(undisturbed: dict[str, Any]) -> None:
    assert undisturbed["false_alerts_per_device_month"] <= 1
    assert undisturbed["digest_rows"]["alerts"] > 0
    assert undisturbed["digest_rows"]["work_orders"] > 0
    assert undisturbed["churn"]["extra"] <= 1


@pytest.mark.parametrize(
    "options",
    [("--max-readings", "50"), ("--max-readings", "2000", "--speed", "50000")],
    ids=["small records", "a bounded pace"],
)
def test_neither_the_cut_of_records_nor_the_pace_shows(
    folder: Path, undisturbed: dict[str, Any], options: tuple[str, ...]
) -> None:
    assert demo(folder, *options)["digest"] == undisturbed["digest"]


def test_a_worker_killed_under_load_changes_nothing(folder: Path, undisturbed: dict[str, Any]) -> None:
    summary = demo(folder, "--kill-worker-at", "0.5")
    assert summary["worker_restarts"] == 1
    assert summary["lag_at_kill"] > 0
    assert summary["digest"] == undisturbed["digest"]
    assert summary["readings_stored"] == undisturbed["readings_stored"]


def test_a_bridge_killed_under_load_loses_and_doubles_nothing(folder: Path, undisturbed: dict[str, Any]) -> None:
    summary = demo(folder, "--kill-ingest-at", "0.3")
    assert summary["digest"] == undisturbed["digest"]
    assert summary["readings_stored"] == undisturbed["readings_stored"]
    assert summary["quarantined"] == undisturbed["quarantined"]


def test_another_seed_is_another_run(folder: Path, undisturbed: dict[str, Any]) -> None:
    assert demo(folder, seed=8)["digest"] != undisturbed["digest"]


def test_every_panel_reads_what_the_pipeline_has_written(folder: Path) -> None:
    options = DemoOptions(seed=7, devices=10, customers=2, days=4)
    with (
        run_demo(load_settings(data=folder), options) as result,
        psycopg.connect(result.stack.database_url) as connection,
    ):
        scenario = result.scenario
        shown = View(instant(scenario.start_ms), instant(scenario.end_ms), {})
        empty = []
        for board in boards().values():
            view = choose(connection, board, shown)
            for panel in board["panels"]:
                for target in panel.get("targets", []):
                    found = run(connection, view.expand(target["rawSql"], view.interval_s(panel)))
                    assert misfits(panel, target, found) == [], panel["title"]
                    empty += [] if found.rows else [panel["title"]]
        assert len(empty) < 10, f"four days should fill most panels: {empty}"


def test_a_folder_with_something_else_in_it_is_not_emptied(tmp_path: Path) -> None:
    kept = tmp_path / "thesis.txt"
    kept.write_text("years of work", "utf-8")
    command = [sys.executable, "-m", "wardwatch.cli", "demo", "--exit", "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "not empty" in done.stderr
    assert kept.exists()
