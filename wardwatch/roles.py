"""The two long-running roles, wired: `ingest` brings messages into the log, `worker` turns the log into effects."""

import asyncio
import signal
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import psycopg
import structlog

from alerting.delivery import run_delivery
from alerting.notifier import AppriseNotifier
from ingest.backlog import Backlog
from ingest.bridge import Bridge
from ingest.directory import DeviceDirectory
from ingest.settings import BridgeConfig
from schema.registry import Device
from schema.topics import OVERFLOW, REFUSED, TELEMETRY
from streams import exchange
from streams.connecting import answers, watchful
from streams.guarded import CommitsLost, one_line
from streams.lane import OffsetsMissing
from streams.logs import Log
from streams.logs.file import LogError
from streams.owner import REGISTRY_CHANNEL, TelemetryOwner, UpgradeError
from streams.ownership import WorkerStats, WrongLog
from streams.processor import Fenced
from streams.refused import RefusedOwner
from streams.snapshot import FormatError
from streams.warm import warm_up
from streams.worker import run_worker
from wardwatch.access import catalogue_of, database_url, kafka_access, mqtt_tls, open_log
from wardwatch.actions import rows
from wardwatch.bridging import OverflowTopic, lag_of, last_ticks, other_sources, overflow_floor, record_bytes
from wardwatch.metrics import IngestCollector, WorkerCollector, follow_ends, served
from wardwatch.settings import Settings, SettingsError

RETAIN_EVERY_S = 60.0
RECONNECT_S = 1.0
RECONNECT_MAX_S = 8.0
DAY_MS = 86_400_000

_IN_VAIN = ("authentication failed", "does not exist", "no pg_hba.conf entry")
"""Words of a server that waits for nothing but other settings."""

ENDINGS = (
    LogError, psycopg.Error, Fenced, CommitsLost, UpgradeError, FormatError, WrongLog, OffsetsMissing,
    exchange.ContributionsGoneError,
)  # fmt: skip
"""What a role ends with; whoever keeps it running starts it again."""

log = structlog.get_logger()


def ingest_role(settings: Settings, on_ready: Callable[[], None]) -> None:
    """Run the bridge until SIGTERM or SIGINT."""
    if settings.mqtt_url is None:
        raise SettingsError("WARDWATCH_MQTT_URL: not set; name a broker, or start everything with `wardwatch up`")
    url = watchful(database_url(settings))
    stop = _stop_on_signals()
    wait_for_database(url, stop)
    with open_log(settings) as opened:
        directory = DeviceDirectory(settings.partitions, registered(url), refresh=lambda: registered(url))
        follower = threading.Thread(target=_follow_registry, args=(url, directory, stop), daemon=True)
        follower.start()
        bridge = Bridge(
            BridgeConfig(
                mqtt_url=settings.mqtt_url,
                source=settings.source,
                partitions=settings.partitions,
                clock=settings.clock,
                max_readings=settings.max_readings,
                flush_ms=settings.flush_ms,
                confirm_interval_ms=settings.confirm_interval_ms,
                quota_factor=settings.quota_factor,
                max_lag_bytes=settings.max_lag_mb << 20,
                peer_timeout_ms=int(settings.peer_timeout_s * 1000),
                dropped_topic=settings.broker_dropped_topic or None,
                tls=mqtt_tls(settings),
            ),
            catalogue=catalogue_of(settings),
            directory=directory,
            append=opened.append,
            last_ticks=last_ticks(opened, settings.source, settings.partitions),
            sources=other_sources(opened, settings.source, settings.partitions),
            overflow=OverflowTopic(opened),
            backlog=Backlog(lag_of(opened), record_bytes(opened, settings.partitions)),
        )
        threading.Thread(target=_when_subscribed, args=(bridge, on_ready), daemon=True).start()
        simulated = settings.clock == "simulated"
        with served(IngestCollector(bridge, simulated=simulated), settings.metrics_host, settings.metrics_port):
            bridge.run(stop)


def _when_subscribed(bridge: Bridge, on_ready: Callable[[], None]) -> None:
    bridge.subscribed.wait()
    on_ready()


def registered(url: str) -> list[Device]:
    """Return the devices of the committed registry."""
    with psycopg.connect(url) as connection:
        found = rows(
            connection,
            "SELECT device_id, model, site_id, customer_id, udi_di, udi_pi, firmware,"
            " (extract(epoch FROM installed_at) * 1000)::bigint AS installed_ms FROM devices",
        )
    return [Device(**row) for row in found]


def advice(error: Exception) -> str:
    """Say what to do about one of `ENDINGS`."""
    match error:
        case psycopg.errors.UndefinedTable() | psycopg.errors.UndefinedColumn():
            return "bring the tables up to date: wardwatch migrate"
        case psycopg.errors.InsufficientPrivilege():
            return "GRANT wardwatch_writer TO the role in WARDWATCH_DATABASE_URL"
        case CommitsLost() | Fenced() | OffsetsMissing():
            return "start again: it goes on from the newest snapshot"
        case WrongLog() | exchange.ContributionsGoneError():
            return "database and log must be those that belong together; see wardwatch doctor"
    return "see wardwatch doctor"


