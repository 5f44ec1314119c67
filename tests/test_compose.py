"""`compose.yaml` without a Docker: its settings exist, its secrets are asked for, and it is open to loopback only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from wardwatch.local import mosquitto
from wardwatch.local.kafka import FOLDER, POM
from wardwatch.settings import PREFIX, Settings
from wardwatch.stack import STOP_WITHIN_S

TEXT = (Path(__file__).resolve().parents[1] / "compose.yaml").read_text("utf-8")


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(TEXT)
    return found


def test_each_variable_for_wardwatch_is_a_setting(composed: dict[str, Any]) -> None:
    given = {name for service in composed["services"].values() for name in service.get("environment", {})}
    named = {name.removeprefix(PREFIX).lower() for name in given if name.startswith(PREFIX)}
    assert {"kafka", "database_url", "mqtt_url", "source", "partitions", "grafana_url"} <= named
    assert named <= Settings.model_fields.keys()


def test_each_password_is_asked_for() -> None:
    passwords = re.findall(r"\$\{(\w*PASSWORD)(\S*?)[ }]", TEXT)
    assert len(passwords) > 4
    assert {rest for _, rest in passwords} == {":?see"}
    assert not re.search(r"://\w+:(?![\d$])", TEXT)


def test_only_loopback_is_published(composed: dict[str, Any]) -> None:
    published = [port for service in composed["services"].values() for port in service.get("ports", [])]
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_a_worker_is_given_the_time_that_its_last_cuts_may_take(composed: dict[str, Any]) -> None:
    assert float(composed["services"]["worker"]["stop_grace_period"].removesuffix("s")) > STOP_WITHIN_S["worker"]


def test_brokers_are_as_they_are_in_the_tests(composed: dict[str, Any]) -> None:
    version = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>(.*)</version>", POM.read_text("utf-8"))
    assert version is not None
    assert f"kafka-{version[1]}" == FOLDER
    assert composed["services"]["kafka"]["image"] == f"apache/kafka:{version[1]}"
    limits = {line for line in mosquitto.CONFIGURATION.splitlines() if line.startswith("max_")}
    lines = set(composed["configs"]["mosquitto"]["content"].splitlines())
    assert {line for line in limits if not line.startswith("max_packet_size")} <= lines
