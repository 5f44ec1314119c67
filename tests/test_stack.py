"""Everything on one machine in real time, driven by MQTT and the command line as its users do."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import msgspec
import paho.mqtt.client as mqtt
import psycopg
import pytest

from schema.registry import Customer, Device, Part, Registry, Site, Technician
from wardwatch.local.process import processes, wait_until

DEVICE = "ct-1"


class Running:
    """`wardwatch up` as a child process, and the command line beside it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        """Start it and wait until it says that everything runs."""
        process = subprocess.Popen(
            [sys.executable, "-m", "wardwatch.cli", "up", "--data", str(self.data)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "everything runs" in line:
                return process
        raise AssertionError("".join(said))

    def stop(self) -> float:
        """Stop it as Ctrl-C would; return the seconds that it took."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return time.monotonic() - begun

    def command(self, *arguments: str, status: int = 0) -> Any:
        """Run a command with --json; return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "wardwatch.cli", *arguments, "--data", str(self.data), "--json"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout)

    @property
    def addresses(self) -> dict[str, Any]:
        """Where the parts are."""
        found: dict[str, Any] = json.loads((self.data / "run" / "addresses.json").read_text("utf-8"))
        return found

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the database has."""
        with psycopg.connect(self.addresses["database_url"]) as connection:
            return connection.execute(query.encode()).fetchall()

    def eventually(self, query: str, condition: Callable[[list[tuple[Any, ...]]], bool]) -> list[tuple[Any, ...]]:
        """Ask until the rows are as they should be."""
        wait_until(lambda: condition(self.rows(query)), 20.0)
        found = self.rows(query)
        assert condition(found), found
        return found

    def publish(self, *messages: tuple[str, bytes]) -> None:
        """Publish as a device does, and wait for the broker's acknowledgements."""
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        host, port = self.addresses["mqtt_url"].removeprefix("mqtt://").split(":")
        client.connect(host, int(port))
        client.loop_start()
        for topic, payload in messages:
            client.publish(f"wardwatch/v1/{topic}", payload, qos=1).wait_for_publish(20)
        client.disconnect()
        client.loop_stop()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = tmp_path_factory.mktemp("up")
    for each in (made, made.parent, made.parent.parent):
        each.chmod(0o755)
    stack = Running(made / "data")
    registry = Registry(
        customers=(Customer(customer_id="c1", name="St. Mary"),),
        sites=(Site(site_id="s1", customer_id="c1", name="Main building", country="DE"),),
        devices=(Device(device_id=DEVICE, model="ct", site_id="s1", customer_id="c1", installed_ms=0),),
        technicians=(Technician(technician_id="t1", name="Ada", skills=("ct",)),),
        parts=(Part(part_id="tube", name="X-ray tube", subsystem="tube"),),
    )
    file = made / "registry.json"
    file.write_bytes(msgspec.json.encode(registry))
    done = subprocess.run(
        [sys.executable, "-m", "wardwatch.cli", "registry", "import", str(file), "--data", str(stack.data)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    yield stack
    if stack.process.poll() is None:
        stack.stop()


def telemetry(boot: int, seq: int, **fields: Any) -> bytes:
    return json.dumps({"device": DEVICE, "boot": boot, "seq": seq, "sent": boot, **fields}).encode()


def test_each_bad_message_is_quarantined_with_its_own_reason_and_the_good_one_arrives(running: Running) -> None:
    now = time.time_ns() // 1_000_000
    running.publish(
        ("ghost-1/telemetry", telemetry(now, 1, series={"scans": [[now, 1]]}).replace(b"ct-1", b"ghost-1")),
        (f"{DEVICE}/telemetry", telemetry(now, 1).replace(b"ct-1", b"ct-2")),
        (f"{DEVICE}/telemetry", telemetry(now, 1, series={"scans": [[now + 86_400_000, 1]]})),
        (f"{DEVICE}/telemetry", telemetry(now, 1, series={"tube_cel": [[now, 9_999]]})),
        (f"{DEVICE}/telemetry", b"{not json"),
        (f"{DEVICE}/telemetry", os.urandom(10_000_000)),
        (f"{DEVICE}/telemetry", telemetry(now, 1, series={"scans": [[now, 41]], "tube_cel": [[now, 55.5]]})),
    )
    stored = running.eventually("SELECT metric, value FROM readings ORDER BY 1", lambda rows: len(rows) == 2)
    assert stored == [("scans", 41.0), ("tube_cel", 55.5)]
    refused = running.eventually("SELECT reason, length FROM quarantine ORDER BY 1", lambda rows: len(rows) == 6)
    assert {reason for reason, _ in refused} == {
        "invalid_json", "out_of_range", "timestamp_ahead", "too_large", "topic_mismatch", "unknown_device",
    }  # fmt: skip
    assert max(length for _, length in refused) == 10_000_000


def test_a_hard_fault_becomes_an_alert_and_an_order_that_people_acknowledge_and_close(running: Running) -> None:
    boot = time.time_ns() // 1_000_000
    running.publish((f"{DEVICE}/telemetry", telemetry(boot, 1, faults=[{"code": "XR-900", "ts": boot}])))
    running.eventually("SELECT state FROM alerts WHERE state = 'firing'", lambda rows: len(rows) == 1)
    running.eventually("SELECT number FROM work_orders", lambda rows: len(rows) == 1)
    (alert,) = running.command("alerts", "list")
    assert (alert["device_id"], alert["severity"], alert["subsystem"]) == (DEVICE, "critical", "tube")
    (order,) = running.command("workorders", "list")
    assert (order["part_ids"], order["suggested_technician_id"]) == (["tube"], "t1")
    (result,) = running.command("alerts", "ack", alert["alert_id"], "--by", "ada", "--comment", "on my way")
    assert result["result"] == "applied"
    assert running.rows("SELECT state, acknowledged_by FROM alerts") == [("acknowledged", "ada")]
    close = (
        "workorders",
        "close",
        order["work_order_id"],
        "--by",
        "ada",
        "--outcome",
        "part_replaced",
        "--part",
        "tube",
    )
    (result,) = running.command(*close)
    assert result["result"] == "applied"
    assert running.rows("SELECT state, outcome, used_part_ids FROM work_orders") == [
        ("done", "part_replaced", ["tube"])
    ]
    (result,) = running.command(*close, status=1)
    assert result["result"] == "refused"


def test_what_is_no_id_is_a_wrong_argument(running: Running) -> None:
    command = [sys.executable, "-m", "wardwatch.cli", "alerts", "ack", "no-id", "--data", str(running.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no-id" in done.stderr


def test_a_demo_does_not_empty_the_folder_of_what_runs(running: Running) -> None:
    (running.data / ".wardwatch-demo").touch()
    command = [sys.executable, "-m", "wardwatch.cli", "demo", "--exit", "--data", str(running.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert running.rows("SELECT count(*) FROM devices") == [(1,)]


def test_the_doctor_finds_it_well_and_prometheus_finds_both_roles(running: Running) -> None:
    assert [each for each in running.command("doctor") if each["state"] == "fail"] == []
    addresses = json.loads((running.data / "run" / "metrics.json").read_text("utf-8"))
    for role, metric in (("ingest", "wardwatch_ingest_readings_total"), ("worker", "wardwatch_readings_total")):
        with urlopen(addresses[role], timeout=5) as answer:
            assert f"\n{metric} " in answer.read().decode()
    for line in (running.data / "log" / "worker.log").read_text("utf-8").splitlines():
        assert json.loads(line)["event"]
    password = running.addresses["database_url"].split(":")[2].split("@")[0]
    assert not any(password in path.read_text("utf-8") for path in running.data.glob("log/*.log"))


def test_after_a_crash_of_everything_the_next_start_goes_on(running: Running) -> None:
    before = running.rows("SELECT count(*) FROM faults")
    running.process.kill()
    running.process.wait()
    assert running.process.stderr is not None
    running.process.stderr.close()
    running.process = running.start()
    boot = time.time_ns() // 1_000_000
    running.publish((f"{DEVICE}/telemetry", telemetry(boot, 1, faults=[{"code": "XR-101", "ts": boot}])))
    running.eventually("SELECT count(*) FROM faults", lambda rows: rows[0][0] == before[0][0] + 1)


def test_broker_database_and_roles_that_are_killed_come_back_by_themselves(running: Running) -> None:
    parts = processes(lambda _, folder: folder is not None and folder.is_relative_to(running.data))
    roles = [int((running.data / "run" / f"{role}.ready").read_text()) for role in ("worker", "ingest")]
    assert len(parts) > 2
    for pid in parts + roles:
        os.kill(pid, signal.SIGKILL)
    boot = time.time_ns() // 1_000_000
    fault = f"{DEVICE}/telemetry", telemetry(boot, 1, faults=[{"code": "XR-102", "ts": boot}])

    def sent_and_stored() -> bool:  # again and again, as senders do that nobody has confirmed anything to
        try:
            running.publish(fault)
            return running.rows("SELECT count(*) FROM faults WHERE code = 'XR-102'") == [(1,)]
        except (OSError, psycopg.OperationalError):
            return False

    healed = wait_until(sent_and_stored, 60.0)
    assert healed, "".join(path.read_text("utf-8")[-2000:] for path in running.data.glob("log/*.log"))


def test_it_stops_within_ten_seconds_and_a_second_start_goes_on_with_what_is_there(running: Running) -> None:
    before = running.rows("SELECT count(*) FROM readings")
    assert running.stop() < 10
    running.process = running.start()
    assert running.rows("SELECT count(*) FROM readings") == before
    now = time.time_ns() // 1_000_000
    running.publish((f"{DEVICE}/telemetry", telemetry(now, 1, series={"scans": [[now, 42]]})))
    running.eventually("SELECT max(value) FROM readings WHERE metric = 'scans'", lambda rows: rows[0][0] == 42)
