"""The queue between the network's thread and the writer: bounded, for a stalled writer must slow the broker down."""

import threading
from collections import deque

import msgspec


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """One MQTT message as it came; `connection` numbers the connection on which `packet_id` can be acknowledged."""

    topic: str
    payload: bytes
    content_type: str | None = None
    packet_id: int = 0
    qos: int = 1
    connection: int = 0


class Intake:
    """Arrivals in order, at most `max_count` and `max_bytes` of payload; a larger payload waits until it is alone."""

    def __init__(self, *, max_count: int, max_bytes: int) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._arrivals: deque[Arrival] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._arrivals)

    def put(self, *arrivals: Arrival) -> None:
        """Add arrivals, waiting while there is no room; once closed, drop them (unacknowledged, they come again)."""
        with self._changed:
            for arrival in arrivals:
                size = len(arrival.payload)
                while self._arrivals and not self._closed and not self._has_room(size):
                    self._changed.notify_all()
                    self._changed.wait()
                if self._closed:
                    return
                self._arrivals.append(arrival)
                self._bytes += size
            self._changed.notify_all()

    def take(self, max_count: int, *, timeout_s: float) -> list[Arrival]:
        """Remove and return the oldest arrivals; none if none comes within the timeout or the intake is closed."""
        with self._changed:
            if not self._arrivals and not self._closed:
                self._changed.wait(timeout_s)
            taken = [self._arrivals.popleft() for _ in range(min(max_count, len(self._arrivals)))]
            self._bytes -= sum(len(arrival.payload) for arrival in taken)
            self._changed.notify_all()
            return taken

    def close(self) -> None:
        """Take nothing any more, and let go of whoever waits."""
        with self._changed:
            self._closed = True
            self._arrivals.clear()
            self._bytes = 0
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        return len(self._arrivals) < self._max_count and self._bytes + size <= self._max_bytes
