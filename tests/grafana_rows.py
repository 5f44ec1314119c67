"""Rows for the boards' tests: a small fleet with six weeks of telemetry, and alerts, orders and flags of every kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from schema.catalogue import load_catalogue
from schema.ids import derived_id
from schema.migrate import migrate

STOP = datetime(2026, 3, 2, tzinfo=UTC)
START = STOP - timedelta(days=42)
MODELS = ("mri", "ct", "ultrasound", "ventilator", "infusion_pump", "ivd")
BUDGET = {
    "budget": 0.05,
    "expected_false": 0.03,
    "probability": 0.5,
    "threshold": 0.0,
    "correction": 1.0,
    "device_months": 9.5,
}


@contextmanager
def migrated_database(server_url: str, name: str) -> Iterator[str]:
    """Address of a database with TimescaleDB and all tables; dropped afterwards."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            url = psycopg.conninfo.make_conninfo(server_url, dbname=name)
            with psycopg.connect(url, autocommit=True) as fresh:
                fresh.execute("CREATE EXTENSION timescaledb")
            migrate(url, load_catalogue())
            yield url
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


class Rows:
    """Inserts rows with every column that is not given set to something harmless."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.numbers = 0

    def add(self, table: str, **columns: Any) -> None:
        """One row as given."""
        values = [Jsonb(value) if isinstance(value, dict) else value for value in columns.values()]
        self.connection.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                sql.Identifier(table),
                sql.SQL(", ").join(map(sql.Identifier, columns)),
                sql.SQL(", ").join(sql.Placeholder() * len(columns)),
            ),
            values,
        )

    def customer(self, customer_id: str) -> None:
        self.add("customers", customer_id=customer_id, name=f"Hospital {customer_id}", segment="clinic", region="north",
                 account_manager="Li Wei", partition=0)  # fmt: skip
        self.add("sites", site_id=f"{customer_id}-main", customer_id=customer_id, name=f"Main building {customer_id}",
                 region="north", country="DE", timezone="Europe/Berlin")  # fmt: skip

    def device(self, device_id: str, model: str, customer_id: str) -> None:
        self.add("devices", device_id=device_id, model=model, site_id=f"{customer_id}-main", customer_id=customer_id,
                 installed_at=START - timedelta(days=400), udi_di="0123", udi_pi="45", firmware="2.1",
                 partition=0)  # fmt: skip

    def alert(self, device_id: str, customer_id: str, detector: str, fired_at: datetime | None, **columns: Any) -> str:
        self.numbers += 1
        alert_id = derived_id("alert", device_id, detector, self.numbers)
        onset_at = (fired_at or STOP) - timedelta(minutes=30)
        self.add("alerts", **{
            "alert_id": alert_id, "device_id": device_id, "site_id": f"{customer_id}-main", "customer_id": customer_id,
            "detector": detector, "subsystem": "", "severity": "warning", "state": "firing", "onset_at": onset_at,
            "pending_at": onset_at, "fired_at": fired_at, "acknowledged_at": None, "acknowledged_by": "",
            "resolved_at": None, "reason": "", "outcome": "", "score": 0.9, "flaps": 0, "suppressed_by": "",
            "work_order_id": None, "evidence": {"advice": "call the site", "observed": 3, "expected": 9.5},
            "partition": 0, **columns,
        })  # fmt: skip
        return alert_id

    def order(self, device_id: str, customer_id: str, opened_at: datetime, **columns: Any) -> str:
        self.numbers += 1
        work_order_id = derived_id("order", device_id, self.numbers)
        self.add("work_orders", **{
            "work_order_id": work_order_id, "number": f"WO-0-{self.numbers:06}", "device_id": device_id,
            "site_id": f"{customer_id}-main", "customer_id": customer_id, "kind": "corrective", "subsystem": "tube",
            "priority": "P2", "state": "open", "opened_at": opened_at, "due_at": opened_at + timedelta(days=2),
            "assigned_at": None, "started_at": None, "done_at": None, "suggested_technician_id": "t-1",
            "technician_id": "", "skill": "ct", "part_ids": ["tube"], "used_part_ids": [], "outcome": "", "note": "",
            "alert_ids": [], "partition": 0, **columns,
        })  # fmt: skip
        return work_order_id

    def flag(self, customer_id: str, raised_at: datetime, **columns: Any) -> None:
        self.numbers += 1
        self.add("churn_flags", **{
            "flag_id": derived_id("flag", customer_id, self.numbers), "customer_id": customer_id, "state": "raised",
            "level": "blue", "raised_at": raised_at, "blue_at": raised_at, "yellow_at": None, "orange_at": None,
            "red_at": None, "acknowledged_at": None, "closed_at": None, "decline_pct": 12.0,
            "owner_role": "account_manager", "owner": "Li Wei", "intervention": "application training", "outcome": "",
            "evidence": {"usage_down_pct": 31, "orders_open": 2, "reasons": ["usage", "repairs"]}, "partition": 0,
            **columns,
        })  # fmt: skip

    def health(self, customer_id: str, at: datetime, decline_pct: float, level: str) -> None:
        self.add("customer_health", customer_id=customer_id, at=at, health=80 - decline_pct, baseline=80.0,
                 decline_pct=decline_pct, usage=70 - decline_pct, service=85.0, known_weight=0.5, level=level,
                 evidence={"usage": "down since last week", "devices": 4})  # fmt: skip

    def usage(self, device_id: str, metric: str, day: datetime, increase: float | None) -> None:
        self.add("rollup_1d", device_id=device_id, metric=metric, bucket=day, count=144, sum=1.0, min=0.0, max=1.0,
                 increase=increase)  # fmt: skip

    def reliability(self, partition: int, at: datetime, bin_pct: int, **sums: float) -> None:
        for what, value in sums.items():
            self.add("model_metrics", partition=partition, at=at, model="failure_risk",
                     metric=f"reliability_{bin_pct:02}_{what}", value=value)  # fmt: skip


def fill(connection: psycopg.Connection[Any]) -> None:
    """Three hospitals with a device of each model and a gateway; the third is being lost, the second was offline."""
    rows = Rows(connection)
    customers = ("one", "two", "three")
    for customer in customers:
        rows.customer(customer)
        for model in (*MODELS, "gateway"):
            rows.device(f"{model}-{customer}", model, customer)
    rows.add("technicians", technician_id="t-1", name="Anna Braun", skills=["ct", "mri"], region="north")
    rows.add("technicians", technician_id="t-2", name="Chen Jie", skills=["ivd"], region="south")
    rows.add("parts", part_id="tube", name="X-ray tube", subsystem="tube")
    rows.add("calendars", calendar_id="h-1", kind="holiday", name="Holiday", from_at=STOP - timedelta(days=9),
             until_at=STOP - timedelta(days=8), country="DE", customer_id="", site_id="", device_id="")  # fmt: skip
    _fill_telemetry(connection)
    _fill_work(rows)
    for day in range(42):
        at = START + timedelta(days=day)
        for i, customer in enumerate(customers):
            decline = max(0.0, day - 20.0) * i
            level = next(n for n, bound in LEVELS if decline >= bound)
            rows.health(customer, at, decline, level)
    rows.flag("three", STOP - timedelta(days=12), level="red", decline_pct=42.0, yellow_at=STOP - timedelta(days=10),
              orange_at=STOP - timedelta(days=6), red_at=STOP - timedelta(days=2))  # fmt: skip
    for level in ("blue", "yellow", "orange"):
        rows.flag("two", STOP - timedelta(days=3), level=level)
    for outcome in ("kept", "lost", "false_alarm"):
        rows.flag("one", STOP - timedelta(days=30), state="closed", closed_at=STOP - timedelta(days=20),
                  outcome=outcome)  # fmt: skip
    _fill_engine(rows)


def _fill_engine(rows: Rows) -> None:
    for partition in range(2):
        rows.add("partition_progress", topic="telemetry", partition=partition, epoch=2, next_offset=900,
                 snapshot_offset=800, partition_time=STOP - timedelta(minutes=partition),
                 written_by="wardwatch 1")  # fmt: skip
        for day in range(40):
            at = START + timedelta(days=day)
            for what in ("gap", "late_reading", "unknown_metric"):
                rows.add("noticed", partition=partition, at=at, what=what, count=day + 1)
            rows.add("model_metrics", partition=partition, at=at, model="failure_risk", metric="auc", value=0.8)
            rows.reliability(partition, at, 0, judged=100.0, foretold=0.5, happened=1.0)
            rows.reliability(partition, at, 30, judged=4.0, foretold=1.4, happened=1.0)
            for metric, value in BUDGET.items():
                budget = {"model": "budget/usage_drop/ct", "metric": metric, "value": value}
                rows.add("model_metrics", partition=partition, at=at, **budget)
    for number in range(60):
        rows.add("quarantine", quarantine_id=derived_id("quarantine", number), topic="t", sha256=str(number),
                 received_at=START + timedelta(hours=17 * number), reason=("invalid_json", "out_of_range")[number % 2],
                 detail="", length=80, payload=b"x")  # fmt: skip
        rows.add("outbox", outbox_id=derived_id("outbox", number), created_at=START + timedelta(hours=number),
                 audience="service", kind="alert_fired", subject="s", body="b", payload={},
                 delivered_at=STOP if number % 3 else None,
                 last_error="" if number % 9 else "no such host")  # fmt: skip


LEVELS = (("red", 35.0), ("orange", 25.0), ("yellow", 15.0), ("blue", 10.0), ("none", 0.0))


def _fill_telemetry(connection: psycopg.Connection[Any]) -> None:
    series = """
        FROM devices d JOIN device_models m ON m.model = d.model
        CROSS JOIN LATERAL jsonb_each(m.catalogue -> 'metrics') k
        CROSS JOIN generate_series(%(start)s::timestamptz, %(stop)s::timestamptz - interval '1 minute', %(step)s) b
    """
    gauge = "k.value ->> 'kind' = 'gauge'"
    for table, step, start in (
        ("rollup_1m", timedelta(minutes=10), STOP - timedelta(days=2)),
        ("rollup_1h", timedelta(hours=1), START),
        ("rollup_1d", timedelta(days=1), START),
    ):
        samples = max(1, int(step / timedelta(minutes=10)))
        connection.execute(
            f"INSERT INTO {table} (device_id, metric, bucket, count, sum, min, max, increase)"
            f" SELECT d.device_id, k.key, b, {samples}, {samples} * 20.0, 19.5, 20.5,"
            f" CASE WHEN {gauge} THEN NULL ELSE {samples} * 0.5 END {series}",
            {"start": start, "stop": STOP, "step": step},
        )
    connection.execute(
        f"INSERT INTO readings (device_id, metric, ts, value, boot) SELECT d.device_id, k.key, b, 20.0, 1 {series}",
        {"start": STOP - timedelta(hours=6), "stop": STOP, "step": timedelta(minutes=10)},
    )
    connection.execute(
        "INSERT INTO faults (device_id, ts, code, severity, subsystem, text, boot, seq)"
        " SELECT d.device_id, b, k.key, k.value ->> 'severity', k.value ->> 'subsystem', k.value ->> 'text', 1, 1"
        " FROM devices d JOIN device_models m ON m.model = d.model"
        " CROSS JOIN LATERAL jsonb_each(m.catalogue -> 'faults') k"
        " CROSS JOIN generate_series(%s::timestamptz, %s::timestamptz, interval '67 hours') b",
        (START, STOP),
    )


def _fill_work(rows: Rows) -> None:
    hour = timedelta(hours=1)
    for day in range(2, 40):
        fired = START + timedelta(days=day, hours=7)
        detector = ("fault_rule", "failure_risk", "usage_drop")[day % 3]
        outcome = ("confirmed", "false", "unclear", "")[day % 4]
        customer = ("one", "two", "three")[day % 3]
        device = f"{MODELS[day % 6]}-{customer}"
        order = rows.order(
            device, customer, fired + hour, kind="inspection" if day % 3 == 1 else "corrective", state="done",
            priority=f"P{day % 4 + 1}", assigned_at=fired + 2 * hour, started_at=fired + 20 * hour,
            done_at=fired + 30 * hour, technician_id=f"t-{day % 2 + 1}", used_part_ids=["tube"],
            outcome=("confirmed", "part_replaced", "no_fault_found")[day % 3],
        )  # fmt: skip
        rows.alert(
            device, customer, detector, fired, severity=("info", "warning", "error", "critical")[day % 4],
            state="resolved", acknowledged_at=fired + 3 * hour, acknowledged_by="anna", resolved_at=fired + 30 * hour,
            outcome=outcome, work_order_id=order,
        )  # fmt: skip
    for i, priority in enumerate(("P1", "P2", "P3", "P4")):
        rows.order(f"{MODELS[i]}-one", "one", STOP - timedelta(days=i + 1), priority=priority,
                   state="assigned" if i % 2 else "open", assigned_at=STOP - 5 * hour if i % 2 else None,
                   technician_id="t-1" if i % 2 else "")  # fmt: skip
    rows.alert("mri-one", "one", "fault_rule", STOP - 2 * hour, severity="critical", subsystem="cryogenics")
    rows.alert("ct-one", "one", "failure_risk", STOP - 9 * hour, severity="error", acknowledged_at=STOP - hour)
    rows.alert("ivd-one", "one", "usage_drop", STOP - 9 * hour, severity="info")
    rows.alert("ventilator-one", "one", "usage_drop", STOP - 9 * hour)
    rows.alert("gateway-two", "two", "silence", STOP - 4 * hour, severity="error")
    rows.alert("", "two", "silence", STOP - 4 * hour, severity="error")
    rows.alert("ct-two", "two", "silence", STOP - 4 * hour, suppressed_by="site offline")
    rows.alert("ivd-three", "three", "fault_rule", None, state="pending")
    flood = {"bridge": "b-1", "waiting": 4200.0, "quota_per_hour": 900.0, "advice": "check_sender"}
    rows.alert("gateway-three", "three", "flood", STOP - 9 * hour, resolved_at=STOP - 2 * hour, state="resolved",
               evidence=flood)  # fmt: skip
