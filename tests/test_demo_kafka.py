"""Acceptance: the demo on Kafka finds what it finds on the embedded log, and the command line reaches both."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wardwatch.demo import DemoOptions, run_demo
from wardwatch.settings import load_settings

SIZE = {"devices": 10, "customers": 2, "days": 1}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the services' user reaches, as pytest's own are open to their owner alone."""
    with tempfile.TemporaryDirectory(prefix="wardwatch-tests-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def summary(folder: Path, kafka: str | None) -> dict[str, Any]:
    with run_demo(load_settings(data=folder, kafka=kafka), DemoOptions(**SIZE)) as result:
        assert (result.stack.settings.kafka is None) == (kafka is None)
        command = [sys.executable, "-m", "wardwatch.cli", "alerts", "ack", "00000000-0000-0000-0000-000000000000"]
        asked = subprocess.run(
            [*command, "--by", "a test", "--data", str(folder)], capture_output=True, text=True, check=False
        )
        assert "there is no alert" in asked.stderr
        return result.summary


@pytest.mark.kafka
def test_the_demo_finds_the_same_on_kafka(folder: Path) -> None:
    embedded, on_kafka = summary(folder / "embedded", None), summary(folder / "kafka", "local")
    assert on_kafka["digest"] == embedded["digest"]
    assert on_kafka["readings_stored"] == on_kafka["readings_published_unique"] > 500
    assert not (folder / "kafka" / "log.sqlite").exists()
    noted = json.loads((folder / "kafka" / "run" / "addresses.json").read_text("utf-8"))
    assert noted["kafka"].startswith("127.0.0.1:")
