"""What was refused becomes a row of the quarantine: messages, damaged records, and values that the database refuses."""

import psycopg
from owner_help import CATALOGUE, SCENARIO, log_of, owner
from structlog.testing import capture_logs

from schema.commands import AcknowledgeAlert
from schema.messages import Fault, Message, Reading, Refused
from schema.migrate import migrate
from schema.record import Tick, encode_commands, encode_refused, encode_telemetry, encode_tick
from simulator.offline import messages
from simulator.scenario import CLOCK_MS
from streams.processor import LogRecord
from streams.refused import RefusedOwner


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
