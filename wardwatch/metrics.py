"""What a role counts, for Prometheus: read from its plain counters at the moment of a scrape, so that counting is free.

Labels are partitions, reasons, detectors, severities and tables: bounded, and never a device.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields

import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from ingest.bridge import Bridge
from streams.logs import Log
from streams.logs.file import LogError
from streams.owner import TelemetryOwner
from streams.ownership import WorkerStats
from streams.refused import RefusedOwner
from streams.stats import Histogram

LOOK_EVERY_S = 2.0

log = structlog.get_logger()

INGEST = {
    "received": ("messages_received", "MQTT messages that came"),
    "messages": ("messages", "messages of devices written to the log"),
    "readings": ("readings", "readings written to the log"),
    "ahead": ("readings_ahead", "readings later than their receive time"),
    "refused": ("messages_refused", "messages with at least one refusal, by its reason"),
    "clocks": ("clocks", "clock messages of a simulation"),
    "records": ("records", "records appended to the log"),
    "record_bytes": ("record_bytes", "bytes appended to the log"),
    "appends": ("appends", "appends to the log"),
    "failed_attempts": ("failed_attempts", "appends and look-ups that failed and were tried again"),
    "confirmations": ("confirmations", "confirmations published to devices"),
    "ticked_ms": ("tick_timestamp_seconds", "newest tick in the log, since the epoch"),
    "repeated": ("messages_repeated", "messages that were in the log already"),
    "over_quota": ("messages_over_quota", "messages that went to the overflow"),
    "readmitted": ("messages_readmitted", "messages that came back from the overflow"),
    "overflow_waiting": ("overflow_messages", "messages in the overflow"),
    "flooding": ("flooding_devices", "devices that have messages in the overflow"),
    "strangers": ("strangers_messages", "messages that wait for the registry to know their device"),
    "bridges": ("bridges", "bridges alive, this one among them"),
    "given_up": ("bridges_given_up", "bridges given up for dead"),
    "paused": ("paused", "1 while nothing is taken because the workers are behind"),
    "lag_bytes": ("lag_bytes", "bytes in the log that the workers have before themselves"),
    "broker_dropped": ("broker_dropped_messages", "messages that the broker says it has dropped"),
}
"""Metric and meaning of what a bridge counts; what is not here goes by its own name."""

INGEST_GAUGES = {"ticked_ms", "overflow_waiting", "flooding", "strangers", "bridges", "paused", "lag_bytes"}


class IngestCollector(Collector):
    """Metrics of a bridge: all numbers of its `stats`, and a `Counter` among them by reason."""

    def __init__(
        self, bridge: Bridge, *, simulated: bool, now_ms: Callable[[], float] = lambda: time.time() * 1000
    ) -> None:
        self._bridge = bridge
        self._simulated = simulated
        self._now_ms = now_ms

    def collect(self) -> Iterable[Metric]:
        """See `prometheus_client.registry.Collector`."""
        stats = self._bridge.stats
        for field in fields(stats):
            value = getattr(stats, field.name)
            name, meaning = INGEST.get(field.name, (field.name, field.name.replace("_", " ")))
            name = f"wardwatch_ingest_{name}"
            if field.name in INGEST_GAUGES:
                yield _gauge(name, meaning, value / 1000 if field.name.endswith("_ms") else value)
            elif isinstance(value, Mapping):
                yield _by(CounterMetricFamily(name, meaning, labels=["reason"]), value)
            elif isinstance(value, int):
                yield CounterMetricFamily(name, meaning, value=value)
        yield _gauge("wardwatch_ingest_queue_messages", "messages that wait to be written", self._bridge.queued)
        yield _gauge("wardwatch_ingest_connected", "1 while the broker delivers", self._bridge.connected)
        if stats.ticked_ms and not self._simulated:
            lag_s = max(0.0, self._now_ms() - stats.ticked_ms) / 1000
            yield _gauge("wardwatch_ingest_tick_lag_seconds", "wall clock less the newest tick in the log", lag_s)


class WorkerCollector(Collector):
    """Metrics of a worker. In simulated time its delay is that behind the newest record, else behind the wall clock.

    `ends` are the log's end offsets, kept up to date by somebody else (`follow_ends`): a worker that waits for its
    database reads nothing, and knows no newer ones.
    """

    def __init__(
        self,
        owner: TelemetryOwner,
        refused: RefusedOwner,
        worker: WorkerStats,
        ends: Mapping[tuple[str, int], int],
        *,
        simulated: bool,
        now_ms: Callable[[], float] = lambda: time.time() * 1000,
    ) -> None:
        self._owner = owner
        self._refused = refused
        self._worker = worker
        self._ends = ends
        self._simulated = simulated
        self._now_ms = now_ms

    def collect(self) -> Iterable[Metric]:
        """See `prometheus_client.registry.Collector`."""
        yield from self._totals()
        yield from self._lanes()
        yield from self._partitions()

    def _totals(self) -> Iterator[Metric]:
        stats = self._owner.stats
        for name, meaning, value in (
            ("records", "records of the log handled", stats.records),
            ("record_bytes", "bytes of records handled", stats.record_bytes),
            ("records_recomputed", "records handled again after a take-over, effects muted", stats.recomputed),
            ("records_corrupt", "records that could not be read", stats.corrupt),
            ("readings", "readings committed", stats.readings),
            ("faults", "fault events committed", stats.faults),
            ("rollup_rows", "rows of rollups committed, late partial aggregates included", stats.rollups),
            ("rows", "rows of other tables committed", stats.rows),
            ("messages_repeated", "messages of devices that had come before", stats.repeated),
            ("transactions", "transactions committed", stats.transactions),
            ("transaction_retries", "transactions and take-overs tried again: the database was away", stats.retries),
            ("snapshots", "snapshots committed", stats.snapshots),
            ("snapshot_rows", "rows of snapshots committed", stats.snapshot_rows),
            ("snapshot_bytes", "bytes of snapshots committed", stats.snapshot_bytes),
            ("fenced", "partitions that another worker was found to own", max(stats.fenced, self._worker.fenced)),
            ("rebalances", "times that partitions were handed out anew", self._worker.rebalances),
        ):
            yield CounterMetricFamily(f"wardwatch_{name}", meaning, value=value)
        for name, meaning, label, values in (
            ("judgements", "findings that detectors handed to the desk", "detector", stats.found),
            ("alerts_fired", "alerts that began to fire", "severity", stats.fired),
            ("rows_refused", "rows that the database refused, now in the quarantine", "table", stats.refused),
            ("quarantined", "refused messages handed to the quarantine", "reason", self._refused.quarantined),
        ):
            yield _by(CounterMetricFamily(f"wardwatch_{name}", meaning, labels=[label]), values)
        for name, meaning, histogram in (
            ("transaction_seconds", "time of a transaction", stats.transaction_s),
            ("transaction_records", "records in a transaction", stats.transaction_records),
            ("transaction_readings", "readings in a transaction", stats.transaction_readings),
            ("snapshot_seconds", "time of a snapshot with its transaction", stats.snapshot_s),
        ):
            yield _histogram(f"wardwatch_{name}", meaning, histogram)

    def _lanes(self) -> Iterator[Metric]:
        labels = ["topic", "partition"]
        lag = GaugeMetricFamily("wardwatch_log_lag_records", "records in the log not handled yet", labels=labels)
        still = GaugeMetricFamily("wardwatch_stood_still_seconds", "time of the newest hand-over", labels=labels)
        repeated = CounterMetricFamily("wardwatch_records_repeated", "records dropped as known", labels=labels)
        healed = CounterMetricFamily("wardwatch_gaps_healed", "times that missing records were sought", labels=labels)
        waited = CounterMetricFamily("wardwatch_waited_seconds", "time of waiting for other partitions", labels=labels)
        for (topic, partition), lane in sorted(dict(self._worker.lanes).items()):
            place = [topic, str(partition)]
            repeated.add_metric(place, lane.repeated)
            healed.add_metric(place, lane.seeks)
            waited.add_metric(place, lane.waited_s)
            if lane.owned:
                end = max(lane.end, self._ends.get((topic, partition), 0))
                lag.add_metric(place, max(0, end - lane.expected))
                still.add_metric(place, lane.stood_still_s)
        yield from (lag, still, repeated, healed, waited)

    def _partitions(self) -> Iterator[Metric]:
        epoch = GaugeMetricFamily("wardwatch_epoch", "term of the partition's owner", labels=["partition"])
        offset = GaugeMetricFamily("wardwatch_next_offset", "next record of the log to commit", labels=["partition"])
        at = GaugeMetricFamily("wardwatch_partition_timestamp_seconds", "the partition's time", labels=["partition"])
        delay = GaugeMetricFamily(
            "wardwatch_watermark_delay_seconds", "how far the partition's time is behind", labels=["partition"]
        )
        alerts = GaugeMetricFamily("wardwatch_alerts_up", "alerts that are up", labels=["partition", "severity"])
        noticed = CounterMetricFamily("wardwatch_noticed", "what was noticed in the data", labels=["partition", "what"])
        for status in self._owner.status():
            place = str(status.partition)
            epoch.add_metric([place], status.epoch)
            offset.add_metric([place], status.next_offset)
            if status.time_ms:
                at.add_metric([place], status.time_ms / 1000)
                newest_ms = status.newest_ms if self._simulated else self._now_ms()
                delay.add_metric([place], max(0.0, newest_ms - status.time_ms) / 1000)
            for severity, count in sorted(status.open_alerts.items()):
                alerts.add_metric([place, severity], count)
            for what, count in sorted(status.counts.items()):
                noticed.add_metric([place, what], count)
        yield from (epoch, offset, at, delay, alerts, noticed)


def follow_ends(
    opened: Log, ends: dict[tuple[str, int], int], stop: threading.Event, every_s: float = LOOK_EVERY_S
) -> None:
    """Keep `ends` up to date until `stop` is set; while the log does not answer they stay as they are."""
    while not stop.wait(every_s):
        with suppress(LogError):
            ends.update(opened.end_offsets())


@contextmanager
def served(collector: Collector, host: str, port: int | None) -> Iterator[None]:
    """Answer scrapes on `host:port` for the time of the context; with a port of 0 or None, do not.

    A port that cannot be had is logged and nothing more: what is watched is worth more than the watching.
    """
    if not port:
        yield
        return
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    ProcessCollector(registry=registry)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        log.error("no metrics, set another WARDWATCH_METRICS_PORT", host=host, port=port, error=str(error))
        yield
        return
    log.info("metrics are served", url=f"http://{host}:{port}/metrics")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)


def _by(family: CounterMetricFamily, values: Mapping[str, int]) -> Metric:
    for label, count in sorted(dict(values).items()):
        family.add_metric([label], count)
    return family


def _histogram(name: str, meaning: str, histogram: Histogram) -> Metric:
    counts, total, buckets = list(histogram.counts), 0, []
    for bound, count in zip([*map(str, map(float, histogram.bounds)), "+Inf"], counts, strict=True):
        total += count
        buckets.append((bound, total))
    return HistogramMetricFamily(name, meaning, buckets=buckets, sum_value=histogram.total)
