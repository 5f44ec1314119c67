"""Trying again what depends on somebody else."""

import random
import threading
from collections.abc import Callable
from typing import TypeVar

import structlog

from ingest.settings import BridgeStats

RETRY_FIRST_S = 0.05
RETRY_MAX_S = 5.0

_T = TypeVar("_T")
_log = structlog.get_logger("ingest")


class GaveUpError(Exception):
    """The bridge is to stop and a dependency still fails: what is not written stays unacknowledged, and comes again."""


def insist(what: str, operation: Callable[[], _T], *, stop: threading.Event, stats: BridgeStats) -> _T:
    """Call until it succeeds, with growing pauses.

    Raises:
        GaveUpError: it fails and `stop` is set.
    """
    delay_s = RETRY_FIRST_S
    while True:
        try:
            return operation()
        except Exception as error:
            stats.failed_attempts += 1
            if stop.is_set():
                raise GaveUpError(f"{what}: {error!r}") from error
            _log.warning("retrying", what=what, error=repr(error), delay_s=round(delay_s, 3))
        stop.wait(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 # spreads retries, guards nothing
        delay_s = min(delay_s * 2, RETRY_MAX_S)
