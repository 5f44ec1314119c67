"""How far the log is ahead of what works it off, looked at from time to time in a thread of its own."""

import threading
from collections.abc import Callable

import structlog

LOOK_EVERY_S = 1.0

_log = structlog.get_logger("ingest")


class Pressure:
    """`high` from more than `max_bytes` of backlog until less than half of that is left.

    `lag` gives the backlog in bytes; where it cannot say, what it said last holds.
    """

    def __init__(self, lag: Callable[[], int], max_bytes: int) -> None:
        self.high = False
        self.lag_bytes = 0
        self._lag = lag
        self._max_bytes = max_bytes

    def watch(self, stop: threading.Event) -> None:
        """Look until `stop` is set."""
        while not stop.wait(LOOK_EVERY_S):
            self.look()

    def look(self) -> None:
        """Look once."""
        try:
            self.lag_bytes = self._lag()
        except Exception as error:
            _log.warning("cannot tell how far the workers are behind", error=repr(error))
            return
        before, self.high = self.high, self.lag_bytes > (self._max_bytes // 2 if self.high else self._max_bytes)
        if self.high != before:
            _log.warning("takes nothing, the workers are behind" if self.high else "goes on", lag_bytes=self.lag_bytes)
