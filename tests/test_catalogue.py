"""Catalogue files: what a worker could not live with is refused, with file and field, before anything runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import schema
from schema.catalogue import BUDGETED, BUDGETS_FILE, CatalogueError, load_catalogue, parse_budgets, parse_model
from schema.messages import Message, Reading
from schema.record import Tick, decode, encode_telemetry
from schema.registry import Customer, Device, Site
from schema.rows import AlertRow
from streams.pane_rows import DAY_MS, HOUR_MS
from streams.partition import Partition

DATA = Path(schema.__file__).parent / "catalogue_data"
CT = (DATA / "ct.toml").read_text("utf-8")


def changed(setting: str, value: str) -> str:
    """The CT's file with another value of a setting of its first lines."""
    lines = [f"{setting} = {value}" if line.startswith(f"{setting} =") else line for line in CT.splitlines()]
    assert lines != CT.splitlines()
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("service_interval_days", "-1"),
        ("service_interval_days", "4_000_000"),
        ("message_interval_s", "0"),
        ("message_interval_s", "-600"),
    ],
)
def test_an_interval_that_no_day_could_be_closed_with_is_refused(setting: str, value: str) -> None:
    with pytest.raises(CatalogueError, match=rf"mine\.toml: {setting}"):
        parse_model("mine.toml", changed(setting, value))


def test_a_model_without_periodic_service_has_no_date_for_one() -> None:
    catalogue = {"ct": parse_model("ct.toml", changed("service_interval_days", "0"))}
    partition = Partition(0, catalogue)
    partition.apply(
        (
            Customer(customer_id="c", name="c"),
            Site(site_id="s", customer_id="c", name="s"),
            Device(
                device_id="d", model="ct", site_id="s", customer_id="c", installed_ms=0, contract_until_ms=9 * DAY_MS
            ),
        )
    )
    partition.apply(Tick("bridge", DAY_MS, "joined"))
    for hour in range(25, 80):
        at_ms = hour * HOUR_MS
        message = Message("d", "telemetry", 1, hour, at_ms, at_ms, (Reading(at_ms - 1, "scans", hour),))
        partition.apply(decode(encode_telemetry([message], source="bridge", receive_ms=at_ms)))
        partition.apply(Tick("bridge", at_ms))
    alerts = {(row.detector, row.subsystem) for row in partition.effects.rows.values() if isinstance(row, AlertRow)}
    assert alerts == {("expiring", "contract")}


@pytest.mark.parametrize("name", ["service", "calibration", "warranty", "contract"])
def test_neither_limits_nor_subsystems_are_called_like_a_date(name: str) -> None:
    with pytest.raises(CatalogueError, match=rf"limits\.{name}: the name"):
        parse_model("ct.toml", f'{CT}\n[limits.{name}]\nevery = 5\nmetric = "scans"\n')
    fault = f'[faults."X-1"]\nseverity = "error"\nsubsystem = "{name}"\ntext = "x"\n'
    with pytest.raises(CatalogueError, match=rf"faults\.X-1\.subsystem: '{name}'"):
        parse_model("ct.toml", f"{CT}\n{fault}")


def test_a_budget_for_a_detector_that_has_none_is_refused() -> None:
    with pytest.raises(CatalogueError, match=r"mine\.toml: all\.sensor_anomly: no detector"):
        parse_budgets("mine.toml", "[all.sensor_anomly]\ncost_of_miss = 2\n")
    with pytest.raises(CatalogueError, match=r"ct\.toml: budgets\.silence: no detector"):
        parse_model("ct.toml", f"{CT}\n[budgets.silence]\ncost_of_miss = 2\n")


def test_every_detector_with_a_budget_has_one_for_all_models() -> None:
    assert parse_budgets(BUDGETS_FILE, (DATA / BUDGETS_FILE).read_text("utf-8"))["all"].keys() == BUDGETED
    assert load_catalogue()["ct"].budgets.keys() == BUDGETED


def test_the_program_names_the_budget_that_it_does_not_know_and_ends_with_status_2(tmp_path: Path) -> None:
    (tmp_path / BUDGETS_FILE).write_text("[all.sensor_anomly]\ncost_of_miss = 2\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "wardwatch.cli", "migrate"],
        env=os.environ
        | {"WARDWATCH_CATALOGUE": str(tmp_path), "WARDWATCH_DATABASE_URL": "postgresql://nobody@localhost/none"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "all.sensor_anomly" in done.stderr
    assert "Traceback" not in done.stderr
