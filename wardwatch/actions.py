"""What people and files ask of the engine: appended to the log, applied by the partition's owner, awaited here."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg.rows import dict_row

from schema.commands import Command, Silence
from schema.record import encode_commands, encode_registry
from schema.registry import Customer, Device, Registry, RegistryEntry, Site
from schema.topics import TELEMETRY, partition_of
from streams.logs import Log
from streams.owner import COMMANDS_CHANNEL

SOURCE = "actions"
RECONNECT_S = 0.2
LOOK_EVERY_S = 0.01
_TARGETS = {
    "alert_id": ("alerts", "alert_id"),
    "work_order_id": ("work_orders", "work_order_id"),
    "flag_id": ("churn_flags", "flag_id"),
}


T = TypeVar("T")


class ActionError(Exception):
    """What was asked cannot be done; the message says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a command, as it stands in `audit_log`."""

    command_id: str
    result: str
    """applied, refused, or waiting: appended to the log, and not applied within the time given."""
    detail: str


def import_registry(
    log: Log,
    database_url: str,
    registry: Registry,
    partitions: int,
    *,
    now_ms: int,
    wait_s: float = 60.0,
    stop: threading.Event | None = None,
) -> dict[int, int]:
    """Append the entries to their partitions' sequence and wait for the commit; return entries a partition.

    A device whose customer is another than before is told to its former partition as well, which then forgets it.

    Raises:
        ActionError: no worker has committed them in time, or not before `stop` was set.
    """
    owned: dict[int, list[RegistryEntry]] = {partition: [] for partition in range(partitions)}
    entries_in_order: tuple[RegistryEntry, ...] = (
        *registry.technicians,
        *registry.parts,
        *registry.calendars,
        *registry.customers,
        *registry.sites,
        *registry.devices,
    )
    for entry in entries_in_order:
        if isinstance(entry, Customer | Site | Device):
            owned[partition_of(entry.customer_id, partitions)].append(entry)
        else:
            for entries in owned.values():
                entries.append(entry)
    counts = {partition: len(entries) for partition, entries in owned.items()}
    for device, former in _moved(database_url, registry.devices, partitions):
        owned[former].append(device)
    offsets = log.append(
        [
            (TELEMETRY, partition, encode_registry(entries, source=SOURCE, receive_ms=now_ms))
            for partition, entries in owned.items()
        ]
    )
    wait_for_offsets(database_url, dict(zip(owned, offsets, strict=True)), wait_s, stop)
    return counts


def _moved(database_url: str, devices: Sequence[Device], partitions: int) -> list[tuple[Device, int]]:
    """Devices that another partition has until now, and which."""
    with psycopg.connect(database_url) as connection:
        ids = [device.device_id for device in devices]
        rows = connection.execute("SELECT device_id, partition FROM devices WHERE device_id = ANY(%s)", (ids,))
        former: dict[str, int] = dict(rows.fetchall())
    return [
        (device, former[device.device_id])
        for device in devices
        if former.get(device.device_id, -1) in range(partitions)
        and former[device.device_id] != partition_of(device.customer_id, partitions)
    ]


def send_commands(
    log: Log,
    database_url: str,
    commands: Sequence[Command],
    partitions: int,
    *,
    wait_s: float = 10.0,
    stop: threading.Event | None = None,
) -> list[Result]:
    """Append commands to the sequence of the partitions that own their targets, and wait for the outcome of each.

    A database that is lost while we wait is asked again. Once `stop` is set, nothing is waited for any more.

    Raises:
        ActionError: a target does not exist.
    """
    if not commands:
        return []
    deadline = time.monotonic() + wait_s
    by_partition: dict[int, list[Command]] = {}
    with psycopg.connect(database_url, autocommit=True) as connection:
        for command in commands:
            by_partition.setdefault(_partition(connection, command, partitions), []).append(command)
    log.append(
        [
            (TELEMETRY, partition, encode_commands(group, source=SOURCE, receive_ms=0))
            for partition, group in sorted(by_partition.items())
        ]
    )
    ids = [command.command_id for command in commands]
    found: dict[str, Result] = {}
    stop = stop or threading.Event()
    while len(found) < len(ids) and time.monotonic() < deadline and not stop.is_set():
        try:
            found = _await_outcomes(database_url, ids, deadline, stop)
        except psycopg.OperationalError:
            stop.wait(RECONNECT_S)
    waiting = "no worker has applied it yet; it stands in the log and will be"
    return [found.get(each, Result(each, "waiting", waiting)) for each in ids]


def _await_outcomes(
    database_url: str, ids: Sequence[str], deadline: float, stop: threading.Event
) -> dict[str, Result]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"LISTEN {COMMANDS_CHANNEL}".encode())
        while True:
            found = _outcomes(connection, ids)
            left_s = deadline - time.monotonic()
            if len(found) == len(ids) or left_s <= 0 or stop.is_set():
                return found
            for _ in connection.notifies(timeout=min(left_s, 1.0), stop_after=1):
                pass


def _outcomes(connection: psycopg.Connection[Any], ids: Sequence[str]) -> dict[str, Result]:
    rows = connection.execute("SELECT audit_id, result, detail FROM audit_log WHERE audit_id = ANY(%s::uuid[])", (ids,))
    return {str(audit_id): Result(str(audit_id), result, detail) for audit_id, result, detail in rows}


def _partition(connection: psycopg.Connection[Any], command: Command, partitions: int) -> int:
    if isinstance(command, Silence):
        return partition_of(command.customer_id, partitions)
    for field, (table, key) in _TARGETS.items():
        target = getattr(command, field, None)
        if target is None:
            continue
        row = connection.execute(f"SELECT partition FROM {table} WHERE {key} = %s".encode(), (target,)).fetchone()  # noqa: S608  # names of our own
        if row is None:
            raise ActionError(f"there is no {field.removesuffix('_id').replace('_', ' ')} {target}")
        return int(row[0])
    raise AssertionError(command)


def wait_for_offsets(
    database_url: str, offsets: Mapping[int, int], wait_s: float, stop: threading.Event | None = None
) -> None:
    """Return when the telemetry partitions have committed the records at these offsets.

    Raises:
        ActionError: not within `wait_s`, or not before `stop` was set.
    """
    _wait(
        database_url,
        lambda rows: all(rows.get(partition, (0, 0))[0] > offset for partition, offset in offsets.items()),
        lambda _: None,
        wait_s,
        stop,
    )


def wait_for_time(
    database_url: str, at_ms: int, partitions: int, wait_s: float, stop: threading.Event | None = None
) -> None:
    """Return when all telemetry partitions have committed the tick `at_ms`.

    Raises:
        ActionError: not within `wait_s`, or not before `stop` was set.
    """
    as_of(database_url, at_ms, partitions, lambda _: None, wait_s, stop)


def as_of(
    database_url: str,
    at_ms: int,
    partitions: int,
    read: Callable[[psycopg.Connection[Any]], T],
    wait_s: float,
    stop: threading.Event | None = None,
) -> T:
    """Return what `read` finds when all telemetry partitions have committed the tick `at_ms`.

    It reads in one snapshot with their progress: a crash of the database may take back what was committed just now.

    Raises:
        ActionError: not within `wait_s`, or not before `stop` was set.
    """

    def reached(rows: dict[int, tuple[int, int]]) -> bool:
        return len(rows) == partitions and all(time_ms >= at_ms for _, time_ms in rows.values())

    return _wait(database_url, reached, read, wait_s, stop)


def _wait(
    database_url: str,
    reached: Callable[[dict[int, tuple[int, int]]], bool],
    read: Callable[[psycopg.Connection[Any]], T],
    wait_s: float,
    stop: threading.Event | None = None,
) -> T:
    """Ask until the progress is as wanted; a database that is away is asked again."""
    stop = stop or threading.Event()
    deadline = time.monotonic() + wait_s
    seen: object = "the database does not answer"
    while time.monotonic() < deadline and not stop.is_set():
        try:
            with psycopg.connect(database_url) as connection:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                while time.monotonic() < deadline and not stop.is_set():
                    with connection.transaction():
                        seen = found = progress(connection)
                        if reached(found):
                            return read(connection)
                    stop.wait(LOOK_EVERY_S)
        except psycopg.OperationalError:
            stop.wait(RECONNECT_S)
    if stop.is_set():
        raise ActionError("stopped while the worker was behind")
    raise ActionError(f"the worker has not come that far within {wait_s:.0f} s: {seen}")


def progress(connection: psycopg.Connection[Any]) -> dict[int, tuple[int, int]]:
    """Return next offset and partition time (ms) of each telemetry partition."""
    rows: Iterable[tuple[int, int, int]] = connection.execute(
        "SELECT partition, next_offset, coalesce(round(extract(epoch FROM partition_time) * 1000), 0)::bigint"
        " FROM partition_progress WHERE topic = %s",
        (TELEMETRY,),
    )
    return {partition: (next_offset, time_ms) for partition, next_offset, time_ms in rows}


def rows(connection: psycopg.Connection[Any], statement: str, *parameters: Any) -> list[dict[str, Any]]:
    """Return the rows of a statement of our own as dictionaries."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement.encode(), parameters).fetchall()
