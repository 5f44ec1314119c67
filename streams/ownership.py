"""The partitions a worker owns: taken over, each with its lane and the lane's task, watched, and given up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

from faust.types import TP

from streams.lane import Lane
from streams.processor import Processor

LOOK_EVERY_S = 2.0

logger = logging.getLogger(__name__)


class WrongLog(Exception):
    """The log does not continue what a processor knows: another log, or one whose records are gone."""


class Ownership:
    """The partitions this worker owns, each with its lane; failures of their tasks end up in `failed`."""

    def __init__(self, processors: Mapping[str, Processor]) -> None:
        self.lanes: dict[TP, Lane] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._processors = processors
        self._tasks: dict[TP, asyncio.Task[None]] = {}
        self._changing = asyncio.Lock()  # a take-over and a revocation never overlap

    async def take_over(self, consumer: Any, generation: int) -> None:
        """Take over what is assigned and not ours yet."""
        async with self._changing:
            for tp in sorted(consumer.assignment() - self.lanes.keys()):
                expected = await self._processors[tp.topic].take_over(tp.partition, generation)
                await _check_range(consumer, tp, expected)

                async def seek(offset: int, tp: TP = tp) -> None:
                    await consumer.seek_wait({tp: offset})

                lane = Lane(f"{tp.topic}/{tp.partition}", tp.partition, self._processors[tp.topic], expected, seek)
                self.lanes[tp] = lane
                self._tasks[tp] = asyncio.create_task(self.guarded(lane.run()), name=lane.name)

    async def give_up(self, tps: Iterable[TP], *, within_s: float, orderly: bool = True) -> None:
        """Drain the lanes (unless not `orderly`) and give the partitions up, all before `within_s` have passed."""
        async with self._changing:
            going = [tp for tp in tps if tp in self.lanes]
            tasks = [self._tasks[tp] for tp in going]
            deadline = asyncio.get_running_loop().time() + within_s
            for tp in going:
                self.lanes[tp].close()
            if tasks and orderly:
                await asyncio.wait(tasks, timeout=within_s / 2)
            drained = {tp: orderly and self._tasks[tp].done() and not self.failed.done() for tp in going}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            try:
                async with asyncio.timeout_at(deadline):
                    for tp in going:
                        await self.guarded(self._processors[tp.topic].give_up(tp.partition, orderly=drained[tp]))
            except TimeoutError:
                logger.warning("no time left for the last snapshots: the next start recomputes")
            for tp in going:
                del self.lanes[tp], self._tasks[tp]

    async def watch(self, consumer: Any) -> None:
        """Every so often, commit what is processed and look for lanes that wait for records in vain."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            offsets = {tp: lane.expected for tp, lane in self.lanes.items()}
            if offsets:
                await consumer._commit(offsets)
            if not any(lane.full for lane in self.lanes.values()):
                for tp, lane in self.lanes.items():
                    await lane.watch(consumer.highwater(tp) or 0)

    def fail(self, error: BaseException) -> None:
        """Let `failed` tell of the first error."""
        if not self.failed.done():
            self.failed.set_exception(error)

    async def guarded(self, work: Awaitable[None]) -> None:
        """Let `failed` tell of an error of `work`, and of a cancellation that nobody has asked for."""
        task = asyncio.current_task()
        try:
            await work
        except asyncio.CancelledError as error:
            if task is not None and not task.cancelling():
                self.fail(RuntimeError(f"{task.get_name()} was cancelled from within: {error!r}"))
            raise
        except Exception as error:
            self.fail(error)


async def _check_range(consumer: Any, tp: TP, expected: int) -> None:
    """`WrongLog` unless the log holds what comes next."""
    start, end = (await consumer.earliest_offsets(tp))[tp], (await consumer.highwaters(tp))[tp]
    if not start <= expected <= end:
        raise WrongLog(
            f"{tp.topic}/{tp.partition}: the state continues at offset {expected}, but the log holds [{start}, {end});"
            " they do not belong together"
        )
