"""Everything on this machine: local parts, migrated database, log, bridge and worker, started and stopped in order."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from schema.migrate import migrate
from streams.log import EmbeddedLog
from wardwatch.local import LocalParts, local_parts
from wardwatch.local.account import Account
from wardwatch.local.process import launched
from wardwatch.roles import catalogue_of, open_log, ready_file
from wardwatch.settings import Settings, as_environment, note_addresses

READY_WITHIN_S = 60.0
STOP_WITHIN_S = {"ingest": 3.0, "worker": 5.5}
RESTART_AFTER_S = 0.1
RESTART_AT_MOST_S = 10.0
STEADY_AFTER_S = 60.0
"""A role that has run for so long is started again without delay."""
ROLES = ("worker", "ingest")

log = structlog.get_logger()


class RoleError(RuntimeError):
    """A role does not come up; the message says where its log is."""


@dataclass(slots=True)
class _Role:
    """One child process that is started again whenever it ends by itself."""

    name: str
    settings: Settings
    restarts: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while the process is exchanged, so that a stop never misses the one that was just started."""
    _process: subprocess.Popen[bytes] | None = None
    _keeper: threading.Thread | None = None

    def start(self, spawner: ThreadPoolExecutor) -> None:
        ready = ready_file(self.settings.data, self.name)
        ready.parent.mkdir(parents=True, exist_ok=True)
        ready.unlink(missing_ok=True)
        self._process = spawner.submit(self._spawn).result()
        self._keeper = threading.Thread(target=self._keep, args=(spawner,), daemon=True)
        self._keeper.start()
        deadline = time.monotonic() + READY_WITHIN_S
        while not ready.exists():
            if time.monotonic() > deadline or self.restarts > 2:
                raise RoleError(f"{self.name} does not come up; its log is {self._log()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End the process as a crash would."""
        assert self._process is not None
        self._process.kill()

    def stop(self, patience_s: float) -> None:
        with self.lock:
            self.stopping.set()
            process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            log.warning("does not stop, killed", role=self.name)
            process.kill()
            process.wait()

    def _keep(self, spawner: ThreadPoolExecutor) -> None:
        in_a_row = 0
        while True:
            assert self._process is not None
            begun_s = time.monotonic()
            status = self._process.wait()
            in_a_row = 0 if time.monotonic() - begun_s > STEADY_AFTER_S else in_a_row + 1
            if self.stopping.wait(min(RESTART_AFTER_S * 2**in_a_row, RESTART_AT_MOST_S)):
                return
            self.restarts += 1
            log.warning("ended, started again", role=self.name, status=status, log=str(self._log()))
            with self.lock:
                if self.stopping.is_set():
                    return
                self._process = spawner.submit(self._spawn).result()

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "wardwatch.cli", self.name]
        with self._log().open("ab") as output:
            return subprocess.Popen(  # noqa: S603  # our own program, no shell
                launched(command, Account(-1, -1), signal.SIGTERM),
                env=os.environ | as_environment(self.settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def _log(self) -> Path:
        folder = self.settings.data / "log"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{self.name}.log"


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs; `settings` have the addresses of the parts."""

    settings: Settings
    parts: LocalParts
    log: EmbeddedLog
    _roles: dict[str, _Role]

    @property
    def database_url(self) -> str:
        """Address of the database."""
        return self.parts.database_url

    def kill(self, role: str) -> None:
        """Kill a role (`worker` or `ingest`) with SIGKILL; it is started again."""
        self._roles[role].kill()

    def restarts(self, role: str) -> int:
        """How often a role was started again."""
        return self._roles[role].restarts


@contextmanager
def running_stack(settings: Settings, on_progress: Callable[[str], None] = lambda _: None) -> Iterator[Stack]:
    """Start everything for the time of the context; stop it in order, within 10 s."""
    with local_parts(
        settings.data,
        mqtt_url=settings.mqtt_url,
        database_url=settings.database_url,
        parts=settings.parts,
        on_progress=on_progress,
    ) as parts:
        settings = settings.model_copy(
            update={"mqtt_url": parts.mqtt_url, "database_url": parts.database_url, "data": parts.data}
        )
        applied = migrate(parts.database_url, catalogue_of(settings))
        if applied:
            on_progress(f"tables are up to date ({len(applied)} migrations)")
        note_addresses(settings)
        with open_log(settings) as embedded, ThreadPoolExecutor(1) as spawner:
            stack = Stack(settings, parts, embedded, {role: _Role(role, settings) for role in ROLES})
            try:
                for name, role in stack._roles.items():
                    on_progress(f"starting {name}")
                    role.start(spawner)
                yield stack
            finally:
                for role in reversed(stack._roles.values()):
                    role.stop(STOP_WITHIN_S[role.name])
