"""The Prometheus endpoint: what it says is what is in the database, and it names no device."""

import socket
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from urllib.request import urlopen

import psycopg
from owner_help import CATALOGUE, SCENARIO, log_of, owner
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from ingest.bridge import Bridge
from ingest.directory import DeviceDirectory
from ingest.settings import BridgeConfig
from schema.messages import Refused
from schema.migrate import migrate
from schema.record import encode_refused
from simulator.offline import messages
from streams.lane import LaneStats
from streams.logs.embedded import EmbeddedLog
from streams.owner import TelemetryOwner
from streams.ownership import WorkerStats
from streams.processor import LogRecord
from streams.refused import RefusedOwner
from streams.stats import Histogram
from wardwatch.local.process import free_port, wait_until
from wardwatch.metrics import INGEST, INGEST_GAUGES, IngestCollector, WorkerCollector, follow_ends, served

Samples = dict[tuple[str, tuple[str, ...]], float]


def samples(text: str) -> Samples:
    """Values by name and label values, those in the order of the labels' names."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def collected(collector: Collector) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry).decode()


def bridge() -> Bridge:
    return Bridge(
        BridgeConfig("mqtt://127.0.0.1:1", "bridge-1", 1),
        catalogue=CATALOGUE,
        directory=DeviceDirectory(1, SCENARIO.registry.devices, refresh=list),
        append=lambda _: None,
        last_ticks={},
    )


async def worked(database: str, log: Sequence[LogRecord]) -> tuple[TelemetryOwner, RefusedOwner, WorkerStats]:
    """A worker's parts after a log was processed; the partition is still owned."""
    telemetry, refused = owner(database, snapshot_every_s=0.05), RefusedOwner(database)
    await telemetry.take_over(0, None)
    for offset in range(0, len(log), 32):
        await telemetry.process(0, log[offset : offset + 32])
    await refused.take_over(0, None)
    bad = [Refused("t", str(i), 5, "invalid_json", "d", 3, b"x") for i in range(2)]
    await refused.process(0, [LogRecord(0, encode_refused(bad, source="s", receive_ms=0))])
    await refused.give_up(0, orderly=True)
    lanes = {("telemetry", 0): LaneStats(repeated=3, seeks=2, expected=len(log), end=len(log) + 7, owned=True)}
    return telemetry, refused, WorkerStats(lanes=lanes)  # type: ignore[arg-type] # a TP is such a tuple


