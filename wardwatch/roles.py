"""The two long-running roles, wired: `ingest` brings messages into the log, `worker` turns the log into effects."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import psycopg
import structlog

from alerting.delivery import run_delivery
from alerting.notifier import AppriseNotifier
from ingest.bridge import Bridge
from ingest.directory import DeviceDirectory
from ingest.settings import BridgeConfig
from schema.catalogue import Catalogue, load_catalogue
from schema.record import Tick, decode
from schema.registry import Device
from schema.topics import REFUSED, TELEMETRY
from streams.log import EmbeddedLog
from streams.owner import REGISTRY_CHANNEL, RefusedOwner, TelemetryOwner
from streams.transport import broker_url
from streams.worker import run_worker
from wardwatch.actions import rows
from wardwatch.settings import Settings, SettingsError

RETAIN_EVERY_S = 60.0
RECONNECT_S = 1.0
DAY_MS = 86_400_000

log = structlog.get_logger()


def catalogue_of(settings: Settings) -> Catalogue:
    """The built-in catalogue and the customer's own files."""
    return load_catalogue(*([settings.catalogue] if settings.catalogue else []))


def open_log(settings: Settings) -> EmbeddedLog:
    """Open the embedded log with its topics."""
    settings.data.mkdir(parents=True, exist_ok=True)
    embedded = EmbeddedLog(settings.log_file)
    embedded.create_topic(TELEMETRY, settings.partitions)
    embedded.create_topic(REFUSED, 1)
    return embedded


def database_url(settings: Settings) -> str:
    """Return the database's address.

    Raises:
        SettingsError: none is set.
    """
    if settings.database_url is None:
        raise SettingsError("WARDWATCH_DATABASE_URL: not set; name a database, or start everything with `wardwatch up`")
    return settings.database_url


def ingest_role(settings: Settings, on_ready: Callable[[], None]) -> None:
    """Run the bridge until SIGTERM or SIGINT."""
    if settings.mqtt_url is None:
        raise SettingsError("WARDWATCH_MQTT_URL: not set; name a broker, or start everything with `wardwatch up`")
    url = database_url(settings)
    stop = _stop_on_signals()
    with open_log(settings) as embedded:
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
            ),
            catalogue=catalogue_of(settings),
            directory=directory,
            append=lambda entries: _append(embedded, entries),
            last_ticks=last_ticks(embedded, settings.source, settings.partitions),
        )
        threading.Thread(target=_when_subscribed, args=(bridge, on_ready), daemon=True).start()
        bridge.run(stop)


def _when_subscribed(bridge: Bridge, on_ready: Callable[[], None]) -> None:
    bridge.subscribed.wait()
    on_ready()


def _append(embedded: EmbeddedLog, entries: Iterable[tuple[str, int, bytes]]) -> None:
    embedded.append(list(entries))


def registered(url: str) -> list[Device]:
    """Return the devices of the committed registry."""
    with psycopg.connect(url) as connection:
        found = rows(
            connection,
            "SELECT device_id, model, site_id, customer_id, udi_di, udi_pi, firmware,"
            " (extract(epoch FROM installed_at) * 1000)::bigint AS installed_ms FROM devices",
        )
    return [Device(**row) for row in found]


def last_ticks(embedded: EmbeddedLog, source: str, partitions: int) -> dict[int, int]:
    """Return the newest tick of a source in each partition, in ms; 0 where there is none in the log."""
    found = dict.fromkeys(range(partitions), 0)
    for partition in found:
        looked, size = 0, embedded.end_offset(TELEMETRY, partition) - embedded.start_offset(TELEMETRY, partition)
        count = 16
        while found[partition] == 0 and looked < size:
            newest = embedded.last(TELEMETRY, partition, count)
            for record in reversed(newest[: len(newest) - looked]):
                entry = decode(record.value)
                if isinstance(entry, Tick) and entry.source == source:
                    found[partition] = entry.at_ms
                    break
            looked, count = len(newest), count * 4
    return found


def _follow_registry(url: str, directory: DeviceDirectory, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"LISTEN {REGISTRY_CHANNEL}".encode())
                directory.replace(registered(url))
                while not stop.is_set():
                    if list(connection.notifies(timeout=1.0, stop_after=1)):
                        directory.replace(registered(url))
        except psycopg.OperationalError as error:
            log.warning("registry cannot be followed, trying again", error=str(error).strip())
            stop.wait(RECONNECT_S)


def worker_role(settings: Settings, on_ready: Callable[[], None]) -> None:
    """Run the worker until SIGTERM or SIGINT."""
    url = database_url(settings)
    stop = threading.Event()
    with open_log(settings) as embedded:
        helpers = [
            threading.Thread(target=_retain, args=(url, settings, embedded, stop), name="retention", daemon=True)
        ]
        if settings.deliver:
            notifier = AppriseNotifier(settings.deliver)
            helpers.append(threading.Thread(target=run_delivery, args=(url, notifier, stop), name="delivery"))
        for helper in helpers:
            helper.start()
        try:
            asyncio.run(
                run_worker(
                    broker_url=broker_url(settings.log_file),
                    topics={
                        TELEMETRY: TelemetryOwner(
                            url,
                            catalogue_of(settings),
                            version=f"wardwatch {version('wardwatch')}",
                            snapshot_every_s=settings.snapshot_every_s,
                        ),
                        REFUSED: RefusedOwner(url),
                    },
                    data=settings.data / "faust",
                    on_ready=on_ready,
                )
            )
        finally:
            stop.set()
            for helper in helpers:
                helper.join(timeout=2.0)


def _retain(url: str, settings: Settings, embedded: EmbeddedLog, stop: threading.Event) -> None:
    """Delete old records, never at or above what was a partition's newest cut a round ago.

    A crash of the database may take back the last moments' commits, and with them a cut: the log must still reach back.
    """
    settled: dict[tuple[str, int], int] = {}
    while not stop.wait(RETAIN_EVERY_S):
        try:
            with psycopg.connect(url) as connection:
                found = connection.execute(
                    "SELECT topic, partition, CASE WHEN topic = %s THEN snapshot_offset ELSE next_offset END"
                    " FROM partition_progress",
                    (TELEMETRY,),
                ).fetchall()
        except psycopg.OperationalError as error:
            log.warning("retention is put off", error=str(error).strip())
            continue
        if settled:
            deleted = embedded.retain(
                max_bytes=settings.log_max_mb << 20,
                max_age_ms=int(settings.log_max_days * DAY_MS),
                floor=settled,
            )
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
