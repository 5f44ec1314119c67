"""The one transaction of a partition, against a real database: fencing, recomputing, late data."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from random import Random
from typing import Any

import psycopg
import pytest

from schema.catalogue import load_catalogue
from schema.messages import Message, Refused
from schema.migrate import migrate
from schema.record import Tick, encode_refused, encode_registry, encode_telemetry, encode_tick
from simulator.offline import messages
from simulator.scenario import CLOCK_MS, Scenario
from streams.owner import RefusedOwner, TelemetryOwner, UpgradeError
from streams.processor import Fenced, LogRecord

CATALOGUE = load_catalogue()
SCENARIO = Scenario(11, devices=8, customers=2, days=3)
HOUR_MS = 3_600_000
TABLES = {
    "readings": "device_id, metric, ts, value, boot",
    "faults": "device_id, ts, code, boot, seq",
    "rollup_1m": "*",
    "rollup_1h": "*",
    "rollup_1d": "*",
    "alerts": "*",
    "alert_events": "*",
    "work_orders": "*",
    "work_order_events": "*",
    "customer_health": "*",
    "churn_flags": "*",
    "outbox": "outbox_id, created_at, audience, kind, subject, body, payload",
}


def log_of(sent: Sequence[Message]) -> list[LogRecord]:
    """The log of one partition, a record an interval between two ticks."""
    known = SCENARIO.registry
    entries = (*known.technicians, *known.parts, *known.calendars, *known.customers, *known.sites, *known.devices)
    values = [
        encode_registry(entries, source="test", receive_ms=0),
        encode_tick(Tick("bridge", SCENARIO.start_ms, "joined")),
    ]
    for receive_ms, group in groupby(sent, lambda message: message.receive_ms):
        values.append(encode_telemetry(list(group), source="bridge", receive_ms=receive_ms))
        values.append(encode_tick(Tick("bridge", receive_ms + CLOCK_MS)))
    return [LogRecord(offset, value) for offset, value in enumerate(values)]


def owner(url: str, version: str = "test", snapshot_every_s: float = 1e9) -> TelemetryOwner:
    return TelemetryOwner(url, CATALOGUE, version=version, snapshot_every_s=snapshot_every_s)


async def run(url: str, log: Sequence[LogRecord], crashes: Iterator[int], snapshot_every_s: float = 1e9) -> None:
    """Process a log in groups; at each of `crashes` (offsets) the owner is dropped as if killed."""
    crash = next(crashes, None)
    worker = owner(url, snapshot_every_s=snapshot_every_s)
    offset = await worker.take_over(0, None)
    while offset < len(log):
        await worker.process(0, log[offset : offset + 32])
        offset = min(offset + 32, len(log))
        if crash is not None and offset >= crash:
            crash = next(crashes, None)
            await worker._owned[0].connection.close()
            worker = owner(url, snapshot_every_s=snapshot_every_s)
            offset = await worker.take_over(0, None)
    await worker.give_up(0, orderly=True)


def content(url: str) -> dict[str, list[Any]]:
    with psycopg.connect(url) as connection:
        return {table: sorted(connection.execute(f"SELECT {columns} FROM {table}"), key=repr)
                for table, columns in TABLES.items()}  # fmt: skip


async def test_a_killed_owner_leaves_what_an_undisturbed_one_would_have_left(
    database: str, second_database: str
) -> None:
    log = log_of(list(messages(SCENARIO)))
    for url in (database, second_database):
        migrate(url, CATALOGUE)
    await run(database, log, iter(()))
    await run(second_database, log, iter([1, 40, 41, 333, 700]), snapshot_every_s=0.05)
    whole, killed = content(database), content(second_database)
    assert whole["alerts"]
    for table in TABLES:
        assert killed[table] == whole[table], table


async def test_an_owner_that_was_replaced_commits_nothing(database: str) -> None:
    migrate(database, CATALOGUE)
    log = log_of(list(messages(SCENARIO))[:50])
    first, second = owner(database), owner(database)
    await first.take_over(0, None)
    await second.take_over(0, None)
    with pytest.raises(Fenced):
        await first.process(0, log)
    await first.give_up(0, orderly=False)
    await second.process(0, log)
    await second.give_up(0, orderly=True)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT next_offset, epoch FROM partition_progress").fetchone() == (len(log), 2)


async def test_a_new_version_that_is_killed_before_its_first_cut_goes_on(database: str) -> None:
    migrate(database, CATALOGUE)
    log = log_of(list(messages(SCENARIO))[:50])
    first = owner(database, "1.0")
    await first.take_over(0, None)
    await first.process(0, log[:4])
    await first.give_up(0, orderly=True)
    second = owner(database, "2.0")
    await second.take_over(0, None)
    await second.process(0, log[4:8])
    await second._owned[0].connection.close()
    again = owner(database, "2.0")
    start = await again.take_over(0, None)
    await again.process(0, log[start:])
    await again.give_up(0, orderly=True)


async def test_another_version_does_not_recompute_what_this_one_has_begun(database: str) -> None:
    migrate(database, CATALOGUE)
    log = log_of(list(messages(SCENARIO))[:50])
    first = owner(database, "1.0")
    await first.take_over(0, None)
    first._owned[0].snapshot_due = 0.0
    await first.process(0, log[:2])
    await first.process(0, log[2:])
    await first._owned[0].connection.close()
    with pytest.raises(UpgradeError, match="in the middle"):
        await owner(database, "2.0").take_over(0, None)
    again = owner(database, "1.0")
    start = await again.take_over(0, None)
    await again.process(0, log[start:])
    await again.give_up(0, orderly=True)
    upgraded = owner(database, "2.0")
    assert await upgraded.take_over(0, None) == len(log)
    await upgraded.give_up(0, orderly=True)


def delayed(sent: Sequence[Message], seed: int) -> list[Message]:
    """The same messages, one in five received up to a day later."""
    random = Random(seed)
    late = []
    for message in sent:
        steps = random.randrange(1, 288) if random.random() < 0.2 and message.kind == "telemetry" else 0
        late.append((message.receive_ms + steps * CLOCK_MS, message))
    late.sort(key=lambda each: each[0])
    return [Message(m.device_id, m.kind, m.boot, m.seq, m.sent_ms, at_ms, m.readings, m.faults) for at_ms, m in late]


_FROM_RAW = """
WITH steps AS (
    SELECT device_id, metric, ts, value, lag(value) OVER w AS before, lag(boot) OVER w = boot AS same
    FROM readings WINDOW w AS (PARTITION BY device_id, metric ORDER BY boot, ts)
), marked AS (
    SELECT s.*, m.catalogue->'metrics'->metric->>'kind' = 'counter' AS counter,
           (m.catalogue->'metrics'->metric->>'wrap')::float8 AS wrap
    FROM steps s JOIN devices USING (device_id) JOIN device_models m USING (model)
), expected AS (
    SELECT device_id, metric, date_bin('{length}', ts, 'epoch') AS bucket, count(*) AS count,
           round(sum(value)::numeric, 2) AS sum, min(value) AS min, max(value) AS max,
           CASE WHEN bool_and(counter) THEN round(sum(CASE
               WHEN before IS NULL THEN 0 WHEN value >= before THEN value - before
               WHEN same AND wrap > 0 AND before > wrap * 0.9 AND value < wrap * 0.1 THEN value + wrap - before
               ELSE value END)::numeric, 2) END AS increase
    FROM marked GROUP BY 1, 2, 3
)
SELECT device_id, metric, bucket, e.*, r.count, r.sum, r.min, r.max, r.increase
FROM {table} r LEFT JOIN expected e USING (device_id, metric, bucket)
WHERE (e.count, e.sum, e.min, e.max) IS DISTINCT FROM (r.count, round(r.sum::numeric, 2), r.min, r.max)
   OR round(r.increase::numeric, 2) IS DISTINCT FROM e.increase
