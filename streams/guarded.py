"""A partition's place in the database: the one transaction that moves it on, guarded by offset and epoch, and retried.

A database that goes away takes nothing with it: what is to be written stays in memory until it is committed, so the
same transaction is tried again on a new connection, with growing pauses, and everything behind it waits. Three things
may have happened to a commit whose answer was lost: it is there, it is not, or (with `synchronous_commit` off, after a
crash) it and commits before it are gone. Only then is the state in memory ahead of the database, and the worker must
start again from the newest cut.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import psycopg
import structlog

from streams.connecting import Connection, connect
from streams.processor import Fenced
from streams.stats import OwnerStats
from streams.upsert import instant

RETRY_FIRST_S = 0.1
RETRY_MAX_S = 2.0
LOCK_WITHIN_MS = 1000

T = TypeVar("T")

log = structlog.get_logger()


class CommitsLost(RuntimeError):
    """The database came back without commits that it had answered: the state in memory is ahead of it."""


@dataclass(slots=True)
class Progress:
    """How far a partition is in the database, as its owner knows it."""

    epoch: int
    next_offset: int
    """Effects of all records before it are committed."""


class Guarded:
    """The owner's connection for one partition; `prepare` is SQL for each new session, such as temporary tables."""

    def __init__(
        self, database_url: str, topic: str, partition: int, prepare: str = "", stats: OwnerStats | None = None
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.progress = Progress(0, 0)
        self.stats = stats or OwnerStats()
        self._name = f"wardwatch {topic}/{partition}"[:63]  # by which a successor finds our session
        self._database_url = psycopg.conninfo.make_conninfo(database_url, application_name=self._name)
        self._prepare = prepare
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """The open connection."""
        assert self._connection is not None
        return self._connection

    async def open(self) -> Self:
        """Connect."""
        self._connection = await connect(self._database_url, self._prepare)
        return self

    async def take_over(self, load: Callable[[], Awaitable[T]]) -> T:
        """Connect and return what `load` returns, which becomes the owner; all of it again if the database is away."""

        async def attempt(_again: bool) -> T:
            await self.close()
            await self.open()
            return await load()

        try:
            return await self._patiently("cannot be read", "can be read", attempt)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the connection; nothing if there is none."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def become_owner(self) -> tuple[int, str]:
        """Raise the epoch within the open transaction; return the offset of the newest cut, and what wrote it.

        That transaction waits for the disk: a crash must not give the same epoch to two owners.
        """
        await self.connection.execute("SET LOCAL synchronous_commit = on")
        await self.connection.execute(f"SET LOCAL lock_timeout = {LOCK_WITHIN_MS}".encode())
        try:
            async with self.connection.transaction():
                epoch, offset, cut, written_by = await self._raise_epoch()
        except psycopg.errors.LockNotAvailable:
            await self._end_predecessor()
            epoch, offset, cut, written_by = await self._raise_epoch()
        self.progress = Progress(epoch, offset)
        return cut, written_by

    async def _raise_epoch(self) -> tuple[int, int, int, str]:
        cursor = await self.connection.execute(
            "INSERT INTO partition_progress (topic, partition, epoch, next_offset, snapshot_offset, written_by)"
            " VALUES (%s, %s, 1, 0, 0, '')"
            " ON CONFLICT (topic, partition) DO UPDATE SET epoch = partition_progress.epoch + 1"
            " RETURNING epoch, next_offset, snapshot_offset, written_by",
            (self.topic, self.partition),
        )
        row: tuple[int, int, int, str] | None = await cursor.fetchone()
        assert row is not None
        return row

    async def _end_predecessor(self) -> None:
        """End the session of an owner that was stopped inside a transaction: within a COPY no timeout reaches it."""
        log.warning("the owner before holds its lock, its session is ended", topic=self.topic, partition=self.partition)
        await self.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = %s AND datname = current_database() AND pid <> pg_backend_pid()",
            (self._name,),
        )

    async def is_ours(self) -> bool:
        """Whether the database, once it answers, is where we left it and nobody else has become the owner since."""

        async def look(_again: bool) -> bool:
            await self._reconnected(self.progress.next_offset)
            return await self._look(self.connection) == (self.progress.epoch, self.progress.next_offset)

        try:
            return await self._patiently("does not answer", "answers", look)
        except (Fenced, CommitsLost):
            return False

    async def _look(self, connection: Connection) -> tuple[int, int]:
        cursor = await connection.execute(
            "SELECT epoch, next_offset FROM partition_progress WHERE topic = %s AND partition = %s",
            (self.topic, self.partition),
        )
        return await cursor.fetchone() or (0, 0)

    async def commit(self, to: int, time_ms: int | None, write: Callable[[Connection], Awaitable[object]]) -> None:
        """Have `write` write its rows and move the offset on to `to`, in one transaction; again until that succeeds.

        Raises:
            Fenced: another has become the owner.
            CommitsLost: see the class.
            psycopg.Error: the database answers, and refuses what is written.
        """

        async def attempt(again: bool) -> None:
            if again and await self._reconnected(to):
                return
            try:
                async with self.connection.transaction():
                    await self._advance(to, time_ms)
                    await write(self.connection)
            except Fenced:
                # The session before may have committed only after it was asked whether it had.
                if not again or not self._reached(*await self._look(self.connection), to):
                    raise

        await self._patiently("does not commit", "commits", attempt)
        self.progress.next_offset = to

    async def _patiently(self, fails: str, works: str, attempt: Callable[[bool], Awaitable[T]]) -> T:
        """Return what `attempt` returns, which is told whether it is made again: until the database is there."""
        pause_s, since_s = 0.0, time.monotonic()
        told = log.bind(topic=self.topic, partition=self.partition)
        while True:
            try:
                found = await attempt(pause_s > 0)
            except psycopg.Error as error:
                if not self._passes(error):
                    raise
                pause_s = min(2 * pause_s, RETRY_MAX_S) or RETRY_FIRST_S
                self.stats.retries += 1
                told.warning(f"the database {fails}, trying again", pause_s=pause_s, error=one_line(error))
            else:
                if pause_s:
                    told.info(f"the database {works} again", away_s=round(time.monotonic() - since_s, 1))
                return found
            await asyncio.sleep(pause_s)

    async def look(self) -> None:
        """Ask, while there is nothing to commit, whether the database is there, and whether it has what it answered.

        One that is away is asked again the next time.

        Raises:
            Fenced: another has become the owner.
            CommitsLost: see the class.
        """
        try:
            if not await self._reconnected(self.progress.next_offset):
                await self._look(self.connection)
        except psycopg.Error as error:
            if not self._passes(error):
                raise

    async def read(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]] | None:
        """Return the rows of a query, outside of any transaction; None while the database is away.

        Raises:
            Fenced, CommitsLost: as `look`.
        """
        try:
            await self._reconnected(self.progress.next_offset)
            cursor = await self.connection.execute(query.encode(), values)
            return await cursor.fetchall()
        except psycopg.Error as error:
            if not self._passes(error):
                raise
            return None

    def _passes(self, error: psycopg.Error) -> bool:
        """Whether the same may succeed later: the connection is gone, or the server lacks something for a while."""
        return isinstance(error, psycopg.OperationalError) or (
            self._connection is not None and self._connection.closed
        )

    async def _reconnected(self, to: int) -> bool:
        """Connect anew where that is needed; whether a commit whose answer was lost has reached `to` already."""
        if self._connection is not None and not self._connection.closed:
            return False
        connection = await connect(self._database_url, self._prepare)
        try:
            reached = self._reached(*await self._look(connection), to)
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        return reached

    def _reached(self, epoch: int, offset: int, to: int) -> bool:
        """Whether the database, at `offset` of `epoch`, is at `to`; an error if it is not where we left it either."""
        if epoch > self.progress.epoch:
            raise self._fenced()
        if epoch < self.progress.epoch or offset not in (self.progress.next_offset, to):
            raise CommitsLost(
                f"{self.topic}/{self.partition}: the database came back at offset {offset} of epoch {epoch}, behind"
                f" {self.progress.next_offset} of epoch {self.progress.epoch}; starting again from the newest cut"
            )
        return bool(offset == to != self.progress.next_offset)

    async def _advance(self, to: int, time_ms: int | None) -> None:
        cursor = await self.connection.execute(
            "UPDATE partition_progress SET next_offset = %s, partition_time = coalesce(%s, partition_time),"
            " updated_at = now() WHERE topic = %s AND partition = %s AND next_offset = %s AND epoch = %s",
            (
                to,
                instant(time_ms) if time_ms else None,
                self.topic,
                self.partition,
                self.progress.next_offset,
                self.progress.epoch,
            ),
        )
        if cursor.rowcount != 1:
            raise self._fenced()

    def _fenced(self) -> Fenced:
        return Fenced(
            f"{self.topic}/{self.partition} at offset {self.progress.next_offset} belongs to another worker now"
        )


def one_line(error: Exception) -> str:
    """Return an error's text without line breaks."""
    return " ".join(str(error).split()) or repr(error)
