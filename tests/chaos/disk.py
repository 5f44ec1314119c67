"""A disk for the embedded log that can be full: a small file system, or a limit to the bridge's files."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

SIZE_MB = 96


class Disk(Protocol):
    """Where the log lies."""

    def fill(self) -> None:
        """Let nothing more be written."""

    def free(self) -> None:
        """Make room again."""


class SmallDisk:
    """A tmpfs below `folder`; `fill` leaves no byte free on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Write until there is no room left."""
        with self._filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass

    def free(self) -> None:
        """Make room again."""
        self._filler.unlink(missing_ok=True)


class FileLimit:
    """For those who may not mount: the kernel refuses a process to write beyond `LIMIT` into any file."""

    LIMIT = 256 << 10
    """Beyond the bridge's log file, and soon reached by SQLite's."""

    def __init__(self, pid: Callable[[], int | None]) -> None:
        self._pid = pid

    def fill(self) -> None:
        """See `Disk`."""
        self._set(self.LIMIT)

    def free(self) -> None:
        """See `Disk`."""
        self._set(resource.RLIM_INFINITY)

    def _set(self, soft: int) -> None:
        pid = self._pid()
        if pid is not None:
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def can_mount() -> bool:
    """Whether this process may mount file systems: root, outside of a container that forbids it."""
    if os.geteuid() != 0:
        return False
    effective = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    return bool(int(effective.split()[1], 16) >> 21 & 1)  # CAP_SYS_ADMIN


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """A small file system at `folder` for the time of the context."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=0755", "wardwatch", str(folder)], check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
