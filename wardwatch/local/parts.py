"""Broker, database and, if it is asked for, Kafka together: one data folder, one owner, stopped in order."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from wardwatch.local import kafka as local_kafka
from wardwatch.local import mosquitto, timescale
from wardwatch.local.account import Account, service_account, within_reach
from wardwatch.local.errors import DataFolderBusyError, LocalPartsError, NotOursError, PartFailedError
from wardwatch.local.process import LOOPBACK, Service, free_port, listens

STOP_WITHIN_S = 8.0
"""All parts together; what has not ended then is ended by force, within two seconds more."""


@dataclass(frozen=True, slots=True)
class LocalParts:
    """Where broker and database are, and the handles of those that we started; ports stay the same while it lives."""

    mqtt_url: str
    """`mqtt://HOST:PORT`"""
    database_url: str
    """`postgresql://USER:PASSWORD@HOST:PORT/DATABASE`; the database has the TimescaleDB extension."""
    data: Path
    """Folder of all that a run leaves: cluster, broker's store, `log/`."""
    _broker: Service | None = field(repr=False)
    _database: Service | None = field(repr=False)
    kafka: str | None = None
    """`HOST:PORT[,HOST:PORT…]`, if Kafka was asked for."""
    _kafka: Service | None = field(default=None, repr=False)

    @property
    def services(self) -> list[Service]:
        """The parts that are ours."""
        return [each for each in (self._broker, self._kafka, self._database) if each is not None]

    @property
    def broker_pid(self) -> int | None:
        """Process id of a broker of ours while it runs."""
        return self._broker.pid if self._broker else None

    @property
    def database_pid(self) -> int | None:
        """Process id of the first process of a database server of ours while it runs."""
        return self._database.pid if self._database else None

    def stop_broker(self, patience_s: float = STOP_WITHIN_S) -> None:
        """Stops the broker in order: it saves its store."""
        _ours(self._broker, "broker").stop(patience_s)

    def kill_broker(self) -> None:
        """Kills the broker, as a crash would: what it has not saved is lost."""
        _ours(self._broker, "broker").kill()

    def start_broker(self) -> None:
        """Starts the broker again on the same port and returns when it accepts connections."""
        _ours(self._broker, "broker").start()

    def stop_database(self, patience_s: float = STOP_WITHIN_S) -> None:
        """Stops the database in order: open transactions are rolled back, connections closed, all is written."""
        _ours(self._database, "database").stop(patience_s)

    def kill_database(self) -> None:
        """Kills the database server, as a crash would; what was committed is there after the next start."""
        _ours(self._database, "database").kill()

    def start_database(self) -> None:
        """Starts the database again on the same port and returns when it accepts connections."""
        _ours(self._database, "database").start()


def _ours(service: Service | None, part: str) -> Service:
    if service is None:
        raise NotOursError(part)
    return service


def default_parts() -> Path:
    """`WARDWATCH_PARTS`, else `.data/parts` below the project, or below the current folder for an installed package."""
    if given := os.environ.get("WARDWATCH_PARTS"):
        return Path(given)
    project = Path(__file__).resolve().parents[2]
    return (project if (project / "pyproject.toml").is_file() else Path.cwd()) / ".data" / "parts"


