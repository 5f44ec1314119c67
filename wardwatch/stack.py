"""Everything on this machine: local parts, migrated database, log, bridge and worker, started and stopped in order."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from schema.migrate import migrate
from streams.logs import Log
from streams.stopping import LAST_CUTS_WITHIN_S
from wardwatch.access import catalogue_of, open_log
from wardwatch.local import LocalParts, local_parts
from wardwatch.local.account import Account
from wardwatch.local.keeper import Keeper, kept
from wardwatch.local.process import Service, free_port
from wardwatch.roles import metrics_file, ready_file
from wardwatch.settings import Settings, as_environment, note_addresses

READY_WITHIN_S = 300.0
"""A worker compiles at its first start: half a minute of CPU (see `streams.warm`)."""
STOP_WITHIN_S = {"ingest": 3.0, "worker": LAST_CUTS_WITHIN_S + 10.0}
ROLES = ("worker", "ingest")


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs and is started again when it ends; `settings` have the addresses of the parts."""

    settings: Settings
    parts: LocalParts
    log: Log
    keepers: Mapping[str, Keeper]
    """By the name of the role or part."""

    @property
    def database_url(self) -> str:
        """Address of the database."""
        return self.parts.database_url

    def kill(self, role: str) -> None:
        """Kill a role (`worker` or `ingest`) with SIGKILL; it is started again."""
        self.keepers[role].service.kill()

    @property
    def metrics(self) -> dict[str, str]:
        """Where Prometheus finds each role."""
        found: dict[str, str] = json.loads(metrics_file(self.settings.data).read_text("utf-8"))
        return found

    def restarts(self, role: str) -> int:
        """How often a role was started again."""
        return self.keepers[role].restarts


def _role(name: str, settings: Settings, metrics_port: int, spawner: ThreadPoolExecutor) -> Service:
    """A role as a child process that is ready when it says so in a file."""
    ready = ready_file(settings.data, name)
    ready.parent.mkdir(parents=True, exist_ok=True)
    return Service(
        name=name,
        command=[sys.executable, "-m", "wardwatch.cli", name],
        folder=Path.cwd(),
        log=settings.data / "log" / f"{name}.log",
        account=Account(),
        stop_signal=signal.SIGTERM,
        abrupt_signal=signal.SIGKILL,
        ready=ready.exists,
        spawner=spawner,
        environment=os.environ | as_environment(settings.model_copy(update={"metrics_port": metrics_port})),
        prepare=lambda: ready.unlink(missing_ok=True),
    )


def _metrics_ports(settings: Settings) -> dict[str, int]:
    """A port a role: free ones, or counted on from the one that is set; none where that is 0."""
    if settings.metrics_port == 0:
        return {}
    taken: set[int] = set()
    for number in range(len(ROLES)):
        port = settings.metrics_port + number if settings.metrics_port else free_port()
        while port in taken:
            port = free_port()
        taken.add(port)
    return dict(zip(ROLES, sorted(taken), strict=True))


@contextmanager
def running_stack(settings: Settings, on_progress: Callable[[str], None] = lambda _: None) -> Iterator[Stack]:
    """Start everything and keep it running for the time of the context; stop it in order.

    That takes less than 10 s, and with many devices up to `LAST_CUTS_WITHIN_S` more.
    """
    with local_parts(
        settings.data,
        mqtt_url=settings.mqtt_url,
        database_url=settings.database_url,
        kafka=settings.kafka,
        parts=settings.parts,
        on_progress=on_progress,
    ) as parts:
        settings = settings.model_copy(
            update={
                "mqtt_url": parts.mqtt_url,
                "database_url": parts.database_url,
                "kafka": parts.kafka,
                "data": parts.data,
            }
        )
        applied = migrate(parts.database_url, catalogue_of(settings))
        if applied:
            on_progress(f"tables are up to date ({len(applied)} migrations)")
        ports = _metrics_ports(settings)
        note_addresses(settings)
        metrics = {name: f"http://{settings.metrics_host}:{port}/metrics" for name, port in ports.items()}
        metrics_file(settings.data).write_text(json.dumps(metrics), "utf-8")
        (settings.data / "log").chmod(0o700)
        with open_log(settings) as opened, ThreadPoolExecutor(1) as spawner:
            roles = [_role(name, settings, ports.get(name, 0), spawner) for name in ROLES]
            try:
                for role in roles:
                    on_progress(f"starting {role.name}")
                    role.start(READY_WITHIN_S)
                with kept([*parts.services, *roles]) as keepers:
                    yield Stack(settings, parts, opened, keepers)
            finally:
                for role in reversed(roles):
                    role.stop(STOP_WITHIN_S[role.name])
