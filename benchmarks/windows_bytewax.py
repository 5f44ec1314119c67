"""The 1-minute windows by bytewax: its Kafka source, event clock, tumbling windower and `fold_window`.

`expanded` gives it every reading as an item of its own (device and metric are the key); `preaggregated` has numpy make
one partial aggregate a key and minute of each record first, which `fold_window` then merges.
Its event clock is told not to follow the wall clock, and to take items in any order: less work for the same windows.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators.windowing import EventClock, TumblingWindower, fold_window
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from benchmarks.rounds import MINUTE_MS
from benchmarks.windows_run import Meter, Task, answer, task
from benchmarks.windows_unpack import expanded, numbered, partials

EPOCH = datetime.fromtimestamp(0, UTC)
BATCH = {"batched": 10, "single": 1000}
"""Records a poll: with the thousand that is the default, two million readings would be in flight at once."""


class _Until(FixedPartitionedSource):  # type: ignore[misc]
    """Ends the Kafka source when the meter has had enough."""

    def __init__(self, source: KafkaSource, meter: Meter) -> None:
        self._source, self._meter = source, meter

    def list_parts(self) -> list[str]:
        return self._source.list_parts()  # type: ignore[no-any-return]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> StatefulSourcePartition:
        return _UntilPartition(self._source.build_part(step_id, for_part, resume_state), self._meter)


class _UntilPartition(StatefulSourcePartition):  # type: ignore[misc]
    def __init__(self, part: StatefulSourcePartition, meter: Meter) -> None:
        self._part, self._meter = part, meter

    def next_batch(self) -> Iterable[KafkaSourceMessage]:
        if self._meter.over():
            raise StopIteration
        return [message for message in self._part.next_batch() if self._meter.more()]

    def snapshot(self) -> Any:
        return self._part.snapshot()

    def close(self) -> None:
        self._part.close()


class _Kept(DynamicSink):  # type: ignore[misc]
    def __init__(self, into: list[Any]) -> None:
        self._into = into

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition:  # noqa: ARG002
        return _KeptPartition(self._into)


class _KeptPartition(StatelessSinkPartition):  # type: ignore[misc]
    def __init__(self, into: list[Any]) -> None:
        self._into = into

    def write_batch(self, items: list[Any]) -> None:
        self._into.extend(items)


def _at(item: Sequence[int]) -> datetime:
    return datetime.fromtimestamp(item[0] / 1000, UTC)


def _new() -> list[int]:
    return [0, 0, 1 << 62, -(1 << 62)]


def _fold(seen: list[int], item: tuple[int, int]) -> list[int]:
    n = item[1]
    seen[0] += 1
    seen[1] += n
    if n < seen[2]:
        seen[2] = n
    if n > seen[3]:
        seen[3] = n
    return seen


def _fold_partial(seen: list[int], item: tuple[int, int, int, int, int]) -> list[int]:
    _, count, total, least, most = item
    seen[0] += count
    seen[1] += total
    if least < seen[2]:
        seen[2] = least
    if most > seen[3]:
        seen[3] = most
    return seen


def _never_merged(one: list[int], other: list[int]) -> list[int]:
    raise AssertionError(f"tumbling windows do not merge: {one}, {other}")


def dataflow(asked: Task, into: list[Any]) -> Dataflow:
    """The whole flow, its closed windows into a list of (key, (window number, [count, sum, min, max]))."""
    meter = asked.meter
    source = KafkaSource(asked.kafka.split(","), [asked.topic], tail=False, batch_size=BATCH[meter.shape])
    unpack, fold = (expanded, _fold) if asked.variant == "expanded" else (partials, _fold_partial)
    clock = EventClock(_at, timedelta(0), now_getter=lambda: EPOCH, to_system_utc=lambda _: None)
    windower = TumblingWindower(length=timedelta(milliseconds=MINUTE_MS), align_to=EPOCH)

    flow = Dataflow("windows")
    records = op.input("kafka", flow, _Until(source, meter))
    keyed = op.flat_map("unpack", records, lambda message: unpack(message.value))
    windows = fold_window("minutes", keyed, clock, windower, _new, fold, _never_merged, ordered=False)
    op.inspect("late", windows.late, lambda _, item: (_ for _ in ()).throw(AssertionError(f"late: {item}")))
    op.output("keep", windows.down, _Kept(into))
    return flow


def main() -> None:
    """Do what the command line asks."""
    asked = task(("expanded", "preaggregated"))
    closed: list[Any] = []
    run_main(dataflow(asked, closed))
    asked.meter.end()
    answer(asked, numbered((key, number * MINUTE_MS, *found) for key, (number, found) in closed))


if __name__ == "__main__":
    main()
