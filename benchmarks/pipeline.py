"""The whole pipeline under load: everything on this machine, a publisher in C, and the CPU that each process took."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from schema.registry import Customer, Device, Registry, Site
from wardwatch.actions import import_registry, wait_for_time
from wardwatch.settings import Settings
from wardwatch.stack import Stack, running_stack

BUILD = Path(__file__).resolve().parents[1] / "build"
START_MS = 1_760_000_400_000
"""Begin of simulated time, a full hour."""
DEVICES_A_SITE = 50
MODEL = "bench"
CATALOGUE = """
model = "bench"
name = "Bench device"
name_zh = "测试设备"
skill = "bench"
service_interval_days = 180
message_interval_s = 100

[metrics.m0]
kind = "counter"
unit = "{use}"
min = 0
max = 10000000
usage = true
""" + "".join(
    f"""
[metrics.m{number}]
kind = "gauge"
unit = "Cel"
min = -20
max = 250
resolution = 0.01
subsystem = "{"tube" if number < 6 else "gantry"}"
"""
    for number in range(1, 10)
) + """
[faults.B-1]
severity = "critical"
subsystem = "tube"
text = "Tube failed"
stops_device = true

[faults.B-2]
severity = "critical"
subsystem = "gantry"
text = "Gantry failed"
stops_device = true

[parts.tube]
name = "Tube"
subsystem = "tube"
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What the publisher sends; by default 10 metrics, a reading each 10 s, 100 readings a message."""

    devices: int = 1000
    metrics: int = 10
    points: int = 10
    step_ms: int = 10_000
    start_ms: int = START_MS
    clock_rounds: int = 3
    rate: float = 0.0
    """Readings a second; 0 is as fast as it goes."""
    first_device: int = 0

    @property
    def round_readings(self) -> int:
        """Readings of one message of each device."""
        return self.devices * self.metrics * self.points

    def clock_ms(self, rounds: int) -> int:
        """Return the simulated time after so many rounds."""
        return self.start_ms + rounds * self.points * self.step_ms


def publisher() -> Path:
    """Compile the publisher if it is not there yet; return the program."""
    source, program = Path(__file__).with_name("publisher.c"), BUILD / "publisher"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(exist_ok=True)
        fresh = program.with_suffix(f".{os.getpid()}")
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", fresh, source], check=True)
        fresh.rename(program)
    return program


def start_publisher(mqtt_url: str, load: Load, rounds: int, first_round: int) -> subprocess.Popen[str]:
    """Publish so many messages of each device, numbered from `first_round`."""
    url = urlsplit(mqtt_url)
    numbers = (load.devices, rounds, first_round, load.start_ms, load.step_ms, load.points, load.metrics)
    arguments = [url.hostname, url.port, *numbers, load.rate, load.clock_rounds, load.first_device]
    return subprocess.Popen([publisher(), *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def publish(mqtt_url: str, load: Load, rounds: int, first_round: int = 0) -> dict[str, Any]:
    """Publish to the end; return what the publisher says of itself."""
    process = start_publisher(mqtt_url, load, rounds, first_round)
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the publisher ended with {process.returncode}")
    return json.loads(said)


def registry(devices: int) -> Registry:
    """A customer and a site for every `DEVICES_A_SITE` devices."""
    sites = range((devices + DEVICES_A_SITE - 1) // DEVICES_A_SITE)
    return Registry(
        customers=tuple(Customer(customer_id=f"customer-{n}", name=f"Customer {n}") for n in sites),
        sites=tuple(Site(site_id=f"site-{n}", customer_id=f"customer-{n}", name=f"Site {n}") for n in sites),
        devices=tuple(
            Device(
                device_id=f"bench-{n:06d}",
                model=MODEL,
                site_id=f"site-{n // DEVICES_A_SITE}",
                customer_id=f"customer-{n // DEVICES_A_SITE}",
                installed_ms=START_MS - 86_400_000,
            )
            for n in range(devices)
        ),
    )


def say(what: str) -> None:
    """Tell how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)


