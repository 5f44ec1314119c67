"""A cut of a partition at one offset: one row a device that changed, and one for what is shared.

Rows are pickles: River models have no other complete form, and they come from our own database, which only the writer's
role can change. Compare states with `streams.canonical`, never by these bytes.
"""

import asyncio
import gc
import pickle
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from psycopg import AsyncConnection

from schema.catalogue import Catalogue
from schema.topics import TELEMETRY
from streams.device import DeviceState, Shape
from streams.partition import Partition

SHARED_KEY = "shared"
FORMAT = b"\x05"
"""First byte of the shared row; another number for each change of what is pickled."""
PAGE = 64
"""Device rows that are read at once: 1 MB, 5 ms."""
SLICE = 100
"""Device rows that are pickled at a time: 4 ms."""
_DEVICE_PREFIX = "device:"
GONE = b""
"""Instead of the row of a device that has left the partition; it is not stored."""


class FormatError(RuntimeError):
    """A cut was written in a format that this version does not read."""


def dump(partition: Partition) -> dict[str, bytes]:
    """Return the rows that differ from the newest cut, by key."""
    return dict(_rows(partition))


async def dump_in_slices(partition: Partition) -> dict[str, bytes]:
    """As `dump`, of a partition that rests meanwhile, letting others have their turn after every few milliseconds."""
    rows = {}
    for count, (key, row) in enumerate(_rows(partition)):
        rows[key] = row
        if count % SLICE == 0:
            await asyncio.sleep(0)
    return rows


def _rows(partition: Partition) -> Iterator[tuple[str, bytes]]:
    devices = partition.devices
    for device_id in sorted(partition.changed):
        yield _DEVICE_PREFIX + device_id, _pack(devices[device_id]) if device_id in devices else GONE
    yield SHARED_KEY, FORMAT + zlib.compress(_pack(partition.shared), 1)


def load(number: int, catalogue: Catalogue, rows: Mapping[str, bytes]) -> Partition:
    """Return the partition as of the cut that `rows` are; a new one if there are none.

    Raises:
        KeyError: the catalogue lacks the model of a device.
        FormatError: see the class.
    """
    loading = _Loading(number, catalogue, rows.get(SHARED_KEY))
    with _no_collection():
        loading.add(row for key, row in sorted(rows.items()) if key != SHARED_KEY and row != GONE)
    return loading.partition


async def store(connection: AsyncConnection[Any], number: int, rows: Mapping[str, bytes]) -> None:
    """Replace the rows of a cut within the open transaction."""
    async with connection.cursor() as cursor:
        await cursor.execute(
            "DELETE FROM state_snapshots WHERE topic = %s AND partition = %s AND key = ANY(%s)",
            (TELEMETRY, number, list(rows)),
        )
        statement = "COPY state_snapshots (topic, partition, key, state) FROM STDIN (FORMAT BINARY)"
        async with cursor.copy(statement) as copy:
            copy.set_types(["text", "int2", "text", "bytea"])
            for key, row in rows.items():
                if row != GONE:
                    await copy.write_row((TELEMETRY, number, key, row))


async def fetch(connection: AsyncConnection[Any], number: int, catalogue: Catalogue) -> Partition:
    """Return the partition as of its newest cut, read page by page: its bytes are never in memory all at once.

    Raises:
        KeyError: the catalogue lacks the model of a device.
        FormatError: see the class.
    """
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(
            "SELECT state FROM state_snapshots WHERE topic = %s AND partition = %s AND key = %s",
            (TELEMETRY, number, SHARED_KEY),
        )
        shared = await cursor.fetchone()
        loading = _Loading(number, catalogue, shared[0] if shared is not None else None)
        last = _DEVICE_PREFIX
        with _no_collection():
            while True:
                await cursor.execute(
                    "SELECT key, state FROM state_snapshots WHERE topic = %s AND partition = %s AND key > %s"
                    " AND key <> %s ORDER BY key LIMIT %s",
                    (TELEMETRY, number, last, SHARED_KEY, PAGE),
                )
                page = await cursor.fetchall()
                if not page:
                    break
                last = page[-1][0]
                loading.add(row for _, row in page)
    return loading.partition


class _Loading:
    """A partition that comes together from the rows of a cut, devices in the order of their keys."""

    def __init__(self, number: int, catalogue: Catalogue, shared: bytes | None) -> None:
        self.partition = Partition(number, catalogue)
        self._shapes: dict[str, Shape] = {}
        if shared is None:
            return
        if not shared.startswith(FORMAT):
            raise FormatError(
                f"the cut of partition {number} has format {shared[0]}, this version reads {FORMAT[0]}:"
                " go on with the version that wrote it"
            )
        self.partition.shared = _unpack(zlib.decompress(shared[1:]))
        self.partition.shared.desk.catalogue = catalogue

    def add(self, rows: Iterable[bytes]) -> None:
        partition = self.partition
        for row in rows:
            device: DeviceState = _unpack(row)
            model = device.entry.model
            if model not in self._shapes:
                self._shapes[model] = Shape.of(partition.catalogue[model])
            device.fit(self._shapes[model])
            device.entry = partition.shared.desk.same(device.entry)
            partition.devices[device.entry.device_id] = device


def _pack(state: object) -> bytes:
    return pickle.dumps(state, protocol=5)


def _unpack(packed: bytes) -> Any:
    return pickle.loads(packed)  # noqa: S301  # see the module's docstring


@contextmanager
def _no_collection() -> Iterator[None]:
    """What is loaded stays: looking through it for garbage, again and again as it grows, would take as long again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_on:
            gc.enable()
