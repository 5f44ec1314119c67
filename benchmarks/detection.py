"""How well the detectors find things in public data, against the bars and the best peers there.

The scripts of the benchmark live outside this repository, with their data; this runs each with the adapters of
`benchmarks.adapters`, reads the figures that it prints, and adds them to `build/bench.json`. `--only TEXT` takes the
runs whose name holds TEXT, `--verbose` shows what the scripts print.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.report import report, unavailable

ROOT = Path(__file__).resolve().parents[1]
DROP_SEEDS = (1, 2, 3, 4)
JITTER_SEEDS = (1, 2, 3)
PROFILES = ("standard", "reward_low_FP_rate", "reward_low_FN_rate")


@dataclass(frozen=True, slots=True)
class Run:
    """One call of a script: what it is called here, and its arguments, of which the name of the adapter is one."""

    name: str
    script: str
    arguments: tuple[str, ...]


RUNS = (
    *(Run(f"drops/{n}", "drops.py", ("benchmarks.adapters:usage_drop", "--seed", str(n))) for n in DROP_SEEDS),
    *(
        Run(f"azure_jitter/{n}", "failure.py", ("azure_jitter", "benchmarks.adapters:failure_risk", "--seed", str(n)))
        for n in JITTER_SEEDS
    ),
    *(
        Run(name, "failure.py", (name, "benchmarks.adapters:failure_risk"))
        for name in ("azure_events", "cmapss1", "cmapss3")
    ),
    Run("nab", "nab.py", ("benchmarks.adapters:anomaly", "--jobs", "1")),
    Run("change_points", "change_points.py", ("benchmarks.adapters:change_point",)),
)


def main() -> int:
    """Run the scripts, two at a time; 2: they are not there, 1: one of them failed."""
    parser = argparse.ArgumentParser("make bench-detection", description=__doc__.partition("\n\n")[0])
    parser.add_argument(
        "folder", type=Path, nargs="?", help="where the scripts are (DETECTION=folder)", default=Path("../shared/bench")
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="runs whose name holds TEXT")
    parser.add_argument("--verbose", action="store_true", help="show what the scripts print")
    options = parser.parse_args()
    runs = [run for run in RUNS if options.only in run.name]
    if not runs:
        print(f"no run is called {options.only!r}; there are {', '.join(run.name for run in RUNS)}", file=sys.stderr)
        return 2
    if absent := sorted({run.script for run in runs if not (options.folder / run.script).is_file()}):
        print(f"{options.folder} has no {', '.join(absent)}: say where it is with DETECTION=folder", file=sys.stderr)
        return 2
    printed: dict[str, str] = {}
    with ThreadPoolExecutor(min(2, len(os.sched_getaffinity(0)))) as pool:
        for run, text in pool.map(lambda run: (run, _output(run, options.folder)), runs):
            printed[run.name] = text
            last = text.rstrip().rpartition("\n")[2]
            print(text if options.verbose else f"{run.name:16} {last}", flush=True)
    failed = _report(printed)
    return 1 if failed else 0


def _output(run: Run, folder: Path) -> str:
    command = [sys.executable, str((folder / run.script).resolve()), *run.arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else f"FAILED\n{done.stderr}"


def _figures(pattern: str, printed: dict[str, str], prefix: str) -> list[float]:
    """Each figure that `pattern` finds in what the runs called `prefix…` printed."""
    texts = (text for name, text in printed.items() if name.startswith(prefix))
    return [float(found[1]) for text in texts if (found := re.search(pattern, text, re.MULTILINE))]


def _report(printed: dict[str, str]) -> list[str]:
    print()
    for key, values, at_least, at_most, note in _bars(printed):
        if values:
            report(key, values, at_least=at_least, at_most=at_most, note=note)
    failed = [name for name, text in printed.items() if text.startswith("FAILED")]
    for name in failed:
        unavailable(name, printed[name].rstrip().rpartition("\n")[2])
    return failed


Bar = tuple[str, Sequence[float], float | None, float | None, str]


def _bars(printed: dict[str, str]) -> Iterator[Bar]:
    drops = _figures(r"^DROPS tune F1 (\S+)", printed, "drops/")
    yield "usage_drop_f1_mean", _mean(drops), 0.87, None, "seeds 1-4; DropGlr 0.732 over eight seeds"
    yield "usage_drop_f1_worst", drops and [min(drops)], 0.84, None, "worst of seeds 1-4"
    false = _figures(r"series-years = (\S+) a year", printed, "drops/")
    yield "usage_drop_false_a_year", false and [max(false)], None, 0.5, "worst of seeds 1-4; DropGlr 0.55"
    for kind, days in (("stop", 3.0), ("step60", 8.0)):
        delays = _figures(rf"^{kind} .*median delay (\S+) days", printed, "drops/")
        yield f"usage_drop_delay_{kind}_days", delays and [median(delays)], None, days, "median of seeds 1-4"
    jitter = "seeds 1-3; River ARF 0.614 / 0.575"
    yield "azure_jitter_ap", _mean(_figures(r"AP (\S+) F1", printed, "azure_jitter/")), 0.93, None, jitter
    yield "azure_jitter_f1", _mean(_figures(r"AP \S+ F1 (\S+)", printed, "azure_jitter/")), 0.89, None, jitter
    turbofans = _figures(r"AP (\S+) F1", printed, "cmapss")
    yield "cmapss_ap_mean", _mean(turbofans), 0.985, None, "River logistic 0.976 / 0.973"
    yield "azure_events_ap", _figures(r"AP (\S+) F1", printed, "azure_events"), None, None, "solved by its clock"
    for profile in PROFILES:
        bar = 75.0 if profile == "standard" else None
        figure = _figures(rf"^{profile}\s+(\S+)", printed, "nab")
        yield f"nab_{profile.lower()}", figure, bar, None, "ARTime 78.2, contextOSE 74.1, HTM 71.2 (standard)"
    peers = "zero .675/.588, ADWIN .618/.611, BINSEG offline .678/.668"
    yield "change_points_f1", _figures(r"^TCPD F1 (\S+)", printed, "change_points"), 0.72, None, peers
    yield "change_points_cover", _figures(r"^TCPD F1 \S+ COVER (\S+)", printed, "change_points"), 0.69, None, peers


def _mean(values: Sequence[float]) -> list[float]:
    return [sum(values) / len(values)] if values else []


if __name__ == "__main__":
    sys.exit(main())
