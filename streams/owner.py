"""Owns partitions of a topic on behalf of a worker: one transaction a group of records, guarded by offset and epoch."""

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from schema.catalogue import Catalogue
from schema.record import CorruptRecordError, Record, TelemetryRecord, Tick, decode
from schema.rows import AlertEventRow, AlertRow, FleetRow, Row
from schema.topics import TELEMETRY
from streams import snapshot
from streams.connecting import Connection
from streams.effects import Effects
from streams.exchange import Exchange
from streams.guarded import Guarded
from streams.partition import Partition
from streams.processor import Fenced, LogRecord, Waits
from streams.quarantine import corrupt_record
from streams.sift import REFUSALS, sift
from streams.stats import OwnerStats, PartitionStatus
from streams.telemetry_rows import STAGING, write_telemetry
from streams.ticks import closed_day, time_after
from streams.upsert import upsert

REGISTRY_CHANNEL = "wardwatch_registry"
"""Notified in each transaction that changes devices; the bridge listens."""
COMMANDS_CHANNEL = "wardwatch_commands"
"""Notified in each transaction that answers commands; the command line listens."""
SLOW_SNAPSHOT_S = 2.0
SNAPSHOTS_SHARE = 0.05
"""At most so much of a partition's time goes into snapshots: with many devices they come less often."""

log = structlog.get_logger()


class UpgradeError(RuntimeError):
    """A cut was written by another version and records follow it: only that version can recompute them."""


@dataclass(slots=True)
class _Owned:
    guarded: Guarded
    partition: Partition
    exchange: Exchange
    next_offset: int
    """What the state takes next; behind the database's while recomputing."""
    cut_offset: int
    """Where the newest cut is."""
    snapshot_due: float = 0.0
    newest_ms: int = 0
    log: Any = field(default=None)

    @property
    def connection(self) -> Connection:
        return self.guarded.connection


