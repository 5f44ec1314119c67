"""Delivery of the outbox from a real database, and what people can list."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alerting_help import CATALOGUE, DAY, DEVICES, HOUR, hospital, tube_failure
from psycopg.types.json import Jsonb

from alerting.delivery import DeliveryFailed, Note, deliver_waiting, run_delivery
from alerting.notifier import AppriseNotifier
from alerting.queries import alerts, customers, work_orders
from alerting.usage import DeviceDay
from schema.migrate import migrate
from schema.rows import Row


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    migrate(database, CATALOGUE)
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def store(connection: psycopg.Connection[Any], rows: list[Row]) -> None:
    """Write rows as a partition would."""
    for row in rows:
        names = row.__struct_fields__
        values = [Jsonb(value) if isinstance(value := getattr(row, name), dict) else value for name in names]
        places = ["to_timestamp(%s / 1000.0)" if name == "at" or name.endswith("_at") else "%s" for name in names]
        updates = ", ".join(f"{name} = excluded.{name}" for name in names)
        connection.execute(
            f"INSERT INTO {row.TABLE} ({', '.join(names)}) VALUES ({', '.join(places)}) "
            f"ON CONFLICT ({', '.join(row.KEY)}) DO UPDATE SET {updates}".encode(),
            values,
        )


def failures(connection: psycopg.Connection[Any], count: int) -> None:
    """That many devices fail; two messages each."""
    desk = hospital()
    rows = [row for device_id in DEVICES[:count] for row in desk.observe(tube_failure(HOUR, device_id), HOUR)]
    store(connection, rows + desk.tick(HOUR))


def column(connection: psycopg.Connection[Any], query: str) -> list[Any]:
    return [row[0] for row in connection.execute(query.encode())]


def test_messages_reach_a_local_file_with_their_key_and_are_delivered_once(
    connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    failures(connection, 2)
    path = tmp_path / "some folder" / "messages.jsonl"
    path.parent.mkdir()
    notifier = AppriseNotifier({"": [path.as_uri()]})
    assert deliver_waiting(connection, notifier) == (4, 0)
    assert deliver_waiting(connection, notifier) == (0, 0)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    keys = column(connection, "SELECT outbox_id::text FROM outbox WHERE delivered_at IS NOT NULL")
    assert sorted(line["body"].rpartition("Ref ")[2] for line in lines) == sorted(keys)
    assert lines[0]["subject"] == "critical: fault (tube), ct-1 (Hospital)"
    assert "严重" in lines[0]["body"]


def test_what_fails_is_tried_again_later_and_holds_up_nothing_else(connection: psycopg.Connection[Any]) -> None:
    failures(connection, 2)
    delivered = []

    def fussy(note: Note) -> None:
        if note.kind == "alert_fired":
            raise DeliveryFailed("the mail server is away")
        delivered.append(note.kind)

    assert deliver_waiting(connection, fussy) == (2, 2)
    assert delivered == ["order_opened", "order_opened"]
    assert deliver_waiting(connection, fussy) == (0, 0)
    assert (
        column(connection, "SELECT last_error FROM outbox WHERE delivered_at IS NULL")
        == ["the mail server is away"] * 2
    )
    assert all(column(connection, "SELECT next_attempt_at > now() FROM outbox WHERE delivered_at IS NULL"))
    connection.execute("UPDATE outbox SET next_attempt_at = now() WHERE delivered_at IS NULL")
    assert deliver_waiting(connection, lambda note: delivered.append(note.kind)) == (2, 0)
    assert sorted(column(connection, "SELECT attempts FROM outbox")) == [1, 1, 2, 2]


def test_two_deliverers_share_the_work(connection: psycopg.Connection[Any], database: str) -> None:
    failures(connection, 4)
    seen = []

    def second_at_work(note: Note) -> None:
        seen.append(note.outbox_id)
        if len(seen) == 1:
            with psycopg.connect(database, autocommit=True) as other:
                deliver_waiting(other, lambda note: seen.append(note.outbox_id))

    deliver_waiting(connection, second_at_work, limit=3)
    assert len(seen) == len(set(seen)) == 8


def test_a_slow_audience_does_not_hold_up_another(connection: psycopg.Connection[Any], database: str) -> None:
    failures(connection, 1)
    connection.execute("UPDATE outbox SET audience = 'executive' WHERE kind = 'alert_fired'")
    blocked, released, delivered, stop = (threading.Event() for _ in range(4))

    def slow_for_executives(note: Note) -> None:
        if note.audience == "executive":
            blocked.set()
            released.wait(20)
        elif blocked.wait(20):
            delivered.set()

    thread = threading.Thread(target=run_delivery, args=(database, slow_for_executives, stop))
    thread.start()
    try:
        assert delivered.wait(20)
        assert not released.is_set()
    finally:
        stop.set()
        released.set()
        thread.join(20)
    assert not thread.is_alive()
    assert column(connection, "SELECT count(*) FROM outbox WHERE delivered_at IS NULL") == [0]


def test_a_database_that_is_silent_keeps_no_process_from_ending() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        program = (
            "import threading\n"
            "from alerting.delivery import run_delivery\n"
            f"url = 'postgresql://127.0.0.1:{silent.getsockname()[1]}/x'\n"
            "stop = threading.Event()\n"
            "threading.Timer(0.5, stop.set).start()\n"
            "run_delivery(url, print, stop)\n"
        )
        assert subprocess.run([sys.executable, "-c", program], timeout=20, check=False).returncode == 0


def test_an_audience_without_address_waits_and_an_address_that_is_none_is_refused() -> None:
    note = Note("id", None, "executive", "flag_raised", "subject", "body", {})
    with pytest.raises(DeliveryFailed, match="no address for executive"):
        AppriseNotifier({})(note)
    with pytest.raises(ValueError, match="address 1 of audience service"):
        AppriseNotifier({"service": ["no address"]})


def test_a_file_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    note = Note("id", None, "service", "alert_fired", "subject", "body", {})
    with pytest.raises(DeliveryFailed, match="address 1 of service failed"):
        AppriseNotifier({"service": [(tmp_path / "absent" / "file").as_uri()]})(note)


def test_people_can_list_alerts_orders_and_customers(connection: psycopg.Connection[Any]) -> None:
    failures(connection, 2)
    desk = hospital()
    connection.execute("INSERT INTO customers VALUES ('h', 'Hospital', 'clinic', 'north', 'Ann', 2)")
    for day in range(1, 45):
        share = 1.0 if day <= 28 else 0.2
        store(connection, desk.day("h", day * DAY, [DeviceDay("ct-1", 100 * share, 100.0, "reporting")]))
    found = alerts(connection, device_id="ct-1")
    assert [(line.state, line.customer, line.work_order) for line in found] == [("firing", "Hospital", "WO-2-000001")]
    assert alerts(connection, detector="silence") == []
    assert [line.number for line in work_orders(connection)] == ["WO-2-000001", "WO-2-000002"]
    assert [line.number for line in work_orders(connection, technician_id="tom")] == ["WO-2-000002"]
    (customer,) = customers(connection)
    assert (customer.customer, customer.flag_level, customer.owner_role) == ("Hospital", "red", "executive")
    assert customers(connection, customer_id="other", everything=True) == []
