"""What a compiled function holds of other files is never older than they are."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import schema.compiled

CALLER = """
from detectors.called import called
from schema.compiled import compiled

@compiled
def caller(x):
    return called(x)
"""
CALLED = """
from detectors.constants import FACTOR
from schema.compiled import compiled

@compiled
def called(x):
    return {term} * FACTOR
"""
ASK = "from detectors.caller import caller; print(caller(2), sum(caller.stats.cache_hits.values()))"

Ask = Callable[[str, int], tuple[int, int]]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Ask a new process for `caller(2)`, with a term of `called` and a constant; the answer, and hits of the cache."""
    for package in ("schema", "detectors"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "schema" / "compiled.py").write_bytes(Path(schema.compiled.__file__).read_bytes())
    (tmp_path / "detectors" / "caller.py").write_text(CALLER)

    def asked(term: str, factor: int) -> tuple[int, int]:
        (tmp_path / "detectors" / "called.py").write_text(CALLED.format(term=term))
        (tmp_path / "detectors" / "constants.py").write_text(f"FACTOR = {factor}\n")
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
        told = subprocess.run(
            [sys.executable, "-c", ASK], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        )
        answer, hits = told.stdout.split()
        return int(answer), int(hits)

    return asked


def test_a_function_is_read_from_the_cache_while_nothing_it_holds_has_changed(ask: Ask) -> None:
    assert ask("x", 1) == (2, 0)
    assert ask("x", 1) == (2, 1)


def test_a_function_is_compiled_anew_when_what_it_calls_in_another_file_has_changed(ask: Ask) -> None:
    assert ask("x", 1) == (2, 0)
    assert ask("(x + 1)", 1) == (3, 0)


def test_a_function_is_compiled_anew_when_a_constant_two_files_away_has_changed(ask: Ask) -> None:
    assert ask("x", 1) == (2, 0)
    assert ask("x", 5) == (10, 0)
