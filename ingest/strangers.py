"""Messages of devices that the registry, as it was read last, does not have: they wait until it has been read again.

In wall-clock time that happens beside the writer: a database that is away keeps nobody waiting but strangers. What is
held is not acknowledged; if the bridge dies, it comes again. Time is the process's own, in seconds.
"""

import threading
import time
from collections import deque

import structlog

from ingest.directory import DeviceDirectory
from ingest.intake import Arrival
from ingest.settings import BridgeStats

FRESH_S = 1.0
"""What the registry said holds for so long, and it is read no more often."""
HELD_AT_MOST = 10_000
HELD_BYTES = 16 << 20
RETRY_S = 1.0

_log = structlog.get_logger("ingest")


class Strangers:
    """Holds arrivals and has the directory read again for them; `watch` is the thread that reads."""

    def __init__(self, directory: DeviceDirectory, stats: BridgeStats) -> None:
        self._directory = directory
        self._stats = stats
        self._held: deque[tuple[float, Arrival]] = deque()
        self._bytes = 0
        self._read_s = float("-inf")
        """When the newest reading that has succeeded began."""
        self._wanted = threading.Event()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def full(self) -> bool:
        """Whether no more may be held."""
        return len(self._held) >= HELD_AT_MOST or self._bytes >= HELD_BYTES

    def holds_of(self, connection: int) -> bool:
        """Tell whether anything is held that came by a connection."""
        return any(arrival.connection == connection for _, arrival in self._held)

    def is_known_to_be_one(self, now_s: float) -> bool:
        """Tell whether the registry has just been read, so that nothing needs to wait."""
        return not self._held and now_s - self._read_s < FRESH_S

    def hold(self, arrival: Arrival, now_s: float) -> None:
        """Hold an arrival until the registry has been read."""
        self._held.append((now_s, arrival))
        self._bytes += len(arrival.payload)
        self._stats.strangers = len(self._held)
        self._wanted.set()

    def settled(self) -> list[Arrival]:
        """Return, in order, the arrivals about which the registry has been read since."""
        found = []
        while self._held and self._held[0][0] <= self._read_s:
            _, arrival = self._held.popleft()
            self._bytes -= len(arrival.payload)
            found.append(arrival)
        self._stats.strangers = len(self._held)
        return found

    def watch(self, stop: threading.Event) -> None:
        """Read the registry whenever somebody waits for it, until `stop` is set."""
        while not stop.is_set():
            if not self._wanted.wait(RETRY_S):
                continue
            self._wanted.clear()
            begun_s = time.monotonic()
            try:
                self._directory.read()
            except Exception as error:
                _log.warning("the registry cannot be read, strangers wait", error=repr(error))
                self._wanted.set()
                stop.wait(RETRY_S)
            else:
                self._read_s = begun_s
                stop.wait(max(0.0, begun_s + FRESH_S - time.monotonic()))
