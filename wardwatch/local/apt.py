"""Packages from the archive of Debian or Ubuntu, without changing the system and without being root.

apt is given folders of its own for lists, cache and the record of what is installed, which stays empty: so a package is
resolved with everything that it needs, the C library included, whatever the machine has.
"""

# ruff: noqa: S603, S607 - starting programs, without a shell, is what this module is for
from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from wardwatch.local.aptsources import Source, machine_sources
from wardwatch.local.errors import FetchError

LATER_RELEASE = {"debian": "trixie", "ubuntu": "resolute"}
"""The first release of each distribution whose archive has TimescaleDB; older ones run it from there."""
NOT_NEEDED = re.compile(r"libllvm|libz3|libperl|libc-l10n|.*-perl$|libpam-modules|libsemanage")
"""The JIT compiler (LLVM, as large as all the rest), and what only installation scripts use."""


@dataclass(frozen=True, slots=True)
class Release:
    """What the machine runs: distribution (`debian`, `ubuntu`), code name (`bookworm`), architecture (`amd64`)."""

    distribution: str
    codename: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.distribution}-{self.codename}-{self.architecture}"


def this_release() -> Release | None:
    """The release this machine runs, or None where there is no apt or no code name."""
    if not all(shutil.which(tool) for tool in ("apt-get", "apt-cache", "apt-config", "dpkg", "dpkg-deb")):
        return None
    try:
        about = platform.freedesktop_os_release()
    except OSError:
        return None
    family = [about.get("ID", ""), *about.get("ID_LIKE", "").split()]
    distribution = next((name for name in family if name in LATER_RELEASE), None)
    codename = about.get("UBUNTU_CODENAME") or about.get("VERSION_CODENAME")
    if distribution is None or not codename:
        return None
    architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    return Release(distribution, codename, architecture.stdout.strip())


class Archive:
    """The package archive of one release, seen through an apt with its own folders below `folder`."""

    def __init__(self, folder: Path, release: Release, codename: str) -> None:
        self.codename = codename
        self._folder = folder / codename
        for name in ("state/lists/partial", "cache/archives/partial", "empty", "keys"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "state" / "status").touch()
        sources = machine_sources(Path("/etc/apt"), release.codename, self._folder / "keys")
        self._write(release.architecture, [source.of_release(codename) for source in sources])

    def _write(self, architecture: str, sources: Iterable[Source]) -> None:
        here = self._folder
        (here / "sources.list").write_text("".join(f"{source}\n" for source in dict.fromkeys(sources)))
        machine = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
        kept = [
            line
            for line in machine.splitlines()
            if re.match(r"Acquire::(?!IndexTargets|Languages)", line, re.IGNORECASE)
        ]
        own = {
            "Dir::State": here / "state", "Dir::State::status": here / "state" / "status",
            "Dir::Cache": here / "cache", "Dir::Cache::pkgcache": "", "Dir::Cache::srcpkgcache": "",
            "Dir::Etc::sourcelist": here / "sources.list", "Dir::Etc::sourceparts": here / "empty",
            "Dir::Etc::main": here / "empty" / "apt.conf", "Dir::Etc::parts": here / "empty",
            "Dir::Etc::preferences": here / "empty" / "preferences", "Dir::Etc::preferencesparts": here / "empty",
            "APT::Architecture": architecture, "APT::Architectures::": architecture,
            "APT::Sandbox::User": "root", "Acquire::Languages": "none", "Acquire::Retries": 3,
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "Acquire::IndexTargets::deb::CNF::DefaultEnabled": "false",
        }  # fmt: skip
        kept += [f'{name} "{value}";' for name, value in own.items()]
        (here / "apt.conf").write_text("\n".join(kept) + "\n")

    def _run(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "APT_CONFIG": str(self._folder / "apt.conf"), "LC_ALL": "C"}
        return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)

    def newest(self, pattern: str) -> tuple[str | None, str]:
        """The package that matches `pattern` with the highest number in its name, and what apt complained about."""
        update = self._run("apt-get", "-q", "update", "--allow-releaseinfo-change")
        names = self._run("apt-cache", "pkgnames").stdout.split()
        found = [name for name in names if re.fullmatch(pattern, name)]
        newest = max(found, key=lambda name: [int(digits) for digits in re.findall(r"\d+", name)], default=None)
        return newest, update.stderr.strip()

    def unpack(self, package: str, into: Path, programs: str) -> None:
        """Downloads `package` with what it needs to run and unpacks all of that into `into`.

        Of the packages it depends on come the libraries, and those whose name matches `programs`. A file
        `packages.txt` beside what was unpacked lists them with their versions.

        Raises:
            FetchError: a dependency, the download or the unpacking failed.

        """
        plan = self._checked("apt-get", "install", "-s", "--no-install-recommends", package)
        chosen = [
            name
            for name in re.findall(r"^Inst (\S+)", plan, re.MULTILINE)
            if name == package
            or re.fullmatch(programs, name)
            or (name.startswith("lib") and not NOT_NEEDED.match(name))
        ]
        downloads = self._folder / "downloads"
        shutil.rmtree(downloads, ignore_errors=True)
        downloads.mkdir()
        try:
            self._checked("apt-get", "-q", "download", *chosen, cwd=downloads)
            debs = sorted(downloads.glob("*.deb"))
            for deb in debs:
                self._checked("dpkg-deb", "-x", str(deb), str(into))
            (into / "packages.txt").write_text("".join(f"{deb.stem}\n" for deb in debs))
        finally:
            shutil.rmtree(downloads)

    def _checked(self, *command: str, cwd: Path | None = None) -> str:
        done = self._run(*command, cwd=cwd)
        if done.returncode != 0:
            raise FetchError(f"`{' '.join(command[:3])} …` failed for {self.codename}:\n{done.stderr.strip()}")
        return done.stdout


def fetch(pattern: str, into: Path, folder: Path, programs: str, on_progress: Callable[[str], None]) -> None:
    """Unpacks the newest package that matches `pattern` from this machine's release, else from the later one.

    Raises:
        FetchError: this is no Debian or Ubuntu, neither release has it, or the archive cannot be reached.

    """
    release = this_release()
    if release is None:
        raise FetchError("this machine has no apt of a known release of Debian or Ubuntu")
    complaints = []
    for codename in dict.fromkeys((release.codename, LATER_RELEASE[release.distribution])):
        archive = Archive(folder, release, codename)
        on_progress(f"looking for {into.name.split('.')[0]} in {release.distribution} {codename}")
        package, complaint = archive.newest(pattern)
        if package is not None:
            on_progress(f"fetching {package} from {release.distribution} {codename}")
            archive.unpack(package, into, programs)
            return
        complaints.append(f"{codename}: {complaint or 'not in its archive'}")
    raise FetchError("\n".join(complaints))
