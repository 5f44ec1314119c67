"""The benchmark of windows compares what it measures: with the right windows, and with peers that are really there."""

import json
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from benchmarks import bench_peers, report
from benchmarks.rounds import DEVICE_NAMES, METRIC_NAMES, METRICS, MINUTE_MS, RECORDS_A_ROUND, Shape, rounds, windows
from benchmarks.windows_race import Course, DiffersError, Runner, run
from schema.record import TelemetryRecord, decode
from streams.logs.embedded import EmbeddedLog

SHAPES: dict[Shape, int] = {"batched": 3, "single": 20}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_windows_expected_are_those_of_the_records(shape: Shape) -> None:
    values = defaultdict(list)
    newest_ms = 0
    for records in rounds(shape, SHAPES[shape]):
        assert len(records) == RECORDS_A_ROUND[shape]
        for record in map(decode, records):
            assert isinstance(record, TelemetryRecord)
            for message in record:
                for reading in message.readings:
                    key = DEVICE_NAMES.index(message.device_id) * METRICS + METRIC_NAMES.index(reading.metric)
                    values[key, reading.ts_ms // MINUTE_MS * MINUTE_MS].append(reading.n)
                    newest_ms = max(newest_ms, reading.ts_ms)
    found = [(*window, len(n), sum(n), min(n), max(n)) for window, n in sorted(values.items())]
    assert windows(shape, SHAPES[shape], with_open=True).tolist() == found
    closed = [window for window in found if window[1] + MINUTE_MS <= newest_ms]
    assert windows(shape, SHAPES[shape], with_open=False).tolist() == closed


@pytest.mark.parametrize("shape", SHAPES)
def test_the_worker_finds_the_windows_of_plain_numpy(shape: Shape, tmp_path: Path) -> None:
    with EmbeddedLog(tmp_path / "log.sqlite") as log:
        log.create_topic("readings", 1)
        for records in rounds(shape, SHAPES[shape]):
            log.append([("readings", 0, record) for record in records])
        course = Course(log.broker_url, "readings", shape, SHAPES[shape])
    assert run(Runner("worker", "windows_ours.py", Path(sys.executable)), course, seconds=60).per_s > 0


def test_a_program_that_loses_a_window_is_found_out(tmp_path: Path) -> None:
    program = tmp_path / "lossy.py"
    program.write_text(
        "from benchmarks.rounds import windows\n"
        "from benchmarks.windows_run import answer, task\n"
        "asked = task()\n"
        "while asked.meter.more(): pass\n"
        "asked.meter.end()\n"
        "answer(asked, windows('batched', 2, with_open=False)[1:])\n"
    )
    lossy = Runner("lossy", str(program), Path(sys.executable))
    with pytest.raises(DiffersError, match="lossy: its windows are not those of the 20,000 readings"):
        run(lossy, Course("", "readings", "batched", 2), seconds=60)


def test_a_peer_that_is_not_installed_is_reported_and_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "FILE", tmp_path / "bench.json")
    monkeypatch.setattr(sys, "argv", ["bench_peers.py", "--python", str(tmp_path / "bench-venv" / "bin" / "python")])
    bench_peers.main()
    figures = json.loads(report.FILE.read_text("utf-8"))
    assert figures["vs_quixstreams"] is None
    assert figures["vs_bytewax"] is None
    assert "bytewax is not installed" in capsys.readouterr().out
