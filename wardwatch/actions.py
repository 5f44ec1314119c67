"""What people and files ask of the engine: appended to the log, applied by the partition's owner, awaited here."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from schema.commands import Command, Silence
from schema.record import encode_commands, encode_registry
from schema.registry import Customer, Device, Registry, RegistryEntry, Site
from schema.topics import TELEMETRY, partition_of
from streams.log import EmbeddedLog
from streams.owner import COMMANDS_CHANNEL

SOURCE = "actions"
_TARGETS = {
    "alert_id": ("alerts", "alert_id"),
    "work_order_id": ("work_orders", "work_order_id"),
    "flag_id": ("churn_flags", "flag_id"),
}


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
    log: EmbeddedLog, database_url: str, registry: Registry, partitions: int, *, now_ms: int, wait_s: float = 60.0
) -> dict[int, int]:
    """Append the entries to their partitions' sequence and wait for the commit; return entries a partition.

    Raises:
        ActionError: no worker has committed them in time.
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
    offsets = log.append(
        [
            (TELEMETRY, partition, encode_registry(entries, source=SOURCE, receive_ms=now_ms))
            for partition, entries in owned.items()
        ]
    )
    wait_for_offsets(database_url, dict(zip(owned, offsets, strict=True)), wait_s)
    return {partition: len(entries) for partition, entries in owned.items()}


def send_commands(
    log: EmbeddedLog, database_url: str, commands: Sequence[Command], partitions: int, *, wait_s: float = 10.0
) -> list[Result]:
    """Append commands to the sequence of the partitions that own their targets, and wait for the outcome of each.

    Raises:
        ActionError: a target does not exist.
    """
    if not commands:
        return []
    deadline = time.monotonic() + wait_s
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"LISTEN {COMMANDS_CHANNEL}".encode())
        by_partition: dict[int, list[Command]] = {}
        for command in commands:
            by_partition.setdefault(_partition(connection, command, partitions), []).append(command)
        log.append(
            [
                (TELEMETRY, partition, encode_commands(group, source=SOURCE, receive_ms=0))
                for partition, group in sorted(by_partition.items())
            ]
        )
        ids = [command.command_id for command in commands]
        while True:
            found = _outcomes(connection, ids)
            left_s = deadline - time.monotonic()
            if len(found) == len(ids) or left_s <= 0:
                waiting = "no worker has applied it yet; it stands in the log and will be"
                return [found.get(each, Result(each, "waiting", waiting)) for each in ids]
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


def wait_for_offsets(database_url: str, offsets: Mapping[int, int], wait_s: float) -> None:
    """Return when the telemetry partitions have committed the records at these offsets.

    Raises:
        ActionError: not within `wait_s`.
    """
    _wait(
        database_url,
        lambda rows: all(rows.get(partition, (0, 0))[0] > offset for partition, offset in offsets.items()),
        wait_s,
    )


def wait_for_time(database_url: str, at_ms: int, partitions: int, wait_s: float) -> None:
    """Return when all telemetry partitions have committed the tick `at_ms`.

    Raises:
        ActionError: not within `wait_s`.
    """
    _wait(
        database_url,
        lambda rows: len(rows) == partitions and all(time_ms >= at_ms for _, time_ms in rows.values()),
        wait_s,
    )


def _wait(database_url: str, reached: Callable[[dict[int, tuple[int, int]]], bool], wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    with psycopg.connect(database_url, autocommit=True) as connection:
        while not reached(progress(connection)):
            if time.monotonic() > deadline:
                raise ActionError(f"the worker has not come that far within {wait_s:.0f} s: {progress(connection)}")
            time.sleep(0.01)


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
