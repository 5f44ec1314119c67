"""A cut of a partition at one offset: one row a device that changed, and one for what is shared.

Rows are pickles: River models and numpy arrays have no other complete form, and they come from our own database, which
only the writer's role can change. Compare states with `streams.canonical`, never by these bytes.
"""

import pickle
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from schema.catalogue import Catalogue
from streams.device import DeviceState
from streams.partition import Partition

SHARED_KEY = "shared"
_DEVICE_PREFIX = "device:"


def dump(partition: Partition) -> dict[str, bytes]:
    """Return the rows that differ from the newest cut, by key."""
    rows = {_DEVICE_PREFIX + device_id: _pack(partition.devices[device_id]) for device_id in sorted(partition.changed)}
    rows[SHARED_KEY] = _pack(partition.shared)
    return rows


def load(number: int, catalogue: Catalogue, rows: Mapping[str, bytes]) -> Partition:
    """Return the partition as of the cut that `rows` are; a new one if there are none.

    Raises:
        KeyError: the catalogue lacks the model of a device.
    """
    partition = Partition(number, catalogue)
    if rows:
        partition.shared = _unpack(rows[SHARED_KEY])
        partition.shared.desk.catalogue = catalogue
        for key in _device_keys(rows):
            device: DeviceState = _unpack(rows[key])
            device.fit(catalogue[device.entry.model])
            partition.devices[device.entry.device_id] = device
    return partition


def _device_keys(rows: Iterable[str]) -> list[str]:
    return sorted(key for key in rows if key.startswith(_DEVICE_PREFIX))


def _pack(state: object) -> bytes:
    return zlib.compress(pickle.dumps(state, protocol=5), 1)


def _unpack(packed: bytes) -> Any:
    return pickle.loads(zlib.decompress(packed))  # noqa: S301  # see the module's docstring
