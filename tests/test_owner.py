"""The one transaction of a partition, against a real database: fencing, recomputing, late data, what is counted."""

from collections.abc import Sequence
from random import Random

import psycopg
import pytest
from owner_help import CATALOGUE, SCENARIO, TABLES, content, log_of, owner, run

from schema.messages import Message
from schema.migrate import migrate
from schema.record import Tick, encode_telemetry, encode_tick
from simulator.offline import messages
from simulator.scenario import CLOCK_MS
from streams.owner import UpgradeError
from streams.processor import Fenced, LogRecord

HOUR_MS = 3_600_000


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


async def test_a_suspended_partition_goes_on_from_memory_unless_somebody_was_in_between(database: str) -> None:
    migrate(database, CATALOGUE)
    log = log_of(list(messages(SCENARIO))[:50])
    first = owner(database)
    await first.take_over(0, None)
    await first.process(0, log[:10])
    await first.suspend(0)
    state = first._owned[0].partition
    assert await first.take_over(0, None) == 10
    assert first._owned[0].partition is state
    await first.suspend(0)
    second = owner(database)
    assert await second.take_over(0, None) == 10
    await second.process(0, log[10:20])
    await second.give_up(0, orderly=True)
    assert await first.take_over(0, None) == 20
    assert first._owned[0].partition is not state
    await first.process(0, log[20:])
    await first.give_up(0, orderly=True)


async def test_an_owner_that_stops_while_it_recomputes_leaves_the_cut_that_there_is(database: str) -> None:
    migrate(database, CATALOGUE)
    log = log_of(list(messages(SCENARIO))[:50])
    first = owner(database)
    await first.take_over(0, None)
    await first.process(0, log[:10])
    await first.give_up(0, orderly=True)
    killed = owner(database)
    assert await killed.take_over(0, None) == 10
    await killed.process(0, log[10:40])
    await killed._owned[0].connection.close()
    again = owner(database)
    assert await again.take_over(0, None) == 10
    await again.process(0, log[10:20])
    await again.suspend(0)
    assert await again.take_over(0, None) == 20
    await again.give_up(0, orderly=True)
    last = owner(database)
    assert await last.take_over(0, None) == 10
    await last.give_up(0, orderly=False)


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


async def test_what_was_noticed_is_counted_by_the_hour_and_repetitions_apart(database: str) -> None:
    migrate(database, CATALOGUE)
    sent = list(messages(SCENARIO))[:300]
    telemetry = [each for each in sent if each.kind == "telemetry"]
    by_device: dict[str, list[Message]] = {}
    for each in telemetry:
        by_device.setdefault(each.device_id, []).append(each)
    lost = next(each[5] for each in by_device.values() if len(each) > 8)
    log = log_of([each for each in sent if each is not lost])
    again = encode_telemetry(telemetry[:20], source="bridge", receive_ms=0)
    stranger = Message("nobody", "telemetry", 1, 1, 0, 0, (), ())
    more = [again, encode_telemetry([stranger], source="bridge", receive_ms=0)]
    end = encode_tick(Tick("bridge", sent[-1].receive_ms + 2 * HOUR_MS))
    worker = owner(database)
    await worker.take_over(0, None)
    values = [*(record.value for record in log), *more, end]
    await worker.process(0, [LogRecord(offset, value) for offset, value in enumerate(values)])
    assert worker.stats.repeated == len([each for each in telemetry[:20] if each is not lost])
    with psycopg.connect(database) as connection:
        noticed = dict(connection.execute("SELECT what, sum(count)::int FROM noticed GROUP BY 1").fetchall())
        (repeated,) = connection.execute("SELECT repeated FROM partition_progress").fetchone() or ()
        hours = connection.execute("SELECT bool_and(at = date_trunc('hour', at)) FROM noticed").fetchone()
    (status,) = worker.status()
    assert (noticed["gap"], noticed["unknown_device"]) == (1, 1)
    assert noticed == status.counts
    assert repeated == worker.stats.repeated
    assert hours == (True,)
    await worker.give_up(0, orderly=True)
