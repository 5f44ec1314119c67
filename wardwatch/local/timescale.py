"""PostgreSQL with TimescaleDB on loopback: found on PATH or fetched, one cluster below the data folder."""

# ruff: noqa: S603 - starting programs, without a shell, is what this module is for
from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from wardwatch.local.account import Account
from wardwatch.local.errors import FetchError, LocalPartsError, PartFailedError, PartUnavailableError
from wardwatch.local.process import ENVIRONMENT, LOOPBACK, Service, launched, stop_leftovers
from wardwatch.local.unpacked import unpacked

USER = DATABASE = "wardwatch"
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "timescaledb.max_background_workers": "0",  # for jobs that the Apache-licensed build does not have
    "max_connections": "50",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "autovacuum": "on",
    "max_locks_per_transaction": "256",  # a statement over many chunks locks each of them
    "jit": "off",  # the libraries for it are not fetched
    "max_parallel_workers_per_gather": "0",  # shared memory of containers is small, and two cores have other work
    "max_parallel_maintenance_workers": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
}
"""Durable (fsync stays on), for one machine that does everything: few and spread checkpoints."""
BUFFERS_MB = (128, 1024)
"""Least and most of the server's buffers: those indexes must fit that rows of every device go to."""
BUFFERS_SHARE = 16
"""The buffers are this part of the machine's memory, between the two."""


def share_folders(bin_folder: Path) -> Iterator[Path]:
    """Where a PostgreSQL whose programs lie in `bin_folder` may keep its data files, by the habits of packagers."""
    yield bin_folder.parent / "share"
    yield bin_folder.parent / "share" / "postgresql"
    yield bin_folder.parent / "share" / "pgsql"
    if bin_folder.parts[-4:-2] == ("lib", "postgresql"):
        yield bin_folder.parents[3] / "share" / "postgresql" / bin_folder.parts[-2]


def has_timescale(bin_folder: Path) -> bool:
    """Whether the PostgreSQL in `bin_folder` has the TimescaleDB extension."""
    return any((share / "extension" / "timescaledb.control").is_file() for share in share_folders(bin_folder))


def find(parts: Path, on_progress: Callable[[str], None]) -> Path:
    """The folder with the programs of a PostgreSQL that has TimescaleDB, from PATH, else fetched into `parts`.

    Debian keeps the programs of its servers off PATH, so its place is looked at as well.

    Raises:
        PartUnavailableError: there is none and none can be fetched.

    """
    on_path = shutil.which("postgres")
    candidates = [Path(on_path).resolve().parent] if on_path is not None else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("[1-9][0-9]/bin"), reverse=True)
    for candidate in candidates:
        if has_timescale(candidate) and (candidate / "initdb").exists():
            return candidate
    try:
        root = unpacked(
            "timescaledb", parts, r"postgresql-\d+-timescaledb", r"postgresql-\d+",
            "usr/lib/postgresql/*/bin/[!.]*", on_progress,
        )  # fmt: skip
    except FetchError as error:
        found = f"{candidates[0]} lacks the extension; " if candidates else ""
        raise PartUnavailableError(
            "TimescaleDB", "WARDWATCH_DATABASE_URL", "PostgreSQL with TimescaleDB", f"{found}{error}"
        ) from error
    return next(iter(root.glob("usr/lib/postgresql/*/bin")))


def password_of(data: Path) -> str:
    """The password kept in `data/password`, readable by us alone; drawn the first time."""
    path = data / "password"
    if not path.exists():
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(16) + "\n")
        fresh.rename(path)
    return path.read_text().strip()


