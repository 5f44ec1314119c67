"""The partitions a worker owns: taken over, each with its lane and the lane's task, watched, and given up.

Where several workers share the partitions, every change among them takes all partitions from all workers for a moment
and hands them out anew; most come back to where they were. So what is revoked is only suspended: drained, with a last
cut in the database for whoever comes next, its state still in memory. What comes back is taken over again, and its
processor finds out by the database whether anybody was in between; what does not come back is given up. State may take
longer to load than a change among the workers may last, so a load is a task, which the next change breaks off at once.

A fenced partition (its worker was taken for dead) is left alone at once. Where the broker can hand out partitions
anew it is asked to, and the worker goes on with what it gets, loaded from the database; else the worker ends. It ends
as well when that happens again and again: then somebody else writes the same database.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from faust.types import TP

from streams.lane import Lane, LaneStats
from streams.processor import Fenced, Processor

LOOK_EVERY_S = 2.0
FENCED_AT_MOST = 3
FENCED_WITHIN_S = 60.0

logger = logging.getLogger(__name__)


class WrongLog(Exception):
    """The log does not continue what a processor knows: another log, or one whose records are gone."""


@dataclass(slots=True)
class WorkerStats:
    """What a worker counts since it began; written by its one thread, to be read by others."""

    lanes: dict[TP, LaneStats] = field(default_factory=dict)
    """By topic and partition, also of what is owned no more."""
    rebalances: int = 0
    """Times that partitions were handed out to us, the first included."""
    fenced: int = 0
    """Times that another worker was found to own one of our partitions."""


class Ownership:
    """The partitions this worker owns, each with its lane; failures of their tasks end up in `failed`.

    `assigned` is what the broker says is ours; `lanes` follow it, by `take_over` and `revoke`.
    """

    def __init__(self, processors: Mapping[str, Processor], stats: WorkerStats | None = None) -> None:
        self.assigned: frozenset[TP] = frozenset()
        self.lanes: dict[TP, Lane] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stats = stats or WorkerStats()
        self._processors = processors
        self._tasks: dict[TP, asyncio.Task[None]] = {}
        self._held: set[TP] = set()  # without a lane, but their processor has their state in memory
        self._loading: asyncio.Task[None] | None = None
        self._still_since: dict[TP, float] = {}
        self._rejoining = False
        self._fenced_at: deque[float] = deque(maxlen=FENCED_AT_MOST)
        self._changing = asyncio.Lock()  # a take-over and a revocation never overlap
        self._ending = False

    async def take_over(self, consumer: Any, generation: int) -> None:
        """Take over what is assigned and not ours yet; forget what was suspended and has not come back.

        Where something has come back that flows again at once, what is new to us is loaded beside it.
        """
        await self._stop_loading()
        async with self._changing:
            if self._ending:
                return
            self.stats.rebalances += 1
            for tp in sorted(self._held - self.assigned):
                self._held.discard(tp)
                self._still_since.pop(tp, None)
                await self._processors[tp.topic].give_up(tp.partition, orderly=False)
            coming = self.assigned - self.lanes.keys()
            back, new = sorted(coming & self._held), sorted(coming - self._held)
            loading = self._start_loading(self._load(back or new, consumer, generation))
            try:
                await asyncio.wait([loading])
            finally:
                loading.cancel()
            if back and new and self.assigned.issuperset(new):
                self._start_loading(self._load_aside(new, consumer, generation))

    def _start_loading(self, loading: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Load in a task, which `_stop_loading` breaks off; its failure is ours."""
        self._loading = asyncio.create_task(self.guarded(loading), name="loading")
        return self._loading

    async def _load(self, tps: Sequence[TP], consumer: Any, generation: int) -> None:
        starts, ends = await consumer.earliest_offsets(*tps), await consumer.highwaters(*tps)
        for tp in tps:
            expected = await self._processors[tp.topic].take_over(tp.partition, generation)
            self._held.add(tp)
            _check_range(tp, expected, starts[tp], ends[tp])
            self._held.discard(tp)
            self._open_lane(tp, expected, consumer)

    async def _load_aside(self, tps: Sequence[TP], consumer: Any, generation: int) -> None:
        consumer.pause_partitions(tps)
        for tp in tps:
            await self._load([tp], consumer, generation)
            await consumer.seek_wait({tp: self.lanes[tp].expected})
            consumer.resume_partitions([tp])

    async def _stop_loading(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
            self._loading = None

    def _open_lane(self, tp: TP, expected: int, consumer: Any) -> None:
        async def seek(offset: int) -> None:
            await consumer.seek_wait({tp: offset})
            if tp in self.assigned:
                consumer.resume_partitions([tp])  # a lane that waits may have paused it

        def pause() -> None:
            consumer.pause_partitions([tp])

        stats = self.stats.lanes.setdefault(tp, LaneStats())
        stats.owned = True
        if (since := self._still_since.pop(tp, None)) is not None:
            stats.stood_still_s = asyncio.get_running_loop().time() - since
        name = f"{tp.topic}/{tp.partition}"
        lane = Lane(name, tp.partition, self._processors[tp.topic], expected, seek, stats, pause)
        self.lanes[tp] = lane
        self._tasks[tp] = asyncio.create_task(self.guarded(self._run(lane, consumer)), name=name)

    async def _run(self, lane: Lane, consumer: Any) -> None:
        try:
            await lane.run()
        except Fenced as error:
            self.stats.fenced += 1
            logger.warning("%s: %s", lane.name, error)
            if not consumer.can_rejoin:
                raise
            if not self._rejoining:
                now, times = asyncio.get_running_loop().time(), self._fenced_at
                if len(times) == FENCED_AT_MOST and now - times[0] < FENCED_WITHIN_S:
                    raise
                times.append(now)
                self._rejoining = True
                await consumer.rejoin()

    async def revoke(self, *, within_s: float) -> None:
        """Suspend all partitions within the time: they are about to be handed out anew, to us or to others."""
        self.assigned = frozenset()
        await self._stop_loading()
        async with self._changing:
            deadline = asyncio.get_running_loop().time() + within_s
            for tp, drained in (await self._stop_lanes(drain_within_s=within_s / 2)).items():
                if not (drained and await self._suspend(tp, deadline)):
                    await self.guarded(self._give_up(tp, orderly=False))
            self._rejoining = False

    async def _suspend(self, tp: TP, deadline: float) -> bool:
        """Return whether the processor has left a last cut, so that its memory and the database agree."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._processors[tp.topic].suspend(tp.partition)
        except TimeoutError:
            logger.warning("%s/%d: no time left for a last snapshot: who comes next recomputes", *tp)
            return False
        except Fenced as error:
            self.stats.fenced += 1
            logger.warning("%s/%d: %s", *tp, error)
            return False
        except Exception as error:
            self.fail(error)
            return False
        self._held.add(tp)
        return True

    async def give_up(self, *, within_s: float, orderly: bool = True) -> None:
        """Drain the lanes (unless not `orderly`) and give everything up, all before `within_s` have passed.

        Nothing is taken over any more. Where this was cancelled, another call gives up what is left.
        """
        self._ending = True
        self.assigned = frozenset()
        await self._stop_loading()
        async with self._changing:
            deadline = asyncio.get_running_loop().time() + within_s
            going = dict.fromkeys(self._held, False)  # their last cut is in the database already
            self._held.clear()
            going |= await self._stop_lanes(drain_within_s=within_s / 2 if orderly else 0.0)
            try:
                async with asyncio.timeout_at(deadline):
                    for tp, drained in going.items():
                        await self.guarded(self._give_up(tp, orderly=drained))
            except TimeoutError:
                logger.warning("no time left for the last snapshots: the next start recomputes")

    async def _give_up(self, tp: TP, *, orderly: bool) -> None:
        with suppress(Fenced):  # then another has it already
            await self._processors[tp.topic].give_up(tp.partition, orderly=orderly)

    async def _stop_lanes(self, *, drain_within_s: float) -> dict[TP, bool]:
        """Close all lanes; return which have processed all that they had when the time was over."""
        going, tasks = dict(self.lanes), list(self._tasks.values())
        now = asyncio.get_running_loop().time()
        for lane in going.values():
            lane.close()
        if tasks and drain_within_s:
            await asyncio.wait(tasks, timeout=drain_within_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for tp in going:
            self.stats.lanes[tp].owned = False
            self._still_since[tp] = now
        self.lanes.clear()
        self._tasks.clear()
        return {tp: lane.drained and not self.failed.done() for tp, lane in going.items()}

    async def watch(self, consumer: Any) -> None:
        """Every so often, commit what is processed and look for lanes that wait for records in vain.

        Ends with `OffsetsMissing`, or with what the consumer's `check` raises.
        """
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await consumer.check()
            offsets = {tp: lane.expected for tp, lane in self.lanes.items()}
            if offsets:
                await consumer._commit(offsets)
            if not any(lane.full for lane in self.lanes.values()):
                for tp, lane in list(self.lanes.items()):
                    await lane.watch(*consumer.last_told(tp))

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


def _check_range(tp: TP, expected: int, start: int, end: int) -> None:
    """`WrongLog` unless the log, which holds [start, end), holds what comes next."""
    if not start <= expected <= end:
        raise WrongLog(
            f"{tp.topic}/{tp.partition}: the state continues at offset {expected}, but the log holds [{start}, {end});"
            " they do not belong together"
        )
