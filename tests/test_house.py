"""The house stands where it should: our names are ours, the lock file is portable, every room says what it holds."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


@pytest.mark.parametrize("room", ROOMS)
def test_each_name_imports_from_this_repository(room: str) -> None:
    found = importlib.import_module(room).__file__
    assert found is not None
    assert Path(found).resolve() == ROOT / room / "__init__.py"


@pytest.mark.parametrize("room", ROOMS)
def test_every_package_says_what_it_holds(room: str) -> None:
    walls = pkgutil.walk_packages([str(ROOT / room)], prefix=f"{room}.")
    packages = [room, *(module.name for module in walls if module.ispkg)]
    silent = [name for name in packages if not (importlib.import_module(name).__doc__ or "").strip()]
    assert silent == []


@pytest.mark.parametrize("room", ROOMS)
def test_the_examples_in_docstrings_give_what_they_say(room: str) -> None:
    names = [module.name for module in pkgutil.walk_packages([str(ROOT / room)], prefix=f"{room}.")]
    wrong = [name for name in names if ">>>" in _source(name) and doctest.testmod(importlib.import_module(name)).failed]
    assert wrong == []


def _source(module: str) -> str:
    path = ROOT.joinpath(*module.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()


def test_lint_types_and_direction_of_imports_cover_the_same_rooms() -> None:
    assert PROJECT["tool"]["mypy"]["packages"] == ROOMS
    assert PROJECT["tool"]["importlinter"]["root_packages"] == ROOMS


def test_the_lock_file_has_versions_and_hashes_and_no_index_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert (
        re.findall(r"https?://|^\s*-{1,2}(?:index-url|extra-index-url|find-links|trusted-host|i|f)\b", lock, re.M) == []
    )
    requirements = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^\s*#.*\n?", "", lock, flags=re.M).strip())
    loose = [
        entry.splitlines()[0] for entry in requirements if not re.match(r"[^=\s]+==\S+.*--hash=sha256:", entry, re.S)
    ]
    assert loose == []


def test_the_lock_file_holds_every_direct_dependency() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    locked = {name.lower() for name in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==", lock, re.M)}
    wanted = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]
    names = {re.split(r"[\[><=!~; ]", requirement)[0].lower() for requirement in wanted}
    assert names - locked == set()