def prepare_cluster(bin_folder: Path, home: Path, password: str, log: Path, account: Account) -> Path:
    """The cluster's folder `home/postgres`, made if it is not there; no half-made one is ever found there.

    Raises:
        LocalPartsError: it was made by another version of PostgreSQL.
        PartFailedError: it could not be made.

    """
    cluster = home / "postgres"
    if not cluster.exists():
        _make_cluster(bin_folder, cluster, password, log, account)
    made_by = (cluster / "PG_VERSION").read_text().strip()
    about = subprocess.run([bin_folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"(\d+)", about)
    if version is None or version[1] != made_by:
        raise LocalPartsError(
            f"The database in {cluster} was made by PostgreSQL {made_by}; this is {about.strip()}. "
            f"Use that version again, or name another data folder."
        )
    for path in (cluster, *cluster.rglob("*")) if cluster.stat().st_uid != _uid(account) else ():
        account.give(path)
    return cluster


def clear_cluster(cluster: Path) -> None:
    """Ends every server process that a crash has left on `cluster`, then removes the note that would stop a start.

    A server process has the cluster as its working directory, also one that outlived the first of them.

    Raises:
        LocalPartsError: some belong to another user.

    """
    named = re.compile(rb"postgres:|(?:.*[/\0])?postgres(?:\.real)?\0", re.DOTALL)
    stop_leftovers(
        lambda command_line, directory: directory == cluster and named.match(command_line) is not None,
        signal.SIGINT,
        patience_s=30.0,
    )
    (cluster / "postmaster.pid").unlink(missing_ok=True)


def _uid(account: Account) -> int:
    return os.geteuid() if account.uid < 0 else account.uid


def _make_cluster(bin_folder: Path, cluster: Path, password: str, log: Path, account: Account) -> None:
    fresh = cluster.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    account.give(fresh)
    given = cluster.with_suffix(".password")
    given.touch(mode=0o600)
    given.write_text(password)
    account.give(given)
    command = [
        str(bin_folder / "initdb"), "--pgdata", str(fresh), "--username", USER, "--pwfile", str(given),
        "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale",
    ]  # fmt: skip
    try:
        with log.open("ab") as output:
            done = subprocess.run(
                launched(command, account, signal.SIGKILL),
                cwd=cluster.parent, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
    finally:
        given.unlink()
    if done.returncode != 0:
        raise PartFailedError("database", "could not be set up", log)
    fresh.rename(cluster)


def url(password: str, port: int, database: str = DATABASE) -> str:
    """The address of a database on the local server."""
    return f"postgresql://{USER}:{password}@{LOOPBACK}:{port}/{database}"


def answers(address: str) -> bool:
    """Whether a database accepts connections; False while the server starts or recovers."""
    try:
        psycopg.connect(address, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def create_database(address: str, name: str) -> None:
    """Creates the database `name` with the extension on the server that `address` belongs to, unless it is there."""
    with psycopg.connect(address, autocommit=True) as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    with psycopg.connect(address, dbname=name, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")


def buffers_mb(memory_bytes: int) -> int:
    """Megabytes of the server's buffers on a machine with so much memory."""
    least, most = BUFFERS_MB
    return max(least, min(most, memory_bytes // BUFFERS_SHARE >> 20))


def wal_compression(bin_folder: Path, cluster: Path) -> str:
    """How pages are compressed that are written whole to the log: by LZ4, where the server is built with it.

    Each checkpoint brings every page in use there once more; PostgreSQL's own method takes a whole core for that, and
    commits wait for seconds.
    """
    command = [str(bin_folder / "postgres"), "-C", "wal_compression", "-c", "wal_compression=lz4", "-D", str(cluster)]
    asked = subprocess.run(command, capture_output=True, env=ENVIRONMENT, check=False)
    return "lz4" if asked.returncode == 0 else "on"


def service(
    bin_folder: Path, cluster: Path, log: Path, account: Account, port: int, password: str, spawner: ThreadPoolExecutor
) -> Service:
    """A database server on a loopback port, not yet started."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = {
        "shared_buffers": f"{buffers_mb(memory_bytes)}MB",
        "wal_compression": wal_compression(bin_folder, cluster),
    }
    settings = [argument for name, value in (SETTINGS | found).items() for argument in ("-c", f"{name}={value}")]
    return Service(
        name="database",
        command=[str(bin_folder / "postgres"), "-D", str(cluster), "-p", str(port), *settings],
        folder=cluster,
        log=log,
        account=account,
        stop_signal=signal.SIGINT,
        abrupt_signal=signal.SIGQUIT,
        ready=lambda: answers(url(password, port, "postgres")),
        spawner=spawner,
        prepare=lambda: clear_cluster(cluster),
    )
