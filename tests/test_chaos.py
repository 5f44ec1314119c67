"""Crash equivalence: whatever dies, whenever, the database afterwards is the same; and the harness would notice."""

import errno
import os
import shutil
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from chaos import recording
from chaos.__main__ import main
from chaos.bench import Run, bench
from chaos.compare import Table, differences
from chaos.disasters import KINDS, plan
from chaos.disk import can_mount, small_disk
from chaos.proxy import Proxy

from wardwatch.local.process import LOOPBACK

STOP_S = 3.0
SEEDS = {"embedded": (127, 475, 503), "kafka": (826, 1277)}
"""Chosen so that together they have every kind of disaster on the embedded log, and nearly every one on Kafka."""

Play = Callable[[str, int | None], Run]


@pytest.fixture(scope="module")
def played() -> Iterator[Play]:
    """Runs the recording on a log, undisturbed (None) or with a seed's disasters; each of them once."""
    folder = Path(tempfile.mkdtemp(prefix="wardwatch-chaos-"))
    folder.chmod(0o755)
    try:
        with bench(folder, STOP_S) as place:

            @cache
            def play(log: str, seed: int | None) -> Run:
                if seed is None:
                    return place.run(log, "undisturbed")
                return place.run(log, f"{seed}", plan(seed, log, recording.recording()))

            yield play
    finally:
        shutil.rmtree(folder)


def test_the_recording_fills_what_is_compared(played: Play) -> None:
    tables = played("embedded", None).tables
    filled = {name for name, table in tables.items() if table.rows.total() > 0}
    assert filled >= {
        "readings", "rollup_1m", "rollup_1h", "rollup_1d", "faults", "quarantine", "alerts", "alert_events",
        "work_orders", "work_order_events", "customer_health", "outbox", "silences", "audit_log", "model_metrics",
        "customers", "sites", "devices", "technicians", "parts", "calendars", "(state)",
    }  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS["embedded"])
def test_disasters_on_the_embedded_log_change_nothing(played: Play, seed: int) -> None:
    assert differences(played("embedded", None).tables, played("embedded", seed).tables) == []


@pytest.mark.kafka
@pytest.mark.parametrize("seed", SEEDS["kafka"])
def test_disasters_on_kafka_change_nothing(played: Play, seed: int) -> None:
    assert differences(played("kafka", None).tables, played("kafka", seed).tables) == []


@pytest.mark.kafka
def test_both_logs_leave_the_same(played: Play) -> None:
    assert differences(played("embedded", None).tables, played("kafka", None).tables) == []


def test_the_seeds_of_the_embedded_log_have_every_kind_of_disaster() -> None:
    scenario = recording.recording()
    done = {each.deed for seed in SEEDS["embedded"] for each in plan(seed, "embedded", scenario)}
    meanwhile = {each.meanwhile for seed in SEEDS["embedded"] for each in plan(seed, "embedded", scenario)}
    assert done | meanwhile - {None} == set(KINDS["embedded"])


def test_no_seeds_at_all_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["chaos", "--seeds", "0"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2


def test_a_seed_says_what_is_done_to_whom_and_when() -> None:
    scenario = recording.recording()
    assert plan(8, "embedded", scenario) == plan(8, "embedded", scenario)
    assert plan(8, "embedded", scenario) != plan(9, "embedded", scenario)


def table(*rows: tuple[str, ...]) -> dict[str, Table]:
    return {"alerts": Table(("alert_id", "state", "score"), ("alert_id",), Counter(rows))}


def test_a_row_that_changed_is_told_by_its_key_and_columns() -> None:
    before = table(("a1", "firing", "0.5"), ("a2", "firing", "0.7"))
    after = table(("a1", "firing", "0.5"), ("a2", "resolved", "0.7"))
    assert differences(before, before) == []
    assert differences(before, after) == [
        "alerts: 2 rows expected, 2 found; these differ:",
        "  alert_id=a2: state 'firing' became 'resolved'",
    ]


def test_a_row_that_is_there_twice_or_not_at_all_is_told() -> None:
    once, twice = table(("a1", "firing", "0.5")), table(("a1", "firing", "0.5"), ("a1", "firing", "0.5"))
    assert differences(once, twice)[1:] == ["  alert_id=a1: too many"]
    assert differences(twice, once)[1:] == ["  alert_id=a1: missing"]
    assert differences(once, {}) == ["alerts: not in both"]


def test_a_reset_breaks_every_connection_through_the_proxy_and_new_ones_pass() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        proxy = Proxy(server.getsockname()[1])
        with proxy.running():
            client = socket.create_connection((LOOPBACK, proxy.port), timeout=10)
            far, _ = server.accept()
            client.sendall(b"there")
            assert far.recv(5) == b"there"
            assert proxy.reset() == 1
            for broken in (client, far):
                with pytest.raises(ConnectionResetError):
                    broken.recv(1)
                broken.close()
            again = socket.create_connection((LOOPBACK, proxy.port), timeout=10)
            far, _ = server.accept()
            far.sendall(b"back")
            assert again.recv(4) == b"back"
            again.close()
            far.close()


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a file system")
def test_a_small_disk_is_full_until_it_is_freed(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        disk.fill()
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            (disk.folder / "more").write_bytes(bytes(10))
        disk.free()
        (disk.folder / "more").write_bytes(bytes(10))
