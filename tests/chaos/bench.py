"""Where runs take place: one database server for all of them; a broker, a stack and a database for each."""

import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from chaos import recording
from chaos.compare import Table, contents
from chaos.disasters import Disaster, Striker, Victims
from chaos.disk import Disk, FileLimit, can_mount, small_disk
from chaos.proxy import Proxy
from simulator.publisher import play
from simulator.truth import read_truth, write_truth
from wardwatch.actions import import_registry, wait_for_time
from wardwatch.local import LocalParts, local_parts, timescale
from wardwatch.local.keeper import kept
from wardwatch.local.process import LOOPBACK
from wardwatch.settings import load_settings
from wardwatch.stack import Stack, running_stack
from wardwatch.workplace import COMMIT_WITHIN_S, StackWorkplace

UNUSED = "mqtt://unused"


@dataclass(frozen=True)
class Run:
    """What came of a run."""

    tables: dict[str, Table]
    restarts: dict[str, int]
    """By service, how often it was started again; those that were not are left out."""
    recomputed: int
    """Records that workers handled again after a start, before they wrote anything."""
    sent_again: int
    wall_s: float


@dataclass(frozen=True)
class Bench:
    """Runs the recording; everything is below `folder`."""

    folder: Path
    server: LocalParts
    stop_s: float

    def run(self, log: str, name: str, disasters: Sequence[Disaster] = ()) -> Run:
        """Run the recording on a log (`embedded` or `kafka`) under disasters; return what it has left."""
        begun_s = time.monotonic()
        folder = self._folder(log, name)
        database = _database(log, name)
        with ExitStack() as exits:
            direct_url = urlsplit(self.server.database_url)._replace(path=f"/{database}").geturl()
            timescale.create_database(self.server.database_url, database)
            broker = exits.enter_context(local_parts(folder / "broker", database_url=direct_url))
            keepers = exits.enter_context(kept([*broker.services, *self.server.services]))
            proxies = {"MQTT broker": Proxy(_port(broker.mqtt_url)), "database": Proxy(_port(direct_url))}
            for proxy in proxies.values():
                exits.enter_context(proxy.running())
            settings = load_settings(
                data=folder / "stack",
                mqtt_url=f"mqtt://{LOOPBACK}:{proxies['MQTT broker'].port}",
                database_url=_through(direct_url, proxies["database"].port),
                kafka="local" if log == "kafka" else None,
                clock="simulated",
                max_readings=recording.MAX_READINGS,
                confirm_interval_ms=recording.CONFIRM_EVERY_MS,
                snapshot_every_s=1.0,
                deliver={"": [(folder / "delivered.jsonl").resolve().as_uri()]},
            )
            disk = _small_disk_for(settings.log_file, exits) if log == "embedded" else None
            with running_stack(settings) as stack:
                keepers |= stack.keepers
                services = {name: keeper.service for name, keeper in keepers.items()}
                victims = Victims(
                    services=services,
                    proxies=proxies,
                    disk=disk or FileLimit(lambda: services["ingest"].pid),
                    database_url=direct_url,
                    cluster=services["database"].folder,
                )
                sent_again = _play(stack, disasters, victims, self.stop_s, folder / "truth.jsonl")
                restarts = {name: keeper.restarts for name, keeper in keepers.items() if keeper.restarts}
            return Run(
                tables=contents(direct_url, recording.recording().catalogue),
                restarts=restarts,
                recomputed=_recomputed(folder / "stack" / "log" / "worker.log"),
                sent_again=sent_again,
                wall_s=time.monotonic() - begun_s,
            )

    def forget(self, log: str, name: str) -> None:
        """Remove what a run has left."""
        with psycopg.connect(self.server.database_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {_database(log, name)} WITH (FORCE)".encode())
        shutil.rmtree(self._folder(log, name))

    def _folder(self, log: str, name: str) -> Path:
        return self.folder / f"{log}-{name}"


def _database(log: str, name: str) -> str:
    return f"chaos_{log}_{name}"


@contextmanager
def bench(folder: Path, stop_s: float, on_progress: Callable[[str], None] = lambda _: None) -> Iterator[Bench]:
    """A bench below `folder` for the time of the context."""
    with local_parts(folder / "server", mqtt_url=UNUSED, on_progress=on_progress) as server:
        yield Bench(folder, server, stop_s)


def _small_disk_for(log_file: Path, exits: ExitStack) -> Disk | None:
    if not can_mount():
        return None
    disk = exits.enter_context(small_disk(log_file.parent.with_name("disk")))
    log_file.parent.mkdir(parents=True)
    log_file.symlink_to(disk.folder / log_file.name)
    exits.callback(_keep, log_file)
    return disk


def _keep(log_file: Path) -> None:
    """Have the log where its link was: the disk goes with the run, and a difference is looked for in the log."""
    written = log_file.resolve()
    log_file.unlink()
    if written.exists():
        shutil.copyfile(written, log_file)


def _play(stack: Stack, disasters: Sequence[Disaster], victims: Victims, stop_s: float, truth_file: Path) -> int:
    """Publish the recording under disasters, until all of it is committed; return how many messages went twice."""
    striker = Striker(disasters, victims, stop_s)
    scenario = recording.recording(striker.on_time)
    partitions = stack.settings.partitions
    import_registry(stack.log, stack.database_url, scenario.registry, partitions, now_ms=scenario.start_ms)
    write_truth(truth_file, scenario.facts())
    staff = recording.Staff(StackWorkplace(stack), scenario, read_truth(truth_file))
    assert stack.settings.mqtt_url is not None
    totals = play(scenario, stack.settings.mqtt_url, staff=staff)
    striker.finish()
    wait_for_time(stack.database_url, scenario.end_ms, partitions, COMMIT_WITHIN_S)
    ingest = stack.keepers["ingest"].service
    ingest.start()  # the last disaster may have ended it a moment ago
    ingest.stop(10.0)  # it says that it leaves, and that shall be read as well
    _wait_until_read(stack)
    return totals.sent_again


def _wait_until_read(stack: Stack) -> None:
    """Return when every record of every topic is committed."""
    deadline = time.monotonic() + COMMIT_WITHIN_S
    while time.monotonic() < deadline:
        try:
            with psycopg.connect(stack.database_url, autocommit=True) as connection:
                committed = {
                    (topic, partition): offset
                    for topic, partition, offset in connection.execute(
                        "SELECT topic, partition, next_offset FROM partition_progress"
                    )
                }
            if all(committed.get(place, 0) >= end for place, end in stack.log.end_offsets().items()):
                return
        except psycopg.OperationalError:
            pass
        time.sleep(0.05)
    raise TimeoutError(f"not all that is in the log was committed within {COMMIT_WITHIN_S:.0f} s: {committed}")


def _recomputed(worker_log: Path) -> int:
    return sum(map(int, re.findall(r"recompute\D{1,3}(\d+)", worker_log.read_text("utf-8"))))


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def _through(url: str, port: int) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{port}").geturl()
