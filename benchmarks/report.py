"""Figures of benchmarks, their bars, and the machine they were taken on: merged into `build/bench.json`, and a table.

Each key of the issue stands at the top of the file as a plain number (null where it could not be measured); `details`
has unit, bar, repeats and notes for each, `machine` what it ran on. `python benchmarks/report.py` prints the table.
"""

import fcntl
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

FILE = Path(os.environ.get("WARDWATCH_BENCH_FILE", Path(__file__).resolve().parents[1] / "build" / "bench.json"))


def report(
    key: str,
    values: float | Sequence[float],
    unit: str = "",
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    note: str = "",
) -> float:
    """Note a figure: the median of `values`, which are repeats within one run; print its line and return it.

    At most one of `at_least` and `at_most` is the bar. `note` says what was measured and how.
    """
    repeats = [float(values)] if isinstance(values, int | float) else [float(value) for value in values]
    figure = median(repeats)
    bar = {"at_least": at_least} if at_least is not None else {"at_most": at_most} if at_most is not None else {}
    reached = (at_least is None or figure >= at_least) and (at_most is None or figure <= at_most)
    details = {"unit": unit, **bar, **({"reached": reached} if bar else {}), "repeats": repeats, "note": note}
    _merge(key, figure, details)
    print(_line(key, figure, details), flush=True)
    return figure


def unavailable(key: str, reason: str) -> None:
    """Note that a figure could not be measured here, and why: it is never guessed."""
    _merge(key, None, {"unavailable": reason})
    print(_line(key, None, {"unavailable": reason}), flush=True)


def rows(key: str, header: Sequence[str], lines: Sequence[Sequence[float | str]], note: str = "") -> None:
    """Note a table of its own, as of how a figure grows, and print it."""
    _merge(key, [dict(zip(header, line, strict=True)) for line in lines], {"note": note})
    widths = [max(len(name), *(len(_shown(line[i])) for line in lines)) for i, name in enumerate(header)]
    print(f"{key}: {note}" if note else key)
    for line in (header, *lines):
        print("  " + "  ".join(_shown(cell).rjust(width) for cell, width in zip(line, widths, strict=True)), flush=True)


def _merge(key: str, value: Any, details: dict[str, Any]) -> None:
    with _locked() as content:
        content[key] = value
        measured_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        content.setdefault("details", {})[key] = details | {"measured_at": measured_at}
        content["machine"] = machine()


@contextmanager
def _locked() -> Iterator[dict[str, Any]]:
    """Give the file's content to change, and write it back whole."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with FILE.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        content = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
        yield content
        fresh = FILE.with_suffix(".new")
        fresh.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")
        fresh.rename(FILE)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    memory_kb = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": cpu,
        "memory_gb": round(memory_kb / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1m": round(os.getloadavg()[0], 2),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text("utf-8").splitlines()


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"


def _line(key: str, value: float | None, details: dict[str, Any]) -> str:
    if value is None:
        return f"{key:42} {'not measured':>14}  {details['unavailable']}"
    bar = "".join(f"{words} {_shown(details[name])}" for name, words in _BARS.items() if name in details)
    verdict = ("reached" if details["reached"] else "NOT REACHED") if bar else ""
    repeats = details["repeats"]
    spread = f"{_shown(min(repeats))} to {_shown(max(repeats))}" if len(repeats) > 1 else ""
    return f"{key:42} {_shown(value):>14} {details['unit']:12} {bar:18} {verdict:12} {spread}".rstrip()


_BARS = {"at_least": "at least", "at_most": "at most"}


def main() -> int:
    """Print everything that was reported so far; 1 if a bar was not reached or a figure could not be measured."""
    if not FILE.exists():
        print(f"{FILE} is not there; run the benchmarks first: make bench", file=sys.stderr)
        return 2
    content = json.loads(FILE.read_text("utf-8"))
    facts = content["machine"]
    print(f"{facts['cores']} cores of {facts['cpu']}, {facts['memory_gb']} GB, Python {facts['python']}")
    missed = []
    for key, details in sorted(content["details"].items()):
        if isinstance(content[key], list):
            continue
        print(_line(key, content[key], details))
        if content[key] is None or not details.get("reached", True):
            missed.append(key)
    print(f"not reached or not measured: {', '.join(missed)}" if missed else "every bar is reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
