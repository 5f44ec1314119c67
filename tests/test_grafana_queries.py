"""Every query of every board, as Grafana would send it, on a migrated and filled database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from grafana_rows import START, STOP, fill, migrated_database
from grafana_source import View, choose, misfits, run, shown

from grafana.publish import boards
from wardwatch.local import LocalParts

BOARDS = boards()
TARGETS = [
    pytest.param(uid, panel, target, id=f"{uid}-{panel['title']}-{target['refId']}")
    for uid, board in BOARDS.items()
    for panel in board["panels"]
    for target in panel.get("targets", [])
]


@pytest.fixture(scope="module")
def filled(parts: LocalParts) -> Iterator[psycopg.Connection[Any]]:
    with (
        migrated_database(parts.database_url, "test_grafana_queries") as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        with connection.transaction():
            fill(connection)
        yield connection


@pytest.fixture(scope="module")
def views(filled: psycopg.Connection[Any]) -> dict[tuple[str, bool], View]:
    return {
        (uid, timescaledb): choose(filled, board, View(START, STOP, {}, timescaledb))
        for uid, board in BOARDS.items()
        for timescaledb in (True, False)
    }


@pytest.mark.parametrize("timescaledb", [True, False], ids=["timescaledb", "plain"])
@pytest.mark.parametrize(("uid", "panel", "target"), TARGETS)
def test_a_panel_gets_rows_of_the_type_that_it_needs(
    filled: psycopg.Connection[Any],
    views: dict[tuple[str, bool], View],
    uid: str,
    panel: dict[str, Any],
    target: dict[str, Any],
    timescaledb: bool,
) -> None:
    view = views[uid, timescaledb]
    result = run(filled, view.expand(target["rawSql"], view.interval_s(panel)))
    assert misfits(panel, target, result) == []
    assert shown(result), result


@pytest.mark.parametrize(("uid", "panel", "target"), TARGETS)
def test_a_panel_says_nothing_wrong_about_a_range_without_data(
    filled: psycopg.Connection[Any],
    views: dict[tuple[str, bool], View],
    uid: str,
    panel: dict[str, Any],
    target: dict[str, Any],
) -> None:
    long_ago = View(START - timedelta(days=700), START - timedelta(days=690), views[uid, True].chosen)
    result = run(filled, long_ago.expand(target["rawSql"], long_ago.interval_s(panel)))
    assert misfits(panel, target, result) == []


@pytest.mark.parametrize("uid", BOARDS)
def test_holidays_and_maintenance_are_shaded(
    filled: psycopg.Connection[Any], views: dict[tuple[str, bool], View], uid: str
) -> None:
    (annotation,) = BOARDS[uid]["annotations"]["list"]
    result = run(filled, views[uid, True].expand(annotation["target"]["rawSql"], 3600))
    assert list(result.columns) == ["time", "timeend", "text", "tags"]
    assert result.column("text") == ["Holiday"]


def test_the_explorer_shows_minutes_where_a_point_is_shorter_than_an_hour(filled: psycopg.Connection[Any]) -> None:
    board = BOARDS["wardwatch-fleet"]
    view = choose(filled, board, View(STOP - timedelta(hours=6), STOP, {}))
    panel = next(panel for panel in board["panels"] if panel["title"] == "Gauges of $device")
    result = run(filled, view.expand(panel["targets"][0]["rawSql"], view.interval_s(panel)))
    assert len(set(result.column("time"))) == 36
    assert set(result.column("value")) == {20.0}


def test_the_device_with_most_alerts_and_the_customer_most_at_risk_are_chosen_first(
    views: dict[tuple[str, bool], View],
) -> None:
    assert views["wardwatch-fleet", True].chosen["device"] == ["ct-one"]
    assert views["wardwatch-customers", True].chosen["customer"] == ["three"]