@contextmanager
def local_parts(
    data: Path,
    *,
    mqtt_url: str | None = None,
    database_url: str | None = None,
    kafka: str | None = None,
    parts: Path | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Iterator[LocalParts]:
    """Broker and database for the time of the context, started below `data` unless they are given by address.

    Programs come from PATH if they can do the job, else from the folder `parts` (by default `default_parts()`), into
    which they are fetched once on Debian and Ubuntu. A second start with the same data folder goes on with what is
    there. Everything stops within 10 s when the context ends, and also when this process is killed.

    Args:
        data: folder of this run, made if need be; one owner at a time.
        mqtt_url: address of a running broker; none is started then.
        database_url: address of a running PostgreSQL with TimescaleDB; none is started then.
        kafka: address of a running Kafka, or `local` to have one started; None to do without.
        parts: folder of fetched programs, shared between data folders.
        on_progress: told in a line what takes time.

    Raises:
        DataFolderBusyError: another process owns the data folder.
        PartUnavailableError, KafkaUnavailableError: a part is neither given nor installed and cannot be fetched.
        PartFailedError: a part did not come up.
        LocalPartsError: another reason why this cannot work here; all the above are of this class.

    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        data = data.resolve()
        (data / "log").mkdir(exist_ok=True)
    except OSError as error:
        raise LocalPartsError(f"The data folder {data} cannot be used: {error}. Name another folder.") from error
    with owned(data), ThreadPoolExecutor(1, "spawner") as spawner:
        account = service_account()
        home = programs = data
        if mqtt_url is None or database_url is None or kafka == local_kafka.LOCAL:
            home = within_reach(data, account, on_progress)
            programs = within_reach(parts or default_parts(), account, on_progress)
        if kafka == local_kafka.LOCAL:
            local_kafka.look(programs)
        if home != data and not (data / "password").exists():
            _forget(home)
        start = _Start(data, home, programs, account, spawner, on_progress)
        try:
            mqtt_url = mqtt_url or start.broker()
            database_url = database_url or start.database()
            if kafka == local_kafka.LOCAL:
                kafka = start.kafka()
            own = start.services
            yield LocalParts(
                mqtt_url, database_url, data, own.get("broker"), own.get("database"), kafka, own.get("kafka")
            )
        finally:
            deadline = time.monotonic() + STOP_WITHIN_S
            for name, patience_s in (("broker", 3.0), ("kafka", 3.0), ("database", STOP_WITHIN_S)):
                if name in start.services:
                    start.services[name].stop(min(patience_s, max(0.0, deadline - time.monotonic())))


def _forget(home: Path) -> None:
    """Remove from a stand-in what belongs to a data folder that was removed."""
    timescale.clear_cluster(home / "postgres")
    for folder in ("postgres", "mosquitto", "kafka"):
        shutil.rmtree(home / folder, ignore_errors=True)


@dataclass(slots=True)
class _Start:
    """What the parts need to start; `services` holds a part from before it runs, so that it is stopped in any case."""

    data: Path
    home: Path
    """Where the services' user keeps their files: `data`, or its stand-in."""
    parts: Path
    account: Account
    spawner: ThreadPoolExecutor
    on_progress: Callable[[str], None]
    services: dict[str, Service] = field(default_factory=dict)

    def broker(self) -> str:
        program = mosquitto.find(self.parts, self.on_progress)
        log = self.data / "log" / "mosquitto.log"
        port = self._serve(
            "broker", lambda port: mosquitto.service(program, self.home, log, self.account, port, self.spawner)
        )
        return f"mqtt://{LOOPBACK}:{port}"

    def database(self) -> str:
        programs = timescale.find(self.parts, self.on_progress)
        password = timescale.password_of(self.data)
        log = self.data / "log" / "postgres.log"
        cluster = timescale.prepare_cluster(programs, self.home, password, log, self.account)
        port = self._serve(
            "database",
            lambda port: timescale.service(programs, cluster, log, self.account, port, password, self.spawner),
        )
        timescale.create_database(timescale.url(password, port, "postgres"), timescale.DATABASE)
        return timescale.url(password, port)

    def kafka(self) -> str:
        jars = local_kafka.find(self.parts, self.on_progress)
        log = self.data / "log" / "kafka.log"
        port = self._serve(
            "kafka",
            lambda port: local_kafka.service(
                jars, self.home / "kafka", log, self.account, local_kafka.Node.on(port), self.spawner
            ),
        )
        return f"{LOOPBACK}:{port}"

    def _serve(self, name: str, service_on: Callable[[int], Service]) -> int:
        """Starts a service on its earlier port if that is free, else on another; returns the port.

        Between looking and listening somebody else may take a port; then another one is tried.
        """
        notes = self.data / "ports.json"
        ports: dict[str, int] = json.loads(notes.read_text()) if notes.exists() else {}
        self.on_progress(f"starting the {name}")
        for attempts_left in (2, 1, 0):
            port = free_port(ports.get(name))
            service = self.services[name] = service_on(port)
            try:
                service.start()
            except PartFailedError:
                if attempts_left == 0 or not listens(port):
                    raise
                continue
            break
        notes.write_text(json.dumps({**ports, name: port}))
        return port


@contextmanager
def owned(data: Path) -> Iterator[None]:
    """Own a data folder for the time of the context.

    Raises:
        DataFolderBusyError: another process owns it.
    """
    descriptor = os.open(data / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataFolderBusyError(data) from error
        yield
    finally:
        os.close(descriptor)
