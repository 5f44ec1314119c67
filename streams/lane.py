"""One owned partition inside a worker: a bounded queue, and a task that hands its records over in groups.

The task takes one record and then what is waiting already, up to `GROUP`: no timer, so a busy line gets large
transactions and an idle one no delay. What Faust delivers is not trusted: after a seek or a rebalance it repeats
records, and it can leave some out. The lane knows the offset that comes next; what lies below is dropped and counted,
what lies above makes it seek back. A seek that brings nothing is repeated by the watchdog, and when that does not help
either, the lane gives up loudly: a record that is really missing must not be passed over.

A record may have to wait for what another partition does first (`streams.processor.Waits`). All partitions come in one
stream, so a lane that waits must not hold it up: when its queue is full, it lets go of what it has and of what comes,
has no more of it read, and afterwards reads again from where it is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from streams.processor import LogRecord, Processor, Waits

GROUP = 32
WAITING = 2 * GROUP
FRUITLESS_SEEKS = 5
LOOK_AFTER_S = 1.0
"""An idle lane has its processor look at the database so often."""
WAIT_FIRST_S = 0.005
WAIT_MAX_S = 0.25
"""A record that has to wait is tried again after pauses that grow from one to the other."""

logger = logging.getLogger(__name__)


class OffsetsMissing(Exception):
    """The log has records beyond the expected offset, but not that one, however often it is asked for."""


@dataclass(slots=True)
class LaneStats:
    """What was noticed about one partition since this process began, however often it came and went."""

    processed: int = 0
    """Records handed over and done with."""
    groups: int = 0
    repeated: int = 0
    """Records dropped because they had been processed before."""
    seeks: int = 0
    """Times that records were missing and the log was read again from the one expected."""
    waits: int = 0
    """Times that a record had to wait for another partition."""
    waited_s: float = 0.0
    """How long it had to, all together."""
    expected: int = 0
    """Next offset to be processed."""
    end: int = 0
    """Next offset to be appended, as far as is known; what lies between is the lag."""
    owned: bool = False
    stood_still_s: float = 0.0
    """How long the newest hand-over took, from the last record before it until records flow again."""


class Lane:
    """The way of one partition's records from Faust's agent to its processor.

    `seek` asks the broker for an offset; `pause` has no more of the partition read, until the next seek. `expected` is
    the next offset to be processed; it moves when `process` has returned. `drained` says that everything that was put
    has been processed, or waits for another partition: `process` was not broken off. `stats` is counted on.
    """

    def __init__(
        self,
        name: str,
        partition: int,
        processor: Processor,
        expected: int,
        seek: Callable[[int], Awaitable[None]],
        stats: LaneStats | None = None,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.partition = partition
        self.expected = expected
        self.drained = False
        self.stats = stats or LaneStats()
        self.stats.expected = expected
        self._processor = processor
        self._seek = seek
        self._pause = pause
        self._queue: asyncio.Queue[LogRecord | None] = asyncio.Queue(WAITING)
        self._closing = False
        self._closed = asyncio.Event()
        self._waits = False
        self._let_go = False
        self._sought_for: int | None = None  # the expected offset that a seek was made for, until it arrives
        self._busy = False
        self._fruitless = 0
        self._last_look = -1
        self._told_at = 0.0

    @property
    def full(self) -> bool:
        """Whether `put` would wait, and with it everything that comes to other lanes."""
        return self._queue.full() and not self._waits

    async def put(self, record: LogRecord) -> None:
        """Wait for room; that is how a slow database slows the reading down."""
        if self._waits and self._queue.full():
            self._give_way()
        if not (self._closing or self._let_go):
            await self._queue.put(record)

    def close(self) -> None:
        """Take nothing more; `run` returns when what is waiting is processed."""
        self._closing = True
        self._closed.set()
        with suppress(asyncio.QueueFull):  # a full queue wakes it as well
            self._queue.put_nowait(None)

    async def run(self) -> None:
        """Process what comes until `close`; ends with the processor's exception if it raises one."""
        try:
            while not (self._closing and self._queue.empty()):
                group = await self._next_group()
                ready, missing = self._in_order(group)
                if ready and not await self._process(ready):
                    break
                if missing and not self._closing and self._sought_for != self.expected:
                    await self._seek_back()
            self.drained = True
        finally:
            self._abandon()

    async def _process(self, ready: list[LogRecord]) -> bool:
        """Whether they are processed; if not, the lane was closed while one had to wait."""
        self._busy = True
        rest = await self._hand_over(ready)
        if rest:
            rest = await self._wait(rest)
        self._busy = False
        return not rest

    async def _hand_over(self, ready: list[LogRecord]) -> list[LogRecord]:
        """Return those that have to wait."""
        done = len(ready)
        try:
            await self._processor.process(self.partition, ready)
        except Waits as waits:
            done = waits.offset - ready[0].offset
        if done:
            self.expected = self.stats.expected = ready[done - 1].offset + 1
            self.stats.processed += done
            self.stats.groups += 1
        return ready[done:]

    async def _wait(self, rest: list[LogRecord]) -> list[LogRecord]:
        """Try again and again; return what is left when the lane is closed meanwhile."""
        since_s, pause_s = time.monotonic(), WAIT_FIRST_S
        self.stats.waits += 1
        self._waits = True
        if self._queue.full():
            self._give_way()
        while rest and not self._closing:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._closed.wait()
            pause_s = min(1.5 * pause_s, WAIT_MAX_S)
            if not self._closing:
                rest = await self._hand_over(rest)
        self._waits = False
        self.stats.waited_s += time.monotonic() - since_s
        if self._let_go and not self._closing:
            self._let_go = False
            await self._seek_back()
        return rest

    def _give_way(self) -> None:
        """Let others pass: what waits is read again later."""
        self._let_go = True
        self._empty()
        self._pause()

    def _empty(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()

    def _abandon(self) -> None:
        """Let nobody wait for room that nobody will make."""
        self._closing = True
        self._empty()

    async def watch(self, end: int, told_at: float) -> None:
        """Seek again if nothing was processed since the last call although the log goes on to offset `end`.

        The log told so at `told_at`, by any clock. Where it has told nothing since the last call, as no broker answers,
        there is nothing but to wait. `OffsetsMissing` when seeking was in vain several times.
        """
        told, self._told_at = told_at != self._told_at, told_at
        if self._closing:
            return
        self.stats.end = max(end, self.expected)
        standing = self.expected == self._last_look and not self._busy
        self._last_look = self.expected
        if not standing or end <= self.expected:
            self._fruitless = 0
            return
        if not told:
            return
        self._fruitless += 1
        if self._fruitless > FRUITLESS_SEEKS:
            raise OffsetsMissing(f"{self.name}: offset {self.expected} does not come, though the log ends at {end}")
        await self._seek_back()

    async def _seek_back(self) -> None:
        self.stats.seeks += 1
        self._sought_for = self.expected
        logger.warning("%s: records are missing, reading again from offset %d", self.name, self.expected)
        await self._seek(self.expected)

    async def _first(self) -> LogRecord | None:
        while True:
            try:
                async with asyncio.timeout(LOOK_AFTER_S):
                    return await self._queue.get()
            except TimeoutError:
                self._busy = True
                await self._processor.look(self.partition)
                self._busy = False

    async def _next_group(self) -> list[LogRecord]:
        group = [await self._first()]
        while len(group) < GROUP and not self._queue.empty():
            group.append(self._queue.get_nowait())
        return [record for record in group if record is not None]

    def _in_order(self, group: list[LogRecord]) -> tuple[list[LogRecord], bool]:
        """Return the records that continue the partition, and whether the next one is missing after them."""
        ready: list[LogRecord] = []
        missing = False
        for record in group:
            following = self.expected + len(ready)
            if record.offset == following:
                ready.append(record)
                missing = False
            elif record.offset < following:
                self.stats.repeated += 1
            else:
                missing = True
        return ready, missing
