"""Settings: a bad one is named with where it came from, and ends the program with status 2."""

import subprocess
import sys
from pathlib import Path

import pytest

from schema.catalogue import CatalogueError, load_catalogue
from wardwatch.settings import SettingsError, as_environment, load_settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDWATCH_PARTITIONS", "many")
    with pytest.raises(SettingsError, match="WARDWATCH_PARTITIONS"):
        load_settings()


def test_a_bad_line_of_the_file_is_named() -> None:
    Path("wardwatch.toml").write_text("flush_ms = 0\n", "utf-8")
    with pytest.raises(SettingsError, match=r"flush_ms in wardwatch\.toml"):
        load_settings()


def test_an_unknown_setting_is_refused() -> None:
    Path("wardwatch.toml").write_text("flush = 20\n", "utf-8")
    with pytest.raises(SettingsError, match="flush"):
        load_settings()


def test_a_bad_argument_is_named() -> None:
    with pytest.raises(SettingsError, match="--max-readings"):
        load_settings(max_readings=0)


def test_a_variable_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("wardwatch.toml").write_text("flush_ms = 30\n", "utf-8")
    monkeypatch.setenv("WARDWATCH_FLUSH_MS", "40")
    assert load_settings().flush_ms == 40


def test_an_address_that_is_none_is_refused_without_being_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDWATCH_DATABASE_URL", "postgresql:/u:geheim@h/x")
    with pytest.raises(SettingsError, match="WARDWATCH_DATABASE_URL") as refused:
        load_settings()
    assert "geheim" not in str(refused.value)


def test_a_catalogue_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(CatalogueError, match="nowhere"):
        load_catalogue(Path("nowhere"))


def test_a_child_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(deliver={"": ["json://localhost"]}, clock="simulated", data=Path("x"))
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


@pytest.mark.parametrize("arguments", [["up"], ["alerts", "list"], ["worker"]])
def test_the_program_ends_with_status_2(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wardwatch.cli", *arguments],
        env={"WARDWATCH_PARTITIONS": "0", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "WARDWATCH_PARTITIONS" in done.stderr
    assert "Traceback" not in done.stderr
