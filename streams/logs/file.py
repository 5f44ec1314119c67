"""The embedded log's file: its format, how it is opened, and what can go wrong with it.

A file is ours when `application_id` says so; `user_version` is the format's number. A new file becomes a log under
SQLite's own write lock, so several processes may open it for the first time at once.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

APPLICATION_ID = 0x57_57_4C_47  # "WWLG"
FORMAT = 1
OFFSET_BITS = 40

_NEW_FILE = "PRAGMA page_size = 8192"  # records of 20 kB and ticks of 100 bytes both do well with it
_CONNECTION = (
    "PRAGMA synchronous = FULL",  # an fsync a commit: what is confirmed survives a loss of power too
    "PRAGMA wal_autocheckpoint = 2000",  # 16 MB: fewer, longer checkpoints than the default of 4 MB
    "PRAGMA journal_size_limit = 67108864",  # give a WAL that a burst has made large back to the disk
    "PRAGMA cache_size = -16384",
)
_TABLES = (
    """CREATE TABLE partitions (
        id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL,
        start_offset INTEGER NOT NULL DEFAULT 0, next_offset INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, partition)) STRICT""",
    "CREATE TABLE records (key INTEGER PRIMARY KEY, appended_ms INTEGER NOT NULL, value BLOB NOT NULL) STRICT",
    """CREATE TABLE progress (
        reader TEXT NOT NULL, partition_id INTEGER NOT NULL REFERENCES partitions, next_offset INTEGER NOT NULL,
        PRIMARY KEY (reader, partition_id)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE lease (
        id INTEGER PRIMARY KEY CHECK (id = 0), epoch INTEGER NOT NULL, holder TEXT NOT NULL,
        expires_ms INTEGER NOT NULL) STRICT""",
    "INSERT INTO lease VALUES (0, 0, '', 0)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT}",
)


class LogError(Exception):
    """Something is wrong with the log; the message names the file or the brokers."""


class LogFull(LogError):
    """The disk is full. Nothing of the call was written; it may be repeated when there is room."""


class LogBusy(LogError):
    """Other processes have held the file's write lock for the whole of the busy timeout."""


class LogUnreachable(LogError):
    """No broker has done what was asked within the time given; the call may be repeated."""


class LogUnusable(LogError):
    """What is there is not a log, is one of another format or with settings that lose records, or is damaged."""


class LeaseHeld(LogError):
    """A live worker holds the lease."""


class LeaseLost(LogError):
    """Another worker has taken the lease over: this one must stop and may not process anything more."""


class UnknownPartition(LogError):
    """The log has no such topic and partition."""


class PartitionsDiffer(LogError):
    """A topic exists with another number of partitions than was asked for."""


class OffsetOutOfRange(LogError):
    """An offset below the first record kept or beyond the end: reader and log do not belong together."""

    def __init__(self, topic: str, partition: int, offset: int, start: int, end: int) -> None:
        super().__init__(f"{topic}/{partition}: offset {offset} is outside of what the log holds, [{start}, {end})")
        self.topic, self.partition, self.offset, self.start, self.end = topic, partition, offset, start, end


@contextmanager
def as_log_error(path: Path) -> Iterator[None]:
    """Give SQLite's errors in the block the name of what a caller can do about them."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        kind, what = {
            sqlite3.SQLITE_FULL: (LogFull, "the disk is full, nothing was written"),
            sqlite3.SQLITE_BUSY: (LogBusy, "another process holds the write lock for too long"),
            sqlite3.SQLITE_NOTADB: (LogUnusable, "not a log file"),
            sqlite3.SQLITE_CORRUPT: (LogUnusable, "the file is damaged"),
            sqlite3.SQLITE_CANTOPEN: (LogUnusable, "cannot be opened"),
            sqlite3.SQLITE_READONLY: (LogUnusable, "cannot be written"),
        }.get(code, (LogError, "unexpected"))
        raise kind(f"{path}: {what} ({error})") from error


def execute_patiently(db: sqlite3.Connection, sql: str, busy_timeout_ms: int) -> sqlite3.Cursor:
    """Execute a statement that needs the write lock, looking every millisecond whether it is free.

    SQLite's own waiting backs off to 100 ms, which beside a busy writer lets a rare one wait for a second, and it does
    not wait at all for a switch to WAL.
    """
    deadline = time.monotonic() + busy_timeout_ms / 1000
    db.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                return db.execute(sql)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(0.001)
    finally:
        db.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")


def record_key(number: int, offset: int) -> int:
    """Return the key of a record: one range of keys for each partition id, in offset order."""
    return (number << OFFSET_BITS) + offset


def open_log_file(path: Path, *, busy_timeout_ms: int) -> sqlite3.Connection:
    """Open `path`, making a log of it if it is new or empty; in autocommit mode, for use by several threads in turn.

    Raises `LogUnusable` for anything else than a log of this format, `LogBusy` when it cannot be prepared in time.
    """
    with as_log_error(path):
        db = sqlite3.connect(path, timeout=busy_timeout_ms / 1000, isolation_level=None, check_same_thread=False)
        try:
            if _is_empty(db):
                _make_log(db, path, busy_timeout_ms)
            _check(db, path)
            for pragma in _CONNECTION:
                db.execute(pragma)
        except BaseException:
            db.close()
            raise
        return db


def _pragma(db: sqlite3.Connection, name: str) -> object:
    return db.execute(f"PRAGMA {name}").fetchone()[0]


def _is_empty(db: sqlite3.Connection) -> bool:
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return (tables, _pragma(db, "application_id"), _pragma(db, "user_version")) == (0, 0, 0)


def _check(db: sqlite3.Connection, path: Path) -> None:
    if _pragma(db, "application_id") != APPLICATION_ID:
        raise LogUnusable(f"{path}: a SQLite file, but not a log")
    if (version := _pragma(db, "user_version")) != FORMAT:
        raise LogUnusable(f"{path}: a log of format {version}; this program reads format {FORMAT}")


def _make_log(db: sqlite3.Connection, path: Path, busy_timeout_ms: int) -> None:
    db.execute(_NEW_FILE)
    mode = execute_patiently(db, "PRAGMA journal_mode = WAL", busy_timeout_ms).fetchone()[0]
    if mode != "wal":
        raise LogUnusable(f"{path}: this file system cannot hold a write-ahead log (it offers {mode!r})")
    execute_patiently(db, "BEGIN IMMEDIATE", busy_timeout_ms)
    if _is_empty(db):  # another process may have been first
        for statement in _TABLES:
            db.execute(statement)
    db.execute("COMMIT")
