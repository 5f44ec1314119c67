"""Owns the topic of refused messages: what could not be understood becomes rows of the quarantine."""

import time
from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from schema.messages import Refused
from schema.record import CorruptRecordError, decode
from schema.rows import QuarantineRow
from schema.topics import REFUSED
from streams.effects import Effects
from streams.guarded import Guarded
from streams.layout import Layout
from streams.processor import LogRecord
from streams.quarantine import corrupt_record, quarantine_row
from streams.sift import REFUSALS, sift
from streams.upsert import upsert

TELL_EVERY_S = 60.0

log = structlog.get_logger()


class RefusedOwner:
    """The processor of the refused topic: each message becomes a row of the quarantine, once."""

    def __init__(self, database_url: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.database_url = database_url
        self.quarantined: Counter[str] = Counter()
        """Messages since the start, by reason."""
        self._told: Counter[str] = Counter()
        self._told_at = -TELL_EVERY_S
        self._monotonic = monotonic
        self._owned: dict[int, Guarded] = {}

    async def take_over(self, partition: int, epoch_hint: int | None) -> int:
        """See `streams.processor.Processor`; there is no state, so recomputing is never needed."""
        del epoch_hint
        if partition in self._owned:
            await self.give_up(partition, orderly=False)
        guarded = Guarded(self.database_url, REFUSED, partition)

        async def load() -> None:
            async with guarded.connection.transaction():
                await guarded.become_owner()

        await guarded.take_over(load)
        self._owned[partition] = guarded
        return guarded.progress.next_offset

    async def process(self, partition: int, records: Sequence[LogRecord]) -> None:
        """See `streams.processor.Processor`."""
        guarded = self._owned[partition]
        effects = Effects()
        for record in records:
            try:
                entries = decode(record.value)
            except CorruptRecordError as error:
                self._put(effects, corrupt_record(f"log/{partition}", record, str(error)))
                continue
            for entry in entries if isinstance(entries, tuple) else ():
                if isinstance(entry, Refused):
                    self._put(effects, quarantine_row(entry))
        following = records[-1].offset + 1
        try:
            await guarded.commit(following, None, lambda connection: upsert(connection, effects.rows.values()))
        except REFUSALS:
            if not await sift(guarded.connection, partition, effects, Layout({})):
                raise
            await guarded.commit(following, None, lambda connection: upsert(connection, effects.rows.values()))
        self._tell()

    def _put(self, effects: Effects, row: QuarantineRow) -> None:
        effects.put([row])
        self.quarantined[row.reason] += 1

    def _tell(self) -> None:
        """One line for all that came since the last one, and not more than one a minute."""
        if (now := self._monotonic()) - self._told_at >= TELL_EVERY_S and self.quarantined != self._told:
            log.warning("refused, in quarantine", **dict(self.quarantined - self._told))
            self._told, self._told_at = self.quarantined.copy(), now

    async def look(self, partition: int) -> None:
        """See `streams.processor.Processor`."""
        await self._owned[partition].look()

    async def suspend(self, partition: int) -> None:
        """See `streams.processor.Processor`; nothing is in memory that is not in the database."""

    async def give_up(self, partition: int, *, orderly: bool) -> None:
        """See `streams.processor.Processor`."""
        del orderly
        if (guarded := self._owned.pop(partition, None)) is not None:
            await guarded.close()
