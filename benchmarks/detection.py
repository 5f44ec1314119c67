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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

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


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure: in what the runs print whose name begins with `runs`, what of it counts, and what it should be."""

    key: str
    runs: str
    pattern: str
    of: Callable[[Sequence[float]], float]
    at_least: float | None
    at_most: float | None
    note: str


_NUMBER = r"(-?\d+(?:\.\d+)?)"
_JITTER = "seeds 1-3; River ARF 0.614 / 0.575"
_PEERS = "zero .675/.588, ADWIN .618/.611, BINSEG offline .678/.668"
_DROPS, _AP, _TCPD = rf"^DROPS tune F1 {_NUMBER}", rf"AP {_NUMBER} F1", rf"^TCPD F1 {_NUMBER} COVER"
BARS = (
    Bar("usage_drop_f1_mean", "drops/", _DROPS, fmean, 0.87, None, "seeds 1-4; DropGlr 0.732 over eight seeds"),
    Bar("usage_drop_f1_worst", "drops/", _DROPS, min, 0.84, None, "worst of seeds 1-4"),
    Bar(
        "usage_drop_false_a_year", "drops/", rf"series-years = {_NUMBER} a year", max, None, 0.5,
        "worst of seeds 1-4; DropGlr 0.55",
    ),
    *(
        Bar(
            f"usage_drop_delay_{kind}_days", "drops/", rf"^{kind} .*median delay {_NUMBER} days", median, None, days,
            "median of seeds 1-4",
        )
        for kind, days in (("stop", 3.0), ("step60", 8.0))
    ),
    Bar("azure_jitter_ap", "azure_jitter/", _AP, fmean, 0.93, None, _JITTER),
    Bar("azure_jitter_f1", "azure_jitter/", rf"AP \S+ F1 {_NUMBER}", fmean, 0.89, None, _JITTER),
    Bar("cmapss_ap_mean", "cmapss", _AP, fmean, 0.985, None, "River logistic 0.976 / 0.973"),
    Bar("azure_events_ap", "azure_events", _AP, fmean, None, None, "solved by its clock"),
    *(
        Bar(
            f"nab_{profile.lower()}", "nab", rf"^{profile}\s+{_NUMBER}", fmean,
            75.0 if profile == "standard" else None, None, "ARTime 78.2, contextOSE 74.1, HTM 71.2 (standard)",
        )
        for profile in PROFILES
    ),
    Bar("change_points_f1", "change_points", _TCPD, fmean, 0.72, None, _PEERS),
    Bar("change_points_cover", "change_points", rf"^TCPD F1 \S+ COVER {_NUMBER}", fmean, 0.69, None, _PEERS),
)  # fmt: skip


def main() -> int:
    """Run the scripts, two at a time; 2: they are not there, 1: one of them failed, or did not print a figure."""
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


def _report(printed: dict[str, str]) -> list[str]:
    """Report what the runs have printed; the runs that failed, and the figures that one of their runs did not print."""
    print()
    failed = [name for name, text in printed.items() if text.startswith("FAILED")]
    for name in failed:
        unavailable(name, printed[name].rstrip().rpartition("\n")[2])
    for bar in BARS:
        texts = {name: text for name, text in printed.items() if name.startswith(bar.runs)}
        found = {name: re.search(bar.pattern, text, re.MULTILINE) for name, text in texts.items()}
        values = [float(match[1]) for match in found.values() if match is not None]
        if len(values) < len(texts):
            silent = ", ".join(name for name, match in found.items() if match is None)
            unavailable(bar.key, f"not in what {silent} printed")
            failed.append(bar.key)
        elif values:
            report(bar.key, bar.of(values), at_least=bar.at_least, at_most=bar.at_most, note=bar.note)
    return failed


if __name__ == "__main__":
    sys.exit(main())