"""


@pytest.mark.parametrize("seed", [1, 2])
async def test_rollups_are_what_the_raw_readings_say_however_late_they_came(database: str, seed: int) -> None:
    migrate(database, CATALOGUE)
    await run(database, log_of(delayed(list(messages(SCENARIO)), seed)), iter(()))
    with psycopg.connect(database) as connection:
        for table, length in (("rollup_1m", "1 minute"), ("rollup_1h", "1 hour"), ("rollup_1d", "1 day")):
            assert connection.execute(_FROM_RAW.format(table=table, length=length)).fetchall() == [], table
        revised = connection.execute("SELECT count(*) FROM rollup_1h WHERE revisions > 0").fetchone()
        assert revised is not None
        assert revised[0] > 0


async def test_a_refused_message_that_comes_twice_is_one_row(database: str) -> None:
    migrate(database, CATALOGUE)
    refused = [Refused("t", "aa", at_ms, "invalid_json", "d", 3, b"\x00\xff") for at_ms in (5, 9)]
    log = [LogRecord(i, encode_refused([each], source="s", receive_ms=0)) for i, each in enumerate(refused)]
    quarantine = RefusedOwner(database)
    assert await quarantine.take_over(0, None) == 0
    await quarantine.process(0, [*log, LogRecord(2, b"damaged")])
    await quarantine.give_up(0, orderly=True)
    with psycopg.connect(database) as connection:
        found = connection.execute(
            "SELECT reason, extract(epoch FROM received_at) FROM quarantine ORDER BY 1"
        ).fetchall()
        assert [(reason, float(at)) for reason, at in found] == [("corrupt_record", 0.0), ("invalid_json", 0.005)]