async def test_a_scrape_says_what_was_committed(database: str) -> None:
    migrate(database, CATALOGUE)
    log = log_of(list(messages(SCENARIO)))
    telemetry, refused, stats = await worked(database, log)
    port = free_port()
    with (
        served(WorkerCollector(telemetry, refused, stats, {}, simulated=True), "127.0.0.1", port),
        urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer,
    ):
        text = answer.read().decode()
    found = samples(text)
    with psycopg.connect(database) as connection:
        (readings,) = connection.execute("SELECT count(*) FROM readings").fetchone() or ()
        (faults,) = connection.execute("SELECT count(*) FROM faults").fetchone() or ()
        (fired,) = connection.execute("SELECT count(*) FROM alert_events WHERE to_state = 'firing'").fetchone() or ()
        up = connection.execute(
            "SELECT severity, count(*) FROM alerts WHERE state IN ('firing', 'acknowledged') GROUP BY 1"
        ).fetchall()
        at = connection.execute("SELECT extract(epoch FROM partition_time)::float8 FROM partition_progress").fetchone()
    assert found["wardwatch_readings_total", ()] == readings > 0
    assert found["wardwatch_faults_total", ()] == faults > 0
    assert found["wardwatch_records_total", ()] == len(log)
    assert sum(count for (name, _), count in found.items() if name == "wardwatch_alerts_fired_total") == fired > 0
    assert {labels[1]: count for (name, labels), count in found.items() if name == "wardwatch_alerts_up"} == dict(up)
    assert found["wardwatch_transaction_records_count", ()] == -(-len(log) // 32)
    assert found["wardwatch_transaction_records_sum", ()] == len(log)
    assert found["wardwatch_transaction_readings_sum", ()] == readings
    assert found["wardwatch_snapshots_total", ()] > 0
    assert found["wardwatch_quarantined_total", ("invalid_json",)] == 2
    assert found["wardwatch_judgements_total", ("usage_drop",)] > 0
    assert found["wardwatch_partition_timestamp_seconds", ("0",)] == (at or (0,))[0]
    assert found["wardwatch_watermark_delay_seconds", ("0",)] == 0
    assert found["wardwatch_epoch", ("0",)] == 1
    assert found["wardwatch_log_lag_records", ("0", "telemetry")] == 7
    assert found["wardwatch_records_repeated_total", ("0", "telemetry")] == 3
    assert found["wardwatch_gaps_healed_total", ("0", "telemetry")] == 2
    assert found["process_resident_memory_bytes", ()] > 0
    assert not any(device.device_id in text for device in SCENARIO.registry.devices)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    begun_s = time.process_time()
    for _ in range(10):
        collected(WorkerCollector(telemetry, refused, stats, {}, simulated=False))
    assert time.process_time() - begun_s < 0.5
    await telemetry.give_up(0, orderly=False)


async def test_what_is_recomputed_is_counted_apart(database: str) -> None:
    migrate(database, CATALOGUE)
    log = log_of(list(messages(SCENARIO))[:200])
    first = owner(database)
    await first.take_over(0, None)
    await first.process(0, log)
    await first._owned[0].connection.close()
    again = owner(database)
    await again.take_over(0, None)
    await again.process(0, log)
    assert (again.stats.recomputed, again.stats.readings, again.stats.transactions) == (len(log), 0, 0)
    assert not again.stats.found
    await again.give_up(0, orderly=False)


def test_a_bridge_shows_every_number_that_it_counts() -> None:
    of = bridge()
    of.stats.received, of.stats.readings, of.stats.ticked_ms = 7, 40, 90_000
    of.stats.refused.update({"invalid_json": 2, "unknown_device": 1})
    found = samples(collected(IngestCollector(of, simulated=False, now_ms=lambda: 92_500)))
    assert found["wardwatch_ingest_messages_received_total", ()] == 7
    assert found["wardwatch_ingest_readings_total", ()] == 40
    assert found["wardwatch_ingest_messages_refused_total", ("invalid_json",)] == 2
    assert found["wardwatch_ingest_messages_refused_total", ("unknown_device",)] == 1
    assert found["wardwatch_ingest_tick_lag_seconds", ()] == 2.5
    assert found["wardwatch_ingest_queue_messages", ()] == 0
    assert found["wardwatch_ingest_connected", ()] == 0
    shown = {name for name, _ in found}
    for field, value in of.stats.as_dict().items():
        name = f"wardwatch_ingest_{INGEST.get(field, (field, ''))[0]}"
        assert not isinstance(value, int) or (name if field in INGEST_GAUGES else f"{name}_total") in shown, field


def test_in_simulated_time_nothing_lags_behind_the_wall_clock() -> None:
    of = bridge()
    of.stats.ticked_ms = 90_000
    assert "tick_lag" not in collected(IngestCollector(of, simulated=True))


def test_the_lag_grows_while_a_worker_reads_nothing(tmp_path: Path) -> None:
    with EmbeddedLog(tmp_path / "log") as log:
        log.create_topic("telemetry", 1)
        log.append([("telemetry", 0, b"x")] * 30)
        ends: dict[tuple[str, int], int] = {}
        stop = Event()
        follower = Thread(target=follow_ends, args=(log, ends, stop, 0.01))
        follower.start()
        assert wait_until(lambda: bool(ends), 5.0)
        stop.set()
        follower.join()
    lanes = {("telemetry", 0): LaneStats(expected=10, end=12, owned=True)}
    telemetry = owner("postgresql://nowhere")
    stats = WorkerStats(lanes=lanes)  # type: ignore[arg-type] # a TP is such a tuple
    found = samples(collected(WorkerCollector(telemetry, RefusedOwner(""), stats, ends, simulated=False)))
    assert found["wardwatch_log_lag_records", ("0", "telemetry")] == 20


def test_a_bound_belongs_to_the_bucket_below_it() -> None:
    histogram = Histogram((1, 2, 4))
    for value in (0.5, 1, 1.5, 4, 5):
        histogram.observe(value)
    assert histogram.counts == [2, 1, 1, 1]
    assert histogram.total == 12


def test_a_taken_port_stops_nobody() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with served(IngestCollector(bridge(), simulated=True), "127.0.0.1", taken.getsockname()[1]):
            pass
    with served(IngestCollector(bridge(), simulated=True), "127.0.0.1", None):
        pass