class TelemetryOwner:
    """The processor of the telemetry topic: state in memory, effects and cuts in the database.

    `partitions` is how many the topic has; `fleet_wait_s` how long each may wait for the others, see
    `streams.exchange`.
    """

    def __init__(
        self,
        database_url: str,
        catalogue: Catalogue,
        *,
        version: str,
        snapshot_every_s: float,
        partitions: int = 1,
        fleet_wait_s: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.database_url = database_url
        self.catalogue = catalogue
        fingerprint = hashlib.sha256(msgspec.json.encode(catalogue, order="deterministic")).hexdigest()[:12]
        self.version = f"{version} catalogue {fingerprint}"
        self.snapshot_every_s = snapshot_every_s
        self.partitions = partitions
        self.fleet_wait_s = fleet_wait_s
        self.monotonic = monotonic
        self.stats = OwnerStats()
        self._owned: dict[int, _Owned] = {}

    def status(self) -> list[PartitionStatus]:
        """Where each owned partition is; may be asked from another thread."""
        return [
            PartitionStatus(
                partition=number,
                epoch=owned.guarded.progress.epoch,
                next_offset=owned.guarded.progress.next_offset,
                time_ms=owned.partition.shared.now_ms,
                newest_ms=owned.newest_ms,
                open_alerts=owned.partition.shared.desk.open_alerts(),
                counts=dict(owned.partition.shared.counts),
            )
            for number, owned in sorted(dict(self._owned).items())
        ]

    async def take_over(self, partition: int, epoch_hint: int | None) -> int:
        """See `streams.processor.Processor`; a suspended partition goes on from memory if nobody was in between."""
        if (suspended := self._owned.get(partition)) is not None:
            if await suspended.guarded.is_ours():
                suspended.log.info("goes on", offset=suspended.next_offset, hint=epoch_hint)
                return suspended.next_offset
            await self.give_up(partition, orderly=False)
        guarded = Guarded(self.database_url, TELEMETRY, partition, STAGING, self.stats)

        async def load() -> tuple[int, Partition]:
            cut = await self._become_owner(guarded)
            return cut, await snapshot.fetch(guarded.connection, partition, self.catalogue)

        try:
            cut, state = await guarded.take_over(load)
        except KeyError as error:
            raise UpgradeError(
                f"partition {partition} has devices of model {error}; the catalogue must have it"
            ) from error
        progress = guarded.progress
        bound = log.bind(partition=partition)
        bound.info("took over", epoch=progress.epoch, hint=epoch_hint, cut=cut, recompute=progress.next_offset - cut)
        exchange = Exchange(guarded, self.partitions, self.fleet_wait_s, self.monotonic)
        due = self.monotonic() + self.snapshot_every_s
        self._owned[partition] = _Owned(guarded, state, exchange, cut, cut, due, log=bound)
        return cut

    async def _become_owner(self, guarded: Guarded) -> int:
        connection, partition = guarded.connection, guarded.partition
        async with connection.transaction():
            cut, written_by = await guarded.become_owner()
            if written_by not in ("", self.version) and cut != guarded.progress.next_offset:
                raise UpgradeError(
                    f"partition {partition} was left in the middle by {written_by!r}; this is {self.version!r}."
                    " Start that version with its catalogue once, stop it in order (last snapshots may take a minute),"
                    " then start this one"
                )
            # From here on effects are this version's: only it can recompute them.
            await connection.execute(
                "UPDATE partition_progress SET written_by = %s WHERE topic = %s AND partition = %s",
                (self.version, TELEMETRY, partition),
            )
        return cut

    async def process(self, partition: int, records: Sequence[LogRecord]) -> None:
        """See `streams.processor.Processor`."""
        owned, stats = self._owned[partition], self.stats
        effects = owned.partition.effects
        committed = owned.guarded.progress.next_offset
        waits = False
        for record in records:
            if not await self._apply(owned, record, record.offset < committed):
                waits = True
                break
            stats.records += 1
            stats.record_bytes += len(record.value)
            owned.next_offset = record.offset + 1
            if record.offset < committed:
                stats.recomputed += 1
                effects.clear()
        if owned.next_offset > committed:
            await self._commit(partition, owned, owned.next_offset)
            stats.transaction_records.observe(owned.next_offset - committed)
        effects.clear()
        if waits:
            raise Waits(owned.next_offset)

    async def _apply(self, owned: _Owned, record: LogRecord, again: bool) -> bool:
        """Apply a record, maybe once `again`; False if it has to wait for other partitions."""
        state = owned.partition
        try:
            decoded = decode(record.value)
        except CorruptRecordError as error:
            self.stats.corrupt += 1
            state.effects.put([corrupt_record(f"log/{state.number}", record, str(error))])
            return True
        given = None
        if isinstance(decoded, Tick):
            fleet, day = state.shared.fleet, closed_day(time_after(state, decoded))
            if fleet.asks(day):
                given = await owned.exchange.ask(fleet, day, again=again)
                if given is None:
                    return False
        owned.newest_ms = max(owned.newest_ms, _at_ms(decoded))
        state.apply(decoded, given)
        return True

    async def look(self, partition: int) -> None:
        """See `streams.processor.Processor`."""
        await self._owned[partition].guarded.look()

    async def suspend(self, partition: int) -> None:
        """See `streams.processor.Processor`; a state that is still being recomputed leaves the cut that there is."""
        owned = self._owned[partition]
        offset = owned.guarded.progress.next_offset
        if owned.next_offset < offset or owned.cut_offset == offset:
            return
        begun_s, cut = await self._dump(owned)

        async def write(connection: Connection) -> None:
            # The offset stands still, so nobody would notice that a crash of the database has taken this cut back.
            await connection.execute("SET LOCAL synchronous_commit = on")
            await self._write_snapshot(owned, offset, cut)

        try:
            await owned.guarded.commit(offset, None, write)
        except Fenced:
            self.stats.fenced += 1
            raise
        self._snapshot_written(owned, begun_s, cut)

    async def give_up(self, partition: int, *, orderly: bool) -> None:
        """See `streams.processor.Processor`."""
        if (owned := self._owned.get(partition)) is None:
            return
        try:
            if orderly:
                await self.suspend(partition)
                owned.log.info("gave up", offset=owned.next_offset)
        finally:
            del self._owned[partition]
            await owned.guarded.close()

    async def _commit(self, partition: int, owned: _Owned, following: int) -> None:
        state, stats = owned.partition, self.stats
        effects = state.effects
        begun_s, cut = await self._dump(owned) if self.monotonic() >= owned.snapshot_due else (0.0, None)
        readings = 0

        async def write(connection: Connection) -> None:
            nonlocal readings
            readings = await write_telemetry(connection, effects, state.layout)
            await upsert(connection, effects.rows.values())
            if effects.registry_changed:
                # The bridge acts upon it: a device that was taken back with a crash would be refused as unknown.
                await connection.execute("SET LOCAL synchronous_commit = on")
                await connection.execute("SELECT pg_notify(%s, '')", (REGISTRY_CHANNEL,))
            if any(isinstance(row, FleetRow) and row.missed for row in effects.rows.values()):
                # Others may build upon what followed from this decision: a crash must not have it made anew.
                await connection.execute("SET LOCAL synchronous_commit = on")
            if any(row.TABLE == "audit_log" for row in effects.rows.values()):
                await connection.execute("SELECT pg_notify(%s, '')", (COMMANDS_CHANNEL,))
            if effects.repeated:
                await connection.execute(
                    "UPDATE partition_progress SET repeated = repeated + %s WHERE topic = %s AND partition = %s",
                    (effects.repeated, TELEMETRY, partition),
                )
            if cut is not None:
                await self._write_snapshot(owned, following, cut)

        transaction_s = self.monotonic()
        try:
            await owned.guarded.commit(following, state.shared.now_ms or None, write)
        except Fenced:
            stats.fenced += 1
            raise
        except REFUSALS as error:
            tables = await sift(owned.connection, partition, effects, state.layout)
            if not tables:
                raise
            stats.refused.update(tables)
            owned.log.error("the database refuses values, in quarantine", tables=sorted(set(tables)), error=str(error))
            await owned.guarded.commit(following, state.shared.now_ms or None, write)
        stats.transaction_s.observe(self.monotonic() - transaction_s)
        stats.transaction_readings.observe(readings)
        self._count(effects, readings)
        if cut is not None:
            self._snapshot_written(owned, begun_s, cut)

    async def _dump(self, owned: _Owned) -> tuple[float, dict[str, bytes]]:
        return self.monotonic(), await snapshot.dump_in_slices(owned.partition)

    async def _write_snapshot(self, owned: _Owned, offset: int, rows: dict[str, bytes]) -> None:
        partition = owned.guarded.partition
        await snapshot.store(owned.connection, partition, rows)
        await owned.connection.execute(
            "UPDATE partition_progress SET snapshot_offset = %s, fleet_since = %s, written_by = %s"
            " WHERE topic = %s AND partition = %s",
            (offset, owned.partition.shared.fleet.since(), self.version, TELEMETRY, partition),
        )

    def _snapshot_written(self, owned: _Owned, begun_s: float, rows: dict[str, bytes]) -> None:
        owned.partition.changed.clear()
        owned.cut_offset = owned.guarded.progress.next_offset
        took_s, size = self.monotonic() - begun_s, sum(map(len, rows.values()))
        owned.snapshot_due = self.monotonic() + max(self.snapshot_every_s, took_s / SNAPSHOTS_SHARE)
        self.stats.snapshots += 1
        self.stats.snapshot_rows += len(rows)
        self.stats.snapshot_bytes += size
        self.stats.snapshot_s.observe(took_s)
        if took_s > SLOW_SNAPSHOT_S:
            owned.log.warning("a snapshot took long", seconds=round(took_s, 1), rows=len(rows), bytes=size)

    def _count(self, effects: Effects, readings: int) -> None:
        stats = self.stats
        stats.transactions += 1
        stats.readings += readings
        stats.faults += len(effects.faults)
        stats.rollups += effects.filled
        stats.rows += len(effects.rows)
        stats.repeated += effects.repeated
        stats.found.update(effects.found)
        stats.fired.update(_fired(effects.rows.values()))


def _at_ms(record: Record) -> int:
    match record:
        case TelemetryRecord():
            return record.receive_ms
        case Tick():
            return record.at_ms
    return 0


def _fired(rows: Iterable[Row]) -> list[str]:
    """Severities of the alerts that began to fire, as their rows stand now."""
    kept = list(rows)
    fired = {row.alert_id for row in kept if isinstance(row, AlertEventRow) and row.to_state == "firing"}
    return [row.severity for row in kept if isinstance(row, AlertRow) and row.alert_id in fired]
