"""(g) The state at scale: start of a worker, its memory, and what a cut costs. Real TimescaleDB, real worker process.

The devices have ten metrics and five weeks of life behind them (`benchmarks.population`). A start is measured from the
moment at which the process is asked for until its records would flow: interpreter, imports, log, Faust, snapshot.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import psycopg

from benchmarks.population import CATALOGUE, DEVICES, MODEL, cut, template
from benchmarks.report import report
from schema.migrate import migrate
from schema.topics import TELEMETRY
from streams import snapshot
from streams.connecting import connect
from streams.partition import Partition
from wardwatch.local import local_parts
from wardwatch.settings import Settings

SIZES = {"10k": (10_000, 5.0), "100k": (100_000, 60.0)}
"""Devices, and seconds within which a worker is to be ready."""
STARTS = {"10k": 3, "100k": 1}
EVERY_S = 30.0
"""Seconds between two cuts."""


def rss_mb() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_mb() -> float:
    """The most memory that this process had since its program was loaded: `ru_maxrss` counts its parent's, too."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3


async def write(url: str, grown: Partition, devices: int) -> tuple[int, int]:
    """Store a cut of so many devices; return their number and the cut's bytes."""
    count = size = 0
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("DELETE FROM state_snapshots")
        await connection.execute("DELETE FROM partition_progress")
        await connection.execute(
            "INSERT INTO partition_progress (topic, partition, epoch, next_offset, snapshot_offset, written_by)"
            " VALUES (%s, 0, 0, 0, 0, '')",
            (TELEMETRY,),
        )
        for page in cut(grown, devices):
            async with connection.transaction():
                await snapshot.store(connection, 0, dict(page))
            count += sum(key != snapshot.SHARED_KEY for key, _ in page)
            size += sum(len(row) for _, row in page)
        await connection.execute("VACUUM ANALYZE state_snapshots")
    os.sync()  # a worker starts while the disk is at rest, not while it takes what was written for the benchmark
    return count, size


def child(mode: str, url: str, folder: Path) -> dict[str, float]:
    """Run this file's other half in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench_state", mode, url, str(folder), repr(time.time())]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def start(url: str, folder: Path, asked_s: float) -> None:
    """Child: the worker itself, until it is ready."""
    from wardwatch.roles import worker_role

    imported_s = time.time() - asked_s
    settings = Settings(data=folder / f"worker-{os.getpid()}", database_url=url, catalogue=folder, partitions=1)

    def ready() -> None:
        figures = {
            "ready_s": time.time() - asked_s,
            "imported_s": imported_s,
            "cpu_s": time.process_time(),
            "memory_mb": rss_mb(),
            "peak_mb": peak_mb(),
        }
        print(json.dumps(figures), flush=True)
        os._exit(0)

    worker_role(settings, ready)


async def cuts(url: str) -> dict[str, float]:
    """Child: a cut in which every device has changed, as a worker makes it; then one in which none has."""
    found: dict[str, float] = {}
    async with await connect(url) as connection:
        partition = await snapshot.fetch(connection, 0, CATALOGUE)
        for name, changed in (("all", set(partition.devices)), ("none", set[str]())):
            partition.changed = changed
            begun, cpu_s = time.monotonic(), time.process_time()
            rows = snapshot.dump(partition)
            found |= {f"{name}_dump_s": time.process_time() - cpu_s, f"{name}_bytes": sum(map(len, rows.values()))}
            async with connection.transaction():
                await snapshot.store(connection, 0, rows)
            found[f"{name}_s"] = time.monotonic() - begun
    return found


@contextmanager
def database() -> Iterator[tuple[str, Path]]:
    """A TimescaleDB with our tables, and a folder with the catalogue file."""
    with tempfile.TemporaryDirectory(prefix="wardwatch-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "analyser.toml").write_text(MODEL, "utf-8")
        with local_parts(folder / "parts") as parts:
            with psycopg.connect(parts.database_url, autocommit=True) as connection:
                connection.execute("CREATE DATABASE bench")
            url = urlsplit(parts.database_url)._replace(path="/bench").geturl()
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
            migrate(url, CATALOGUE)
            yield url, folder


def main(sizes: list[str]) -> None:
    """Measure and report."""
    grown = template()
    with database() as (url, folder):
        asyncio.run(write(url, grown, DEVICES))
        few = [child("start", url, folder) for _ in range(3)]
        note = "imports, compiled kernels, Faust, embedded log; of a worker that knows next to no devices"
        report("start_s_without_state", [each["ready_s"] for each in few], "s", note=note)
        bare_mb = median(each["memory_mb"] for each in few)
        for name in sizes:
            devices, bar_s = SIZES[name]
            devices, size = asyncio.run(write(url, grown, devices))
            starts = [child("start", url, folder) for _ in range(STARTS[name])]
            cpu_s = median(each["cpu_s"] for each in starts)
            note = f"process start to ready, {devices:,} devices in one partition: CPU {cpu_s:.1f} s"
            report(f"start_s_{name}", [each["ready_s"] for each in starts], "s", at_most=bar_s, note=note)
            if name == "10k":
                _memory(starts, bare_mb, devices)
                _cuts(child("cuts", url, folder), size, devices)


def _memory(starts: list[dict[str, float]], bare_mb: float, devices: int) -> None:
    added = 10_000 / (devices - DEVICES)
    memory = [(each["memory_mb"] - bare_mb) * added for each in starts]
    note = f"resident memory of a worker with {devices:,} devices, once loaded, less that of one with {DEVICES}"
    report("memory_mb_per_10k_devices", memory, "MB", at_most=300, note=note)
    peak = [(each["peak_mb"] - bare_mb) * added for each in starts]
    report("memory_peak_mb_per_10k_devices", peak, "MB", note="the most that it was while loading")


def _cuts(found: dict[str, float], size: int, devices: int) -> None:
    scale = 10_000 / devices
    report("snapshot_bytes_per_device", size / devices, "B", note="of a cut in which every device has changed")
    report("snapshot_s_per_10k_devices", found["all_s"] * scale, "s", note="pickled and stored, every device changed")
    report("snapshot_dump_s_per_10k_devices", found["all_dump_s"] * scale, "s", note="of that the CPU for pickling")
    report("snapshot_s_unchanged", found["none_s"], "s", note=f"what {devices:,} devices share, and no device")
    note = f"of {EVERY_S:.0f} s between two cuts in which every device has changed"
    report("snapshot_share_of_time_10k_devices", found["all_s"] * scale / EVERY_S, note=note)


if __name__ == "__main__":
    if sys.argv[1:2] == ["start"]:
        start(sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]))
    elif sys.argv[1:2] == ["cuts"]:
        print(json.dumps(asyncio.run(cuts(sys.argv[2]))))
    else:
        main(sys.argv[1:] or list(SIZES))
