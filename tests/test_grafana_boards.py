"""The boards as objects and files: whole, tidy, tied together."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from grafana.publish import boards, export, links

BOARDS = boards()


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_panels_fill_the_grid_without_gap_or_overlap(board: dict) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]
    bottom = max(y for _, y in taken) + 1
    assert len(taken) == 24 * bottom


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_panels_have_numbers_of_their_own_and_say_what_they_count(board: dict) -> None:
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert panel["datasource"] == {"type": "grafana-postgresql-datasource", "uid": "wardwatch"}


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_boards_stay_editable_and_are_the_same_each_time(board: dict) -> None:
    assert board["editable"] is True
    assert boards()[board["uid"]] == board


def test_links_within_the_boards_lead_to_boards_and_variables_that_exist() -> None:
    found = re.findall(r"/d/([\w-]+)\?var-(\w+)=", json.dumps(BOARDS))
    assert found
    for uid, variable in found:
        assert variable in {known["name"] for known in BOARDS[uid]["templating"]["list"]}


def test_export_writes_a_file_a_board(tmp_path: Path) -> None:
    written = export(tmp_path / "boards")
    assert [path.name for path in written] == [
        "wardwatch-fleet.json", "wardwatch-customers.json", "wardwatch-service.json",
        "wardwatch-pipeline.json",
    ]  # fmt: skip
    assert [json.loads(path.read_text("utf-8")) for path in written] == list(BOARDS.values())


def test_links_carry_the_range_of_a_scenario() -> None:
    assert links("http://grafana.example:3000/", 1_767_225_600_000, 1_772_064_000_000)[0] == (
        "Fleet",
        "http://grafana.example:3000/d/wardwatch-fleet?from=1767225600000&to=1772064000000",
    )
