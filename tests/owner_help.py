"""An owner of one partition, its log, and what it leaves in the database."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import psycopg

from schema.catalogue import load_catalogue
from schema.messages import Message
from schema.record import Tick, encode_registry, encode_telemetry, encode_tick
from simulator.scenario import CLOCK_MS, Scenario
from streams.owner import TelemetryOwner
from streams.processor import LogRecord

CATALOGUE = load_catalogue()
SCENARIO = Scenario(11, devices=8, customers=2, days=3)
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
