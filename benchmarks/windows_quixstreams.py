"""The 1-minute windows by Quix Streams: `set_timestamp`, `group_by`, a tumbling window and its aggregations.

`expanded` gives it every reading as an item of its own (device and metric are the key); `preaggregated` has numpy make
one partial aggregate a key and minute of each record first, which the same aggregations then merge.
What it would do besides is switched off: no changelog topic. Its topic has one partition, so `group_by` repartitions
nothing. Its state is in RocksDB, for its windows know no other.
"""

import logging
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Max, Min, Sum

from benchmarks.rounds import MINUTE_MS
from benchmarks.windows_run import Task, answer, task
from benchmarks.windows_unpack import expanded, numbered, partials

Found = list[tuple[str, int, int, int, int, int]]


def _run(asked: Task, state: str) -> Found:
    found: Found = []
    meter = asked.meter

    def look(*_: Any) -> None:
        if meter.over() and not meter.ended[0]:
            meter.end()
            app.stop()

    app = Application(
        broker_address=asked.kafka,
        consumer_group=f"windows-{uuid.uuid4()}",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        use_changelog_topics=False,
        state_dir=state,
        loglevel="WARNING",
        on_message_processed=look,
    )

    def unpacked(value: bytes) -> Iterator[Any]:
        if not meter.more():
            return iter(())
        return expanded(value) if asked.variant == "expanded" else partials(value)

    def keep(window: dict[str, int], key: str, *_: Any) -> None:
        found.append((key, window["start"], window["count"], window["sum"], window["min"], window["max"]))

    readings = app.dataframe(app.topic(asked.topic, value_deserializer="bytes"))
    readings = readings.apply(unpacked, expand=True)
    readings = readings.set_timestamp(lambda item, *_: item[1][0])
    readings = readings.group_by(lambda item: item[0], name="key")
    window = readings.apply(_columns(asked.variant)).tumbling_window(MINUTE_MS, grace_ms=0)
    count = Count() if asked.variant == "expanded" else Sum("count")
    column = {name: None if asked.variant == "expanded" else name for name in ("sum", "min", "max")}
    closed = window.agg(count=count, sum=Sum(column["sum"]), min=Min(column["min"]), max=Max(column["max"])).final()
    closed.update(keep, metadata=True)
    app.run()
    return found


def _columns(variant: str) -> Any:
    if variant == "expanded":
        return lambda item: item[1][1]
    return lambda item: dict(zip(("count", "sum", "min", "max"), item[1][1:], strict=True))


def main() -> None:
    """Do what the command line asks."""
    logging.getLogger("quixstreams").setLevel(logging.ERROR)
    asked = task(("expanded", "preaggregated"))
    with tempfile.TemporaryDirectory() as state:
        found = _run(asked, state)
    answer(asked, numbered(found))


if __name__ == "__main__":
    main()
