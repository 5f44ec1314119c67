"""The lease: one worker at a time on an embedded log, and an epoch that fences the one before.

Two things answer two questions. *Is the holder alive?* is answered by an `flock` on a file beside the log, which the
kernel drops when the process dies: after `kill -9` the next worker starts at once. *Who owns the log?* is answered by
the epoch in the log itself: it rises with every take-over, and a holder that finds another epoch has lost the log,
whatever lock it holds. So a process that was stopped (SIGSTOP) keeps its lock, but once its time has run out, or at
once by force, another takes the lease over, and the stopped one is fenced when it wakes.

A take-over from a live holder puts a new lock file in the old one's place, so that the path always means the present
holder's. All of it happens under SQLite's write lock, so takers never race.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from streams.logs.embedded import EmbeddedLog
from streams.logs.file import LeaseHeld, LeaseLost

LEASE_TTL_MS = 15_000


def machine_clock_ms() -> int:
    """Milliseconds of the monotonic clock, the same for all processes of a machine; a reboot drops locks as well."""
    return time.monotonic_ns() // 1_000_000


class Lease:
    """A held lease; `acquire` makes it. `epoch` is 1 for a log's first worker and higher for each later one."""

    def __init__(self, log: EmbeddedLog, epoch: int, ttl_ms: int, lock: int, clock_ms: Callable[[], int]) -> None:
        self.epoch = epoch
        self.ttl_ms = ttl_ms
        self._log = log
        self._lock = lock
        self._clock_ms = clock_ms

    @classmethod
    def acquire(
        cls,
        log: EmbeddedLog,
        holder: str,
        *,
        ttl_ms: int = LEASE_TTL_MS,
        force: bool = False,
        clock_ms: Callable[[], int] = machine_clock_ms,
    ) -> Lease:
        """Take the lease if it is free, or its holder is dead or has let its time run out; with `force`, in any case.

        Otherwise `LeaseHeld`, which names the holder. `holder` names the taker for people, `ttl_ms` is how long the
        lease lasts without being renewed.
        """
        path = log.path.with_name(f"{log.path.name}.lock")
        lock = -1
        try:
            with log.transaction() as db:
                other, expires_ms = db.execute("SELECT holder, expires_ms FROM lease").fetchone()
                lock = _lock(path)
                if lock < 0:
                    if not force and clock_ms() < expires_ms:
                        raise LeaseHeld(f"{log.path}: another worker runs on this log ({other})")
                    lock = _replace(path)
                (epoch,) = db.execute(
                    "UPDATE lease SET epoch = epoch + 1, holder = ?, expires_ms = ? RETURNING epoch",
                    (holder, clock_ms() + ttl_ms),
                ).fetchone()
        except BaseException:
            if lock >= 0:
                os.close(lock)
            raise
        return cls(log, epoch, ttl_ms, lock, clock_ms)

    def check(self) -> None:
        """`LeaseLost` if another worker has taken over. Costs some microseconds."""
        epoch, holder = self._log.lease_epoch()
        if epoch != self.epoch:
            raise self._lost(holder)

    def renew(self) -> None:
        """Hold the lease for another `ttl_ms` from now; `LeaseLost` if another worker has taken over."""
        self._extend(self._clock_ms() + self.ttl_ms)

    def release(self) -> None:
        """Give the lease back, so that another worker may take it at once; nothing happens if it was lost."""
        try:
            self._extend(0)
        except LeaseLost:
            pass
        finally:
            os.close(self._lock)

    def _extend(self, expires_ms: int) -> None:
        with self._log.transaction() as db:
            changed = db.execute("UPDATE lease SET expires_ms = ? WHERE epoch = ?", (expires_ms, self.epoch)).rowcount
        if changed != 1:
            raise self._lost(self._log.lease_epoch()[1])

    def _lost(self, holder: str) -> LeaseLost:
        return LeaseLost(f"{self._log.path}: the lease of epoch {self.epoch} was taken over by {holder}")


def _lock(path: Path) -> int:
    """Lock the file at `path`; return its descriptor, or -1 when another living process has it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return -1
    return lock


def _replace(path: Path) -> int:
    """Put a new file, locked from the start, in the place of one that somebody else has locked."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    lock = _lock(new)
    new.replace(path)
    return lock
