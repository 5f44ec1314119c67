"""A library that says the same many times a second says it once, and later how often."""

import logging
import time
from collections.abc import Callable, Iterable

DAMP_FOR_S = 10.0
KINDS = 1000
"""Kinds of message remembered; with more of them, all are new again."""


class Damping(logging.Filter):
    """Lets a message through when its like (logger, level, text without values) has not been for `DAMP_FOR_S`."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`; adds to the text how many were held back."""
        kind, now = (record.name, record.levelno, str(record.msg)), self._monotonic()
        said_at, held = self._seen.get(kind, (-DAMP_FOR_S, 0))
        if now - said_at < DAMP_FOR_S:
            self._seen[kind] = said_at, held + 1
            return False
        if len(self._seen) >= KINDS:
            self._seen.clear()
        self._seen[kind] = now, 0
        if held:
            record.msg, record.args = f"{record.getMessage()} (and {held} like it)", None
        return True


_damping = Damping()


def damp(loggers: Iterable[str]) -> None:
    """Damp these loggers; doing it again changes nothing."""
    for name in loggers:
        logging.getLogger(name).addFilter(_damping)
