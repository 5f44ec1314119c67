"""Owns partitions of a topic on behalf of a worker: one transaction a group of records, guarded by offset and epoch."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psycopg
import structlog
from psycopg import AsyncConnection

from schema.catalogue import Catalogue
from schema.ids import derived_id
from schema.messages import Refused
from schema.record import CorruptRecordError, decode
from schema.rows import QuarantineRow
from schema.topics import REFUSED, TELEMETRY
from streams import snapshot
from streams.partition import Partition
from streams.processor import Fenced, LogRecord
from streams.telemetry_rows import STAGING, write_telemetry
from streams.upsert import instant, upsert

REGISTRY_CHANNEL = "wardwatch_registry"
"""Notified in each transaction that changes devices; the bridge listens."""
COMMANDS_CHANNEL = "wardwatch_commands"
"""Notified in each transaction that answers commands; the command line listens."""

_SESSION = (
    # What a crash of the database takes back is taken back whole, offset and effects, and follows from the log again.
    "SET synchronous_commit = off",
    # A worker that is stopped inside a transaction must not hold its row lock.
    "SET idle_in_transaction_session_timeout = '10s'",
    # The worker looks rows up by key only; without statistics the planner would read whole chunks.
    "SET enable_seqscan = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
)

log = structlog.get_logger()


class UpgradeError(RuntimeError):
    """A cut was written by another version and records follow it: only that version can recompute them."""


@dataclass(slots=True)
class Progress:
    """How far a partition is in the database, as this owner knows it."""

    epoch: int
    next_offset: int
    """Effects of all records before it are committed."""


@dataclass(slots=True)
class _Owned:
    connection: AsyncConnection[Any]
    progress: Progress
    partition: Partition
    snapshot_due: float = 0.0
    log: Any = field(default=None)


async def open_progress(connection: AsyncConnection[Any], topic: str, partition: int) -> tuple[Progress, int, str]:
    """Become the owner in the database; return progress, offset of the newest cut, and what wrote it."""
    await connection.execute(
        "INSERT INTO partition_progress (topic, partition, epoch, next_offset, snapshot_offset, written_by)"
        " VALUES (%s, %s, 0, 0, 0, '') ON CONFLICT DO NOTHING",
        (topic, partition),
    )
    cursor = await connection.execute(
        "UPDATE partition_progress SET epoch = epoch + 1 WHERE topic = %s AND partition = %s"
        " RETURNING epoch, next_offset, snapshot_offset, written_by",
        (topic, partition),
    )
    row = await cursor.fetchone()
    assert row is not None
    return Progress(row[0], row[1]), row[2], row[3]


async def advance(
    connection: AsyncConnection[Any], topic: str, partition: int, progress: Progress, to: int, time_ms: int | None
) -> None:
    """Move the offset on within the open transaction, if it is where we believe it and we are the owner.

    Raises:
        Fenced: another has become the owner.
    """
    cursor = await connection.execute(
        "UPDATE partition_progress SET next_offset = %s, partition_time = coalesce(%s, partition_time),"
        " updated_at = now() WHERE topic = %s AND partition = %s AND next_offset = %s AND epoch = %s",
        (to, instant(time_ms) if time_ms else None, topic, partition, progress.next_offset, progress.epoch),
    )
    if cursor.rowcount != 1:
        raise Fenced(f"{topic}/{partition} at offset {progress.next_offset} belongs to another worker now")


class TelemetryOwner:
    """The processor of the telemetry topic: state in memory, effects and cuts in the database."""

    def __init__(
        self,
        database_url: str,
        catalogue: Catalogue,
        *,
        version: str,
        snapshot_every_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.database_url = database_url
        self.catalogue = catalogue
        fingerprint = hashlib.sha256(msgspec.json.encode(catalogue, order="deterministic")).hexdigest()[:12]
        self.version = f"{version} catalogue {fingerprint}"
        self.snapshot_every_s = snapshot_every_s
        self.monotonic = monotonic
        self._owned: dict[int, _Owned] = {}

    async def take_over(self, partition: int, epoch_hint: int | None) -> int:
        """See `streams.processor.Processor`."""
        connection = await connect(self.database_url)
        try:
            progress, cut, rows = await self._become_owner(connection, partition)
        except BaseException:
            await connection.close()
            raise
        try:
            state = snapshot.load(partition, self.catalogue, rows)
        except KeyError as error:
            await connection.close()
            raise UpgradeError(
                f"partition {partition} has devices of model {error}; the catalogue must have it"
            ) from error
        bound = log.bind(partition=partition)
        bound.info("took over", epoch=progress.epoch, hint=epoch_hint, cut=cut, recompute=progress.next_offset - cut)
        self._owned[partition] = _Owned(connection, progress, state, self.monotonic() + self.snapshot_every_s, bound)
        return cut

    async def _become_owner(
        self, connection: AsyncConnection[Any], partition: int
    ) -> tuple[Progress, int, dict[str, bytes]]:
        async with connection.transaction():
            progress, cut, written_by = await open_progress(connection, TELEMETRY, partition)
            if written_by not in ("", self.version) and cut != progress.next_offset:
                raise UpgradeError(
                    f"partition {partition} was left in the middle by {written_by!r}; this is {self.version!r}."
                    " Start that version once, stop it in order, then start this one"
                )
            cursor = await connection.execute(
                "SELECT key, state FROM state_snapshots WHERE topic = %s AND partition = %s", (TELEMETRY, partition)
            )
            rows = {key: state async for key, state in cursor}
            # From here on effects are this version's: only it can recompute them.
            await connection.execute(
                "UPDATE partition_progress SET written_by = %s WHERE topic = %s AND partition = %s",
                (self.version, TELEMETRY, partition),
            )
        await connection.execute(STAGING.encode())
        return progress, cut, rows

    async def process(self, partition: int, records: Sequence[LogRecord]) -> None:
        """See `streams.processor.Processor`."""
        owned = self._owned[partition]
        state, effects = owned.partition, owned.partition.effects
        for record in records:
            try:
                state.apply(decode(record.value))
            except CorruptRecordError as error:
                effects.put([_corrupt(partition, record, str(error))])
            if record.offset < owned.progress.next_offset:
                effects.clear()
        following = records[-1].offset + 1
        if following > owned.progress.next_offset:
            await self._commit(partition, owned, following)
        effects.clear()

    async def give_up(self, partition: int, *, orderly: bool) -> None:
        """See `streams.processor.Processor`."""
        owned = self._owned.pop(partition)
        try:
            if orderly:
                cut = snapshot.dump(owned.partition)
                async with owned.connection.transaction():
                    await advance(
                        owned.connection, TELEMETRY, partition, owned.progress, owned.progress.next_offset, None
                    )
                    await self._snapshot(partition, owned, owned.progress.next_offset, cut)
                owned.log.info("gave up", offset=owned.progress.next_offset)
        finally:
            await owned.connection.close()

    async def _commit(self, partition: int, owned: _Owned, following: int) -> None:
        connection, state = owned.connection, owned.partition
        effects = state.effects
        cut = snapshot.dump(state) if self.monotonic() >= owned.snapshot_due else None
        async with connection.transaction():
            await advance(connection, TELEMETRY, partition, owned.progress, following, state.shared.now_ms or None)
            await write_telemetry(connection, effects, state.layout)
            await upsert(connection, effects.rows.values())
            if effects.registry_changed:
                await connection.execute("SELECT pg_notify(%s, '')", (REGISTRY_CHANNEL,))
            if any(row.TABLE == "audit_log" for row in effects.rows.values()):
                await connection.execute("SELECT pg_notify(%s, '')", (COMMANDS_CHANNEL,))
            if cut is not None:
                await self._snapshot(partition, owned, following, cut)
        owned.progress.next_offset = following

    async def _snapshot(self, partition: int, owned: _Owned, offset: int, rows: dict[str, bytes]) -> None:
        async with owned.connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO state_snapshots (topic, partition, key, state) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (topic, partition, key) DO UPDATE SET state = excluded.state",
                [(TELEMETRY, partition, key, state) for key, state in rows.items()],
            )
            await cursor.execute(
                "UPDATE partition_progress SET snapshot_offset = %s, written_by = %s"
                " WHERE topic = %s AND partition = %s",
                (offset, self.version, TELEMETRY, partition),
            )
        owned.partition.changed.clear()
        owned.snapshot_due = self.monotonic() + self.snapshot_every_s


class RefusedOwner:
    """The processor of the refused topic: each message becomes a row of the quarantine, once."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self._owned: dict[int, tuple[AsyncConnection[Any], Progress]] = {}

    async def take_over(self, partition: int, epoch_hint: int | None) -> int:
        """See `streams.processor.Processor`; there is no state, so recomputing is never needed."""
        del epoch_hint
        connection = await connect(self.database_url)
        async with connection.transaction():
            progress, _, _ = await open_progress(connection, REFUSED, partition)
        self._owned[partition] = connection, progress
        return progress.next_offset

    async def process(self, partition: int, records: Sequence[LogRecord]) -> None:
        """See `streams.processor.Processor`."""
        connection, progress = self._owned[partition]
        rows: list[QuarantineRow] = []
        for record in records:
            try:
                entries = decode(record.value)
            except CorruptRecordError as error:
                rows.append(_corrupt(partition, record, str(error)))
                continue
            rows += [
                quarantine_row(entry)
                for entry in (entries if isinstance(entries, tuple) else ())
                if isinstance(entry, Refused)
            ]
        following = records[-1].offset + 1
        async with connection.transaction():
            await advance(connection, REFUSED, partition, progress, following, None)
            await upsert(connection, rows)
        progress.next_offset = following

    async def give_up(self, partition: int, *, orderly: bool) -> None:
        """See `streams.processor.Processor`."""
        del orderly
        connection, _ = self._owned.pop(partition)
        await connection.close()


async def connect(database_url: str) -> AsyncConnection[Any]:
    """Open an owner's connection: own transactions, no waiting for the disk, look-ups by key."""
    connection = await psycopg.AsyncConnection.connect(database_url, autocommit=True)
    for statement in _SESSION:
        await connection.execute(statement)
    return connection


def quarantine_row(refused: Refused) -> QuarantineRow:
    """Return the row of a refused message; topic and payload make its identity."""
    return QuarantineRow(
        quarantine_id=derived_id("quarantine", refused.topic, refused.sha256),
        topic=refused.topic,
        sha256=refused.sha256,
        received_at=refused.received_ms,
        reason=refused.reason,
        detail=refused.detail,
        length=refused.length,
        payload=refused.payload,
    )


def _corrupt(partition: int, record: LogRecord, detail: str) -> QuarantineRow:
    return quarantine_row(
        Refused(
            topic=f"log/{partition}/{record.offset}",
            sha256=hashlib.sha256(record.value).hexdigest(),
            received_ms=0,
            reason="corrupt_record",
            detail=detail,
            length=len(record.value),
            payload=record.value[:65536],
        )
    )
