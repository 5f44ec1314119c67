"""A service as a child process: started in a session of its own, logged to a file, ended with its owner."""

# ruff: noqa: S603 - starting programs, without a shell, is what this module is for
from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom

from wardwatch.local.account import Account
from wardwatch.local.errors import LocalPartsError, PartFailedError

LOOPBACK = "127.0.0.1"
LAUNCH = Path(__file__).with_name("launch.py")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "TZ": "UTC"}
PORTS = range(20_000, 30_000)
"""Below the ports that Linux gives to outgoing connections (from 32768): a client that retries while the service is
down could otherwise be given the service's own port, connect to itself and keep the service from coming back."""


def free_port(preferred: int | None = None) -> int:
    """A loopback port that nobody listens on: `preferred` if it is free, else one drawn from `PORTS`.

    Raises:
        LocalPartsError: none was found in many attempts.

    """
    draw = SystemRandom()
    for port in [*([preferred] if preferred else []), *(draw.choice(PORTS) for _ in range(200))]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise LocalPartsError(f"No free port between {PORTS.start} and {PORTS.stop} on {LOOPBACK}.")


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def processes(ours: Callable[[bytes, Path | None], bool]) -> list[int]:
    """Ids of the running processes for which `ours(command_line, working_directory)` holds.

    The command line has its arguments separated by NUL; the directory is None where we may not see it.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command_line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        try:
            directory = (entry / "cwd").readlink()
        except OSError:
            directory = None
        if command_line and ours(command_line, directory):
            found.append(int(entry.name))
    return found


def stop_leftovers(ours: Callable[[bytes, Path | None], bool], gentle: signal.Signals, patience_s: float) -> int:
    """Ends what an owner that crashed has left running; returns how many processes that were.

    They get `gentle`, and whatever remains after `patience_s` is killed.

    Raises:
        LocalPartsError: some cannot be ended by this user.

    """
    found = processes(ours)
    try:
        for pid in found:
            _signal(pid, gentle)
        if not wait_until(lambda: not processes(ours), patience_s):
            for pid in processes(ours):
                _signal(pid, signal.SIGKILL)
            wait_until(lambda: not processes(ours), patience_s)
    except PermissionError as error:
        raise LocalPartsError(f"Process {found} of an earlier run belongs to another user. Stop it first.") from error
    return len(found)


def wait_until(condition: Callable[[], bool], patience_s: float) -> bool:
    """Asks until the condition holds; False when it did not within `patience_s`."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def launched(command: Sequence[str], account: Account, death_signal: signal.Signals) -> list[str]:
    """The command line that runs `command` as `account`, with `death_signal` when the starting thread ends."""
    who = (death_signal.value, os.getpid(), account.uid, account.gid)
    return [sys.executable, "-I", "-S", str(LAUNCH), *map(str, who), *command]


@dataclass(slots=True)
class Service:
    """One child process that can be stopped, killed and started again; its methods may be called from any thread.

    `command` gives the absolute program and its arguments; `log` collects its output; `folder` is its working
    directory. It gets `stop_signal` when it is stopped and when the owner dies, `abrupt_signal` when it does not obey.
    `ready()` says whether it serves, and is asked only while the process lives.
    """

    name: str
    command: Sequence[str]
    folder: Path
    log: Path
    account: Account
    stop_signal: signal.Signals
    abrupt_signal: signal.Signals
    ready: Callable[[], bool]
    spawner: ThreadPoolExecutor
    """Its one thread must live as long as the owner: a death signal is sent when the starting thread ends."""
    environment: Mapping[str, str] = field(default_factory=lambda: ENVIRONMENT, repr=False)
    prepare: Callable[[], object] = lambda: None
    """Called before each start, to clear away what a crash has left."""
    _wanted: bool = field(default=False, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _exchange: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    """Held while `_wanted` and `_process` change, so that a stop never misses a process that was just started."""
    _starting: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    """Held from `prepare` to the new process, so that two who start it do not clear away each other's."""

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def status(self) -> int | None:
        """Exit status of the process that ran last, negative for a signal; None while it runs and before the first."""
        return None if self._process is None else self._process.poll()

    @property
    def wanted(self) -> bool:
        """Whether it is to run: from `start` to `stop`. A process that was killed is still wanted."""
        return self._wanted

    def start(self, patience_s: float = 120.0) -> None:
        """Starts the process unless it runs already, and returns when it serves.

        Raises:
            PartFailedError: it ended, or does not serve after `patience_s`.

        """
        with self._exchange:
            self._wanted = True
        self.revive()
        process = self._process
        if process is None or not wait_until(lambda: process.poll() is not None or self.ready(), patience_s):
            self.stop(0.0)
            raise PartFailedError(self.name, f"does not answer after {patience_s:.0f} s", self.log)
        if process.poll() is not None:
            self.stop(0.0)
            raise PartFailedError(self.name, f"ended at its start with status {process.returncode}", self.log)

    def revive(self) -> bool:
        """Starts the process if it is wanted and does not run, not waiting until it serves; tells whether it did."""
        with self._starting:
            if not self._wanted or self.pid is not None:
                return False
            self.prepare()
            with self._exchange:
                if not self._wanted:
                    return False
                self._process = self.spawner.submit(self._spawn).result()
                return True

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                launched(self.command, self.account, self.stop_signal),
                cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def stop(self, patience_s: float) -> None:
        """Stops the process in order; abruptly if it has not ended after `patience_s`, and a second later by force.

        It stays stopped until the next `start`.
        """
        with self._exchange:
            self._wanted = False
            process = self._process
        if process is None:
            return
        for number, wait_s in ((self.stop_signal, patience_s), (self.abrupt_signal, 1.0), (signal.SIGKILL, 5.0)):
            if process.poll() is None:
                process.send_signal(number)
            try:
                process.wait(wait_s)
                break
            except subprocess.TimeoutExpired:
                continue

    def kill(self) -> None:
        """Ends the process with SIGKILL, as a crash would; where somebody keeps it running, it is started again."""
        process = self._process
        if process is not None:
            process.kill()
            process.wait()
