"""What the worker asks of whoever processes a partition, and what it hands over. Nothing here knows Faust or a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of a partition: its offset there and its bytes as they were appended."""

    offset: int
    value: bytes


class Fenced(Exception):
    """Another worker has become the owner: what was to be written is not, and what is in memory is worth nothing."""


class Waits(Exception):
    """The record at `offset` has to wait for something that is not there yet; those before it are processed."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"the record at offset {offset} has to wait")
        self.offset = offset


class Processor(Protocol):
    """What the owner of a topic's partitions does with their records.

    For one partition the calls never overlap: `take_over`, then `process` and `look` any number of times, then
    `give_up`, or `suspend` and after it either `take_over` again or `give_up`. Calls for different partitions may
    overlap, each in a task of its own. An exception from any of them ends the worker; `Fenced` only where no other can
    take its place, `Waits` never.
    """

    async def take_over(self, partition: int, epoch_hint: int | None) -> int:
        """Become the owner: raise the epoch in the database, load the newest snapshot; return the next offset to read.

        That is the *snapshot's* offset, not the database's next one. What lies between is read again from the log and
        handed to `process` like everything else, and `process` mutes the effects of records below the database's
        next offset: recomputing needs no path of its own. `epoch_hint` is the broker's generation (the lease's epoch of
        the embedded log): it rises with every new owner.

        It waits for a database that is away, and may be cancelled at any await. Then, and if it fails, a partition that
        was not suspended is forgotten; for one that was, `give_up` or `take_over` follows.
        """

    async def process(self, partition: int, records: Sequence[LogRecord]) -> None:
        """Handle records of contiguous offsets, the first of them the expected one, in one transaction.

        `Fenced` if another has become the owner. `Waits` if some of them cannot be handled yet: these are handed over
        again a little later, and what was handled before is whole, as between two calls. It may be cancelled at any
        await: when the worker stops and its time has run out.
        """

    async def look(self, partition: int) -> None:
        """Called every second or so while nothing comes: notice that the database has lost what it had answered.

        A crash may take back the last commits; with nothing more to commit, nobody else would find out.
        """

    async def suspend(self, partition: int) -> None:
        """Leave what a successor needs to go on at once (a last snapshot), as the partition may go to another worker.

        What is in memory stays. `Fenced` if another is the owner already; then, and if this fails otherwise or is
        cancelled, `give_up` follows.
        """

    async def give_up(self, partition: int, *, orderly: bool) -> None:
        """Forget the partition, if it is not forgotten yet. `orderly`: a last snapshot may be written, as whatever was
        handed over is processed.

        `Fenced` if that finds another owner; the partition is forgotten all the same.
        """
