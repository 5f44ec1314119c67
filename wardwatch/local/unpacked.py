"""Programs in a private folder: fetched once, shared by all data folders, run through that folder's own loader.

A folder holds the packages of one release with their C library. The kernel would start a program with the machine's
loader and libraries, which may be older; so a small script in the program's place starts the folder's loader with the
folder's libraries. It hands on its own name, from which PostgreSQL finds its other programs and its data files.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wardwatch.local.apt import fetch, this_release
from wardwatch.local.errors import FetchError

SCRIPT = """#!/bin/sh
here=${{0%/*}}
exec "$here/{loader}" --inhibit-cache --library-path "{libraries}" --argv0 "$0" "$here/{program}" "$@"
"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on the file `path`, waiting for it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def made_once(target: Path, make: Callable[[Path], None]) -> Path:
    """The folder `target`; where it is not there, `make` fills one that takes its name when it is complete.

    Processes that want it at the same time wait for each other; what one that died has left is removed.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.parent / "lock"):
        if target.is_dir():
            return target
        for stale in target.parent.glob(f"{target.name}.*"):
            shutil.rmtree(stale)
        fresh = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
        try:
            make(fresh)
            fresh.chmod(0o755)
            fresh.rename(target)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    return target


def private_loader(root: Path, program: Path) -> Path:
    """The loader below `root` that the ELF file `program` asks for; its name differs by architecture.

    Raises:
        FetchError: the program names none, or the folder lacks it.

    """
    # The interpreter's path is the first string of the file, directly behind the program headers.
    match = re.search(rb"/(?:[\w.-]+/)*(ld[\w.-]*\.so[\w.]*)\0", program.read_bytes()[:8192])
    found = [] if match is None else [p for p in root.rglob(os.fsdecode(match[1])) if not p.is_symlink()]
    if not found:
        raise FetchError(f"the unpacked packages hold no loader for {program.name}")
    return found[0]


def wrap(root: Path, program: Path) -> None:
    """Puts a script in the place of `program` that runs it with the loader and the libraries below `root`.

    The script knows only relative paths: the folder can be moved.
    """
    here = program.parent
    libraries = sorted({p.parent for top in ("lib", "usr/lib") for p in (root / top).glob("*-linux-*/*.so*")})
    real = program.with_name(program.name + ".real")
    loader = private_loader(root, program)
    program.rename(real)
    program.write_text(
        SCRIPT.format(
            loader=os.path.relpath(loader, here),
            libraries=":".join(f"$here/{os.path.relpath(library, here)}" for library in libraries),
            program=real.name,
        )
    )
    program.chmod(0o755)


def unpacked(name: str, parts: Path, pattern: str, programs: str, run: str, on_progress: Callable[[str], None]) -> Path:
    """The folder `parts/RELEASE/NAME` with the newest package that matches `pattern`; fetched if it is not there.

    Args:
        name: what the folder is called.
        parts: shared by any number of processes and data folders; one process at a time fetches.
        pattern: full match of the package's name.
        programs: full match of the names of further packages that are no libraries.
        run: glob, below the folder, of the programs that will be run.
        on_progress: told what happens.

    Raises:
        FetchError: it cannot be fetched here.

    """
    release = this_release()
    if release is None:
        raise FetchError("this machine has no apt of a known release of Debian or Ubuntu")
    home = parts / str(release)

    def unpack(folder: Path) -> None:
        fetch(pattern, folder, home / "apt", programs, on_progress)
        for junk in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian"):
            shutil.rmtree(folder / junk, ignore_errors=True)
        for program in list(folder.glob(run)):
            wrap(folder, program)

    return made_once(home / name, unpack)
