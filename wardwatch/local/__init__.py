"""Services on this machine without configuration: an MQTT broker and PostgreSQL with TimescaleDB.

Each is taken from a given address, else from PATH, else fetched from the package archive of Debian or Ubuntu into a
private folder. `local_parts` is the way in.
"""

from wardwatch.local.errors import (
    DataFolderBusyError,
    FetchError,
    LocalPartsError,
    NotOursError,
    PartFailedError,
    PartUnavailableError,
)
from wardwatch.local.parts import LocalParts, default_parts, local_parts, owned

__all__ = [
    "DataFolderBusyError",
    "FetchError",
    "LocalParts",
    "LocalPartsError",
    "NotOursError",
    "PartFailedError",
    "PartUnavailableError",
    "default_parts",
    "local_parts",
    "owned",
]