@contextmanager
def stack(devices: int, **settings: Any) -> Iterator[Stack]:
    """Everything on this machine in a fresh folder, with a registry of so many devices, for the time of the context.

    The devices are registered before time begins, or what is older than their registration would be late.
    """
    folder = Path(tempfile.mkdtemp(prefix="wardwatch-bench-"))
    folder.chmod(0o755)
    try:
        catalogue = folder / "catalogue"
        catalogue.mkdir()
        (catalogue / "bench.toml").write_text(CATALOGUE, "utf-8")
        given = {"data": folder / "data", "catalogue": catalogue} | settings
        timeless = Settings(**given | {"clock": "simulated"})
        with ExitStack() as context:
            running = context.enter_context(running_stack(timeless))
            import_registry(
                running.log,
                running.database_url,
                registry(devices),
                running.settings.partitions,
                now_ms=START_MS,
                wait_s=600,
            )
            if settings.get("clock") == "wall":
                context.pop_all().close()
                running = context.enter_context(running_stack(Settings(**given)))
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def drive(running: Stack, load: Load, rounds: int, first_round: int = 0) -> "Taken":
    """Publish in simulated time and wait until the database has all of it; return what it took."""
    before, begun_s = cpu_seconds(), time.monotonic()
    generator = publish(running.settings.mqtt_url or "", load, rounds, first_round)
    last_ms = load.clock_ms(first_round + rounds)
    wait_for_time(running.database_url, last_ms, running.settings.partitions, 600.0)
    seconds = time.monotonic() - begun_s
    after = cpu_seconds()
    cpu = {name: after[name] - before[name] for name in after}
    return Taken(generator["readings"], seconds, cpu, generator["cpu_s"])


@dataclass(frozen=True, slots=True)
class Taken:
    """What a run took; `cpu_s` by kind of process, without the publisher's."""

    readings: int
    seconds: float
    cpu_s: dict[str, float]
    generator_cpu_s: float

    @property
    def per_second(self) -> float:
        """Readings a second, from the first one published to the last one committed."""
        return self.readings / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU microseconds a reading, of every process but the publisher."""
        return sum(self.cpu_s.values()) / self.readings * 1e6

    def shares(self) -> str:
        """CPU microseconds a reading by kind of process."""
        parts = (f"{name} {seconds / self.readings * 1e6:.2f}" for name, seconds in sorted(self.cpu_s.items()))
        return ", ".join(parts) + f" (publisher {self.generator_cpu_s / self.readings * 1e6:.2f})"


def cpu_seconds() -> Counter[str]:
    """CPU seconds of this process's descendants by kind, those included that have ended under a live parent."""
    tick = os.sysconf("SC_CLK_TCK")
    taken: Counter[str] = Counter()
    for command, fields in _descendants():
        taken[_kind(command)] += sum(map(int, fields[11:15])) / tick
    return taken


def memory_mb() -> Counter[str]:
    """Resident memory of this process's descendants by kind, in MB."""
    page = os.sysconf("SC_PAGE_SIZE")
    held: Counter[str] = Counter()
    for command, fields in _descendants():
        held[_kind(command)] += int(fields[21]) * page / 1e6
    return held


def _descendants() -> Iterator[tuple[str, list[str]]]:
    """Command line and numbers of `/proc/PID/stat`, from the state on, of all processes below this one."""
    stats: dict[int, tuple[int, str, list[str]]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text("utf-8").rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        stats[int(entry.name)] = int(fields[1]), command, fields
    ours = {os.getpid()}
    while more := {pid for pid, (parent, _, _) in stats.items() if parent in ours} - ours:
        ours |= more
    for pid in ours - {os.getpid()}:
        yield stats[pid][1:]


_KINDS = {
    "kafka": "kafka",
    "postgres": "database",
    "mosquitto": "broker",
    "cli ingest": "ingest",
    "cli worker": "worker",
}


def _kind(command: str) -> str:
    return next((kind for word, kind in _KINDS.items() if word in command), "other")