def wait_for_database(url: str, stop: threading.Event) -> None:
    """Return when the database takes connections, or `stop` is set.

    Raises:
        psycopg.OperationalError: it answers, and waiting does not help.
    """
    pause_s = RECONNECT_S
    while not stop.is_set():
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError as error:
            if any(words in str(error) for words in _IN_VAIN):
                raise
            log.warning("waiting for the database", error=one_line(error), pause_s=pause_s)
        stop.wait(pause_s)
        pause_s = min(2 * pause_s, RECONNECT_MAX_S)


def _follow_registry(url: str, directory: DeviceDirectory, stop: threading.Event) -> None:
    pause_s = RECONNECT_S
    while not stop.is_set():
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"LISTEN {REGISTRY_CHANNEL}".encode())
                directory.replace(registered(url))
                pause_s = RECONNECT_S
                while not stop.is_set():
                    if list(connection.notifies(timeout=1.0, stop_after=1)):
                        directory.replace(registered(url))
        except psycopg.Error as error:
            log.warning("registry cannot be followed, trying again", error=one_line(error), pause_s=pause_s)
            stop.wait(pause_s)
            pause_s = min(2 * pause_s, RECONNECT_MAX_S)


def worker_role(settings: Settings, on_ready: Callable[[], None]) -> None:
    """Run the worker until SIGTERM or SIGINT; last snapshots may take a minute then, a second one leaves them out."""
    warm_up()
    url = watchful(database_url(settings))
    stop = threading.Event()
    wait_for_database(url, stop)
    owner = TelemetryOwner(
        url,
        catalogue_of(settings),
        version=f"wardwatch {version('wardwatch')}",
        snapshot_every_s=settings.snapshot_every_s,
        partitions=settings.partitions,
        fleet_wait_s=None if settings.clock == "simulated" else exchange.WAIT_S,
    )
    access = kafka_access(settings)
    refused, stats = RefusedOwner(url), WorkerStats()
    ends: dict[tuple[str, int], int] = {}
    collector = WorkerCollector(owner, refused, stats, ends, simulated=settings.clock == "simulated")
    with open_log(settings) as opened, served(collector, settings.metrics_host, settings.metrics_port):
        helpers = [
            threading.Thread(target=_retain, args=(url, settings, opened, stop), name="retention", daemon=True)
        ]
        if settings.metrics_port:
            helpers.append(threading.Thread(target=follow_ends, args=(opened, ends, stop), name="ends", daemon=True))
        if settings.deliver:
            notifier = AppriseNotifier(settings.deliver)
            deliver = threading.Thread(target=run_delivery, args=(url, notifier, stop), name="delivery", daemon=True)
            helpers.append(deliver)
        for helper in helpers:
            helper.start()
        try:
            asyncio.run(
                run_worker(
                    broker_url=opened.broker_url,
                    credentials=access.faust_credentials() if access is not None else None,
                    topics={TELEMETRY: owner, REFUSED: refused},
                    data=settings.data / "faust",
                    on_ready=on_ready,
                    stats=stats,
                    answers=lambda: answers(url),
                )
            )
        finally:
            stop.set()
            for helper in helpers:
                helper.join(timeout=2.0)


def _retain(url: str, settings: Settings, opened: Log, stop: threading.Event) -> None:
    """Delete old records and contributions, never those that what was a partition's newest cut a round ago may need.

    A crash of the database may take back the last moments' commits, and with them a cut: both must still reach back.
    """
    settled: dict[tuple[str, int], int] = {}
    fleet_since: int | None = None
    while not stop.wait(RETAIN_EVERY_S):
        try:
            with psycopg.connect(url) as connection:
                found = connection.execute(
                    "SELECT topic, partition, CASE WHEN topic = %s THEN snapshot_offset ELSE next_offset END"
                    " FROM partition_progress",
                    (TELEMETRY,),
                ).fetchall()
                fleet_since = exchange.forget(connection, settings.partitions, fleet_since)
        except psycopg.Error as error:
            log.warning("retention is put off", error=one_line(error))
            continue
        if settled:
            try:
                deleted = opened.retain(
                    max_bytes=settings.log_max_mb << 20,
                    max_age_ms=int(settings.log_max_days * DAY_MS),
                    floor=settled | {(OVERFLOW, 0): overflow_floor(opened)},
                )
            except LogError as error:
                log.warning("retention is put off", error=one_line(error))
                continue
            if deleted:
                log.info("old records deleted", records=deleted)
        settled = {(topic, partition): cut for topic, partition, cut in found}


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def ready_file(data: Path, role: str) -> Path:
    """Where a role notes its process id once it takes in what comes."""
    return data / "run" / f"{role}.ready"


def metrics_file(data: Path) -> Path:
    """Where `up` notes at which address Prometheus finds each role."""
    return data / "run" / "metrics.json"
