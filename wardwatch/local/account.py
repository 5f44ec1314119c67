"""Who runs the services, and where files must lie so that this user reaches them.

PostgreSQL refuses to run as root. Started by root, the services run as an unprivileged user, who cannot enter a folder
that only root may pass, such as root's home.
"""

# ruff: noqa: S603 - starting programs, without a shell, is what this module is for
from __future__ import annotations

import hashlib
import os
import pwd
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wardwatch.local.errors import LocalPartsError

ANNEX = Path("/var/tmp")  # noqa: S108 - survives a restart, and what lies there is checked to be ours before use


@dataclass(frozen=True, slots=True)
class Account:
    """A user that services run as; -1 stands for whoever we are."""

    uid: int = -1
    gid: int = -1

    def give(self, path: Path) -> None:
        """Makes this user the owner of `path`."""
        os.chown(path, self.uid, self.gid)

    def reaches(self, folder: Path) -> bool:
        """Whether this user may enter `folder`; always true when it is ourselves."""
        if self.uid < 0:
            return True
        found = subprocess.run(
            ["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)],
            user=self.uid, group=self.gid, extra_groups=[], cwd="/", stderr=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        return found.returncode == 0


def service_account() -> Account:
    """Ourselves, or for root the machine's `postgres`, else its `nobody`.

    Raises:
        LocalPartsError: we are root and the machine knows neither.

    """
    if os.geteuid() != 0:
        return Account()
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(entry.pw_uid, entry.pw_gid)
    raise LocalPartsError("PostgreSQL does not run as root and there is no user `nobody`. Run as an ordinary user.")


def within_reach(folder: Path, account: Account, on_progress: Callable[[str], None]) -> Path:
    """`folder` itself, created if need be, or when `account` cannot enter it a stand-in below `/var/tmp`.

    The stand-in's name follows from the folder's, so that a second start finds it.

    Raises:
        LocalPartsError: the stand-in exists and is not ours alone to write.

    """
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    if account.reaches(folder):
        return folder
    annex = ANNEX / f"wardwatch-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"
    annex.mkdir(mode=0o755, exist_ok=True)
    found = annex.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise LocalPartsError(f"{annex} belongs to somebody else. Remove it, or name a data folder open to all users.")
    annex.chmod(0o755)
    on_progress(f"{folder} is open to root alone; {annex} is used in its place")
    return annex
