"""The command: seed after seed until one differs; see `--help`."""

import argparse
import logging
import shutil
import sys
import tempfile
from pathlib import Path

import structlog

from chaos import recording
from chaos.bench import Run, bench
from chaos.compare import differences
from chaos.disasters import KINDS, plan
from chaos.disk import can_mount
from wardwatch.local import LocalPartsError


def main() -> int:
    """Run the seeds; 0: all are the same as undisturbed, 1: one is not."""
    parser = argparse.ArgumentParser(
        "make chaos",
        description="Runs two virtual days of 20 devices once undisturbed and then under seeded disasters, and compares"
        " all that is in the database afterwards, row by row. Stops at the first difference.",
    )
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds (SEEDS=100)")
    parser.add_argument("--first", type=int, default=1000, help="the first of them (FIRST=1000)")
    parser.add_argument("--log", choices=sorted(KINDS), default="embedded", help="the log (LOG=kafka)")
    parser.add_argument("--stop-s", type=float, default=30.0, help="seconds that a stopped process stands (STOP_S=30)")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error("--seeds (SEEDS): at least 1, or nothing is tried")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.disable(logging.ERROR)  # what is away is away on purpose
    folder = Path(tempfile.mkdtemp(prefix="wardwatch-chaos-"))
    folder.chmod(0o755)
    try:
        same = _run(folder, options.log, options.first, options.seeds, options.stop_s)
    except LocalPartsError as error:
        print(error, file=sys.stderr)
        return 1
    except BaseException:
        print(f"what the run has left is in {folder}", file=sys.stderr)
        raise
    if same:
        shutil.rmtree(folder)
        return 0
    print(f"both databases and the logs are left in {folder}; start the server: wardwatch up --data {folder}/server")
    return 1


def _run(folder: Path, log: str, first: int, seeds: int, stop_s: float) -> bool:
    scenario = recording.recording()
    if log == "embedded" and not can_mount():
        print("no right to mount a small file system: a full disk is a limit to the size of the bridge's files")
    with bench(folder, stop_s, on_progress=lambda line: print(line, file=sys.stderr)) as place:
        undisturbed = place.run(log, "undisturbed")
        print(f"undisturbed: {undisturbed.wall_s:.0f} s, {_rows(undisturbed)} rows", flush=True)
        for seed in range(first, first + seeds):
            disasters = plan(seed, log, scenario)
            done = "; ".join(each.told(scenario.start_ms) for each in disasters)
            print(f"seed {seed}: {done}", end="", flush=True)
            run = place.run(log, f"{seed}", disasters)
            restarts = ", ".join(f"{name} {count}" for name, count in sorted(run.restarts.items())) or "none"
            print(
                f" | {run.wall_s:.0f} s, started again: {restarts}, recomputed {run.recomputed} records,"
                f" sent again {run.sent_again} messages",
                end="",
                flush=True,
            )
            if told := differences(undisturbed.tables, run.tables):
                print(" | DIFFERENT")
                print("\n".join(told))
                return False
            print(" | the same", flush=True)
            place.forget(log, f"{seed}")
    return True


def _rows(run: Run) -> int:
    return sum(table.rows.total() for table in run.tables.values())


if __name__ == "__main__":
    sys.exit(main())
