"""A Faust transport over the embedded log: broker URL `sqlite:///path/of/the/log` (`EmbeddedLog.broker_url`).

The whole log belongs to one worker at a time. What a Kafka group coordinator does is done here by the lease:
`subscribe` returns at once, a task waits for the lease, has Faust's own assignor assign every partition, and reports
them with the lease's epoch as generation. A worker whose lease was taken over finds out at its next fetch and crashes
with `LeaseLost`.

Fetching runs in a thread of its own: it reads what there is, a bounded batch for each partition, or waits for SQLite's
`data_version` to change. Nothing is produced through Faust: whoever appends uses `EmbeddedLog`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from faust.transport import base
from faust.types import TP, ConsumerMessage
from mode import Service

from streams.logs import Record
from streams.logs.embedded import EmbeddedLog
from streams.logs.file import LeaseHeld, LogBusy, LogFull, UnknownPartition
from streams.logs.lease import LEASE_TTL_MS, Lease
from streams.steering import Steered

BUSY_POLL_S = 0.005  # half of it is the mean wait of a record on a line that was active lately
IDLE_POLL_S = 0.020  # after a while without records: 50 looks a second, each of some microseconds
BUSY_FOR_S = 5.0
FETCH_BYTES = 1 << 20  # of one partition in one fetch
LEASE_RETRY_S = 0.2
LEASE_REMINDER_S = 10.0
LOG_APPEND_TIME = 1  # Kafka's name for a timestamp that the log has given


class Consumer(Steered, base.Consumer):  # type: ignore[misc] # Faust publishes no types
    """Reads the partitions of an embedded log while it holds the lease."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._path = Path(self.transport.url[0].path)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="log-reader")
        self._log: EmbeddedLog | None = None
        self._writes: EmbeddedLog | None = None
        self._lease: Lease | None = None
        self._topics: frozenset[str] | None = None
        self._joining: asyncio.Future[None] | None = None
        self._assigned: set[TP] = set()
        self._positions: dict[TP, int] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._wake = threading.Event()
        self._active_at = 0.0

    async def on_start(self) -> None:
        """Open the log: one handle to read, and one to write, so that a fetch never waits for another's transaction."""
        self._log = await asyncio.to_thread(EmbeddedLog, self._path)
        self._writes = await asyncio.to_thread(EmbeddedLog, self._path)

    async def on_stop(self) -> None:
        """Commit, let the reading thread end, give the lease back."""
        await super().on_stop()
        if self._joining is not None:
            await asyncio.wait([self._joining], timeout=1)
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        self._wake.set()
        self._reader.shutdown(wait=True, cancel_futures=True)
        if self._lease is not None:
            self._lease.release()
        for log in (self._log, self._writes):
            if log is not None:
                log.close()

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Take note of the topics; they are assigned when the lease is held. They cannot change later."""
        wanted = frozenset(topics)
        if self._topics is None:
            self._topics = wanted
            self._joining = self.add_future(self._join(wanted))
        elif wanted != self._topics:
            raise ValueError(f"the topics of a running worker are fixed: {sorted(self._topics)}, not {sorted(wanted)}")

    async def _join(self, topics: frozenset[str]) -> None:
        self._lease = await self._wait_for_lease()
        if self._lease is None:
            return
        self._assigned = await self._assign(topics)
        self.app.on_rebalance_start()
        self.app.consumer_generation_id = self._lease.epoch
        await self.on_partitions_assigned(self._assigned, self._lease.epoch)

    async def _wait_for_lease(self) -> Lease | None:
        """Return the lease as soon as it can be had; None if the worker is stopped before."""
        assert self._writes is not None
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        remind_at = 0.0
        while not self.should_stop:
            try:
                return await asyncio.to_thread(Lease.acquire, self._writes, holder)
            except LeaseHeld as held:
                if time.monotonic() >= remind_at:
                    self.log.warning("waiting: %s", held)
                    remind_at = time.monotonic() + LEASE_REMINDER_S
            await self.sleep(LEASE_RETRY_S)
        return None

    async def _assign(self, topics: frozenset[str]) -> set[TP]:
        """Assign every partition by Faust's assignor, which must know them, or tables and routing do not."""
        assert self._log is not None
        counts = await asyncio.to_thread(self._log.topics)
        if missing := topics - counts.keys():
            raise UnknownPartition(f"{self._path}: no topic {', '.join(sorted(missing))}")
        assignor = self.app.assignor
        members = {"worker": assignor.metadata(set(topics))}
        assignment = assignor.assign(_Cluster(counts), members)["worker"]
        assignor.on_assignment(assignment)
        return {TP(topic, number) for topic, numbers in assignment.assignment for number in numbers}

    @Service.task  # type: ignore[untyped-decorator]
    async def _keep_lease(self) -> None:
        while not self.should_stop:
            await self.sleep(LEASE_TTL_MS / 3000)
            if self._lease is None or self.should_stop:
                continue
            try:
                await asyncio.to_thread(self._lease.renew)
            except (LogFull, LogBusy) as error:  # reading goes on: the epoch is what guards it
                self.log.warning("the lease could not be renewed: %s", error)

    async def _getmany(self, active_partitions: set[TP], timeout: float) -> Mapping[TP, list[Record]]:
        asked = {tp: self._positions[tp] for tp in active_partitions}
        self._wake.clear()
        found = await asyncio.get_running_loop().run_in_executor(self._reader, self._fetch, asked, timeout)
        found = {tp: records for tp, records in found.items() if self._positions[tp] == asked[tp]}  # else: sought since
        self._positions.update({tp: records[-1].offset + 1 for tp, records in found.items()})
        return found

    def _fetch(self, positions: Mapping[TP, int], timeout_s: float) -> dict[TP, list[Record]]:
        """Return what follows `positions`, or wait for it; nothing after `timeout_s` or when `_wake` is set."""
        assert self._log is not None
        deadline = time.monotonic() + timeout_s
        self._log.changed()  # whatever is committed from here on shows as a change, so no record is missed
        while True:
            if found := self._read(self._log, positions):
                self._active_at = time.monotonic()
                return found
            while not self._log.changed():
                now = time.monotonic()
                pause = BUSY_POLL_S if now - self._active_at < BUSY_FOR_S else IDLE_POLL_S
                if now >= deadline or self._wake.wait(min(pause, deadline - now)):
                    return {}

    def _read(self, log: EmbeddedLog, positions: Mapping[TP, int]) -> dict[TP, list[Record]]:
        assert self._lease is not None
        if log.lease_epoch()[0] != self._lease.epoch:
            self._lease.check()
        self._ends = log.end_offsets()
        return {
            tp: log.read(tp.topic, tp.partition, position, max_bytes=FETCH_BYTES)
            for tp, position in positions.items()
            if position != self._ends[tp]
        }

    def _to_message(self, tp: TP, record: Record) -> ConsumerMessage:
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            record.offset,
            record.appended_ms / 1000,
            LOG_APPEND_TIME,
            [],
            None,
            record.value,
            None,
            serialized_key_size=0,
            serialized_value_size=len(record.value),
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Go on reading at these offsets; a fetch under way is thrown away."""
        for tp, offset in partitions.items():
            await self.seek(tp, offset)

    async def _seek(self, partition: TP, offset: int) -> None:
        self._positions[partition] = offset
        self._wake.set()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Go to the committed offsets; to the oldest record where none was committed or what follows it is gone."""
        starts = await self.earliest_offsets(*self._assigned)
        assert self._log is not None
        committed = await asyncio.to_thread(self._log.committed, self.app.conf.id)
        offsets = {tp: max(start, committed.get(tp, 0)) for tp, start in starts.items()}
        await self.seek_wait(offsets)
        return offsets

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        assert self._writes is not None
        try:
            await asyncio.to_thread(self._writes.commit, self.app.conf.id, offsets)
        except (LogFull, LogBusy) as error:  # it is advisory
            self.log.warning("the offsets could not be committed: %s", error)
            return False
        return True

    def stop_flow(self) -> None:
        """Stop delivering; also ends a fetch that waits."""
        super().stop_flow()
        self._wake.set()

    async def position(self, tp: TP) -> int | None:
        """Return the offset that will be fetched next."""
        return self._positions.get(tp)

    def assignment(self) -> set[TP]:
        """Return the partitions held: none before the lease, then all."""
        return self._assigned

    def highwater(self, tp: TP) -> int:
        """Return the end offset as of the last fetch."""
        return self._ends.get(tp, 0)

    def last_told(self, tp: TP) -> tuple[int, float]:
        """Return the end offset as of the last fetch, and now: a file always answers."""
        return self.highwater(tp), time.monotonic()

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Return the end offsets."""
        assert self._log is not None
        ends = await asyncio.to_thread(self._log.end_offsets)
        return {tp: ends[tp] for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Return the offsets of the oldest records kept."""
        log = self._log
        assert log is not None
        return await asyncio.to_thread(lambda: {tp: log.start_offset(*tp) for tp in partitions})

    def topic_partitions(self, topic: str) -> int | None:
        """Return the number of a topic's partitions, as far as a fetch has seen them."""
        return sum(name == topic for name, _ in self._ends) or None

    async def create_topic(self, topic: str, partitions: int, replication: int, **_options: Any) -> None:  # noqa: ARG002
        """Make sure that a topic exists; there is nothing to replicate."""
        assert self._writes is not None
        await asyncio.to_thread(self._writes.create_topic, topic, partitions)

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        """Not supported: whoever appends to the log chooses the partition."""
        raise RuntimeError(f"{topic}: the appender chooses the partition of {key!r}, not Faust ({partition})")

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)


class _Cluster:
    """As much of aiokafka's cluster metadata as Faust's assignor asks for."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(self._counts[topic]))


class Transport(base.Transport):  # type: ignore[misc] # Faust publishes no types
    """The driver that `sqlite:` URLs name, by the entry point group `faust.transports`."""

    Consumer: ClassVar[type[Consumer]] = Consumer
    driver_version = f"sqlite={sqlite3.sqlite_version}"
