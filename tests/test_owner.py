"""The one transaction of a partition, against a real database: fencing, recomputing, late data, outages, bad values."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from random import Random
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from schema.catalogue import load_catalogue
from schema.commands import AcknowledgeAlert
from schema.messages import Fault, Message, Reading, Refused
from schema.migrate import migrate
from schema.record import Tick, encode_commands, encode_refused, encode_registry, encode_telemetry, encode_tick
from simulator.offline import messages
from simulator.scenario import CLOCK_MS, Scenario
from streams.guarded import CommitsLost
from streams.owner import TelemetryOwner, UpgradeError
from streams.processor import Fenced, LogRecord
from streams.refused import RefusedOwner
from wardwatch.local import LocalParts

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
    "noticed": "*",
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


async def test_a_cut_that_was_left_behind_survives_a_crash_of_the_database(parts: LocalParts, database: str) -> None:
    migrate(database, CATALOGUE)
    log = log_of(list(messages(SCENARIO))[:50])
    suspended = owner(database)
    await suspended.take_over(0, None)
    await suspended.process(0, log)
    await suspended.suspend(0)
    parts.kill_database()
    parts.start_database()
    with psycopg.connect(database) as connection:
        cut = connection.execute("SELECT snapshot_offset FROM partition_progress WHERE topic = 'telemetry'").fetchone()
    assert cut == (len(log),)
    await suspended.give_up(0, orderly=False)


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


async def test_what_is_refused_is_told_by_reason_and_once_a_minute(database: str) -> None:
    migrate(database, CATALOGUE)
    now_s = 0.0
    quarantine = RefusedOwner(database, monotonic=lambda: now_s)
    await quarantine.take_over(0, None)
    with capture_logs() as said:
        for offset, (at_s, reason) in enumerate([(0, "a"), (1, "b"), (2, "b"), (61, "a")]):
            now_s = float(at_s)
            refused = Refused("t", str(offset), 5, reason, "d", 3, b"x")
            await quarantine.process(0, [LogRecord(offset, encode_refused([refused], source="s", receive_ms=0))])
    await quarantine.give_up(0, orderly=True)
    assert [{name: line[name] for name in line.keys() & {"a", "b"}} for line in said] == [{"a": 1}, {"a": 1, "b": 2}]


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


class Line:
    """A way to the database that can be cut."""

    def __init__(self, url: str) -> None:
        parts = psycopg.conninfo.conninfo_to_dict(url)
        self.target = str(parts["host"]), int(str(parts["port"]))
        self.url = url
        self.server: asyncio.Server | None = None
        self.port = 0
        self.open: set[asyncio.StreamWriter] = set()

    async def up(self) -> None:
        self.server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in self.open:
            writer.transport.abort()
        self.open.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self.target)
        self.open |= {writer, far_writer}

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except OSError:
                pass
            finally:
                sink.close()

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))


@asynccontextmanager
async def line_to(url: str) -> AsyncIterator[Line]:
    line = Line(url)
    await line.up()
    line.url = psycopg.conninfo.make_conninfo(url, host="127.0.0.1", port=line.port)
    try:
        yield line
    finally:
        await line.down()


async def test_while_the_database_is_away_an_owner_waits_and_then_goes_on_as_if_nothing_had_been(
    database: str, second_database: str
) -> None:
    log = log_of(list(messages(SCENARIO))[:400])
    for url in (database, second_database):
        migrate(url, CATALOGUE)
    await run(second_database, log, iter(()))
    async with line_to(database) as line:
        worker = owner(line.url)
        await worker.take_over(0, None)
        await worker.process(0, log[:32])
        await line.down()
        waiting = asyncio.create_task(worker.process(0, log[32:64]))
        done, _ = await asyncio.wait([waiting], timeout=0.5)
        assert not done
        await line.up()
        await waiting
        for offset in range(64, len(log), 32):
            await worker.process(0, log[offset : offset + 32])
        await worker.give_up(0, orderly=True)
    assert content(database) == content(second_database)


async def test_a_commit_whose_answer_was_lost_is_not_repeated(database: str) -> None:
    migrate(database, CATALOGUE)
    log = log_of(list(messages(SCENARIO))[:50])
    worker = owner(database)
    await worker.take_over(0, None)
    guarded = worker._owned[0].guarded
    await worker.process(0, log)
    guarded.progress.next_offset = 0  # as one knows it who has not heard the answer
    await guarded.connection.close()
    written = []

    async def write(_: object) -> None:
        written.append(1)

    await guarded.commit(len(log), None, write)
    assert (written, guarded.progress.next_offset) == ([], len(log))
    await guarded.close()


async def test_an_owner_ahead_of_a_database_that_lost_commits_starts_again(database: str) -> None:
    migrate(database, CATALOGUE)
    log = log_of(list(messages(SCENARIO))[:50])
    worker = owner(database)
    await worker.take_over(0, None)
    await worker.process(0, log[:10])
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE partition_progress SET next_offset = 4")
    await worker._owned[0].connection.close()
    with pytest.raises(CommitsLost, match="offset 4"):
        await worker.process(0, log[10:])
    await worker.give_up(0, orderly=False)


async def test_lost_commits_are_noticed_although_nothing_more_comes(database: str) -> None:
    migrate(database, CATALOGUE)
    worker = owner(database)
    await worker.take_over(0, None)
    await worker.process(0, log_of(list(messages(SCENARIO))[:10]))
    sessions = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'wardwatch telemetry%'"
    )
    with psycopg.connect(database, autocommit=True) as connection:
        await worker.look(0)
        connection.execute(sessions)
        await worker.look(0)  # finds the connection broken
        await worker.look(0)  # and on a new one everything in place
        connection.execute(sessions)
        connection.execute("UPDATE partition_progress SET next_offset = 4")
        await worker.look(0)
        with pytest.raises(CommitsLost, match="offset 4"):
            await worker.look(0)
    await worker.give_up(0, orderly=False)


async def test_what_the_database_refuses_is_quarantined_and_the_rest_is_stored(
    database: str, second_database: str
) -> None:
    sent = list(messages(SCENARIO))[:200]
    at_ms = sent[-1].receive_ms
    far_ms = 10**16  # a timestamp beyond what PostgreSQL has
    device_id, metric = next((each.device_id, each.readings[0].metric) for each in sent if each.readings)
    bad = [
        encode_commands([AcknowledgeAlert(command_id="c", actor="ada\0", alert_id="a")], source="x", receive_ms=at_ms),
        encode_telemetry(
            [
                Message(
                    device_id, "telemetry", 2**50, 1, at_ms, at_ms,
                    (Reading(at_ms, metric, 7), Reading(far_ms, metric, 7)),
                    (Fault(at_ms, "XR-1", "warning", "tube", "a\0b"), Fault(at_ms, "XR-2", "warning", "tube", "good")),
                )
            ],
            source="bridge",
            receive_ms=at_ms,
        ),
    ]  # fmt: skip
    values = [record.value for record in log_of(sent)] + bad
    values.append(encode_tick(Tick("bridge", at_ms + 10 * CLOCK_MS)))
    values.append(encode_tick(Tick("bridge", at_ms + 11 * CLOCK_MS)))
    log = [LogRecord(offset, value) for offset, value in enumerate(values)]
    found = []
    for url, cut in ((database, len(log)), (second_database, len(log) - 3)):
        migrate(url, CATALOGUE)
        worker = owner(url)
        await worker.take_over(0, None)
        await worker.process(0, log[:cut])
        if log[cut:]:
            await worker.process(0, log[cut:])
        assert sum(worker.stats.refused.values()) >= 2
        await worker.give_up(0, orderly=True)
        with psycopg.connect(url) as connection:
            (offset,) = connection.execute("SELECT next_offset FROM partition_progress").fetchone() or ()
            assert offset == len(log)
            found.append(connection.execute("SELECT topic, sha256, reason FROM quarantine ORDER BY 1, 2").fetchall())
            assert connection.execute("SELECT count(*) FROM faults WHERE text = 'good'").fetchone() == (1,)
            assert connection.execute("SELECT count(*) FROM faults WHERE text LIKE 'a%b'").fetchone() == (0,)
    assert found[0] == found[1]
    assert {(topic, reason) for topic, _, reason in found[0]} >= {
        ("log/0/audit_log", "database_refused"), ("log/0/faults", "database_refused"),
        ("log/0/readings", "database_refused"),
    }  # fmt: skip
