"""Keeps services running: whichever ends by itself is started again, with growing pauses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from wardwatch.local.process import Service

LOOK_EVERY_S = 0.05
RESTART_AFTER_S = 0.1
RESTART_AT_MOST_S = 10.0
STEADY_AFTER_S = 60.0
"""A service that has run for so long is started again without delay."""

log = structlog.get_logger()


@dataclass(slots=True)
class Keeper:
    """Starts one service again whenever it has ended although it is wanted.

    A service that somebody stops is left alone until they start it again: `Service` knows what is wanted.
    """

    service: Service
    restarts: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Keep until `stop`."""
        in_a_row, begun_s = 0, time.monotonic()
        while not self._stopping.wait(LOOK_EVERY_S):
            service = self.service
            if not service.wanted or service.pid is not None:
                continue
            status = service.status
            in_a_row = 0 if time.monotonic() - begun_s > STEADY_AFTER_S else in_a_row + 1
            if self._stopping.wait(min(RESTART_AFTER_S * 2**in_a_row, RESTART_AT_MOST_S)):
                return
            begun_s = time.monotonic()
            try:
                revived = service.revive()
            except Exception as error:  # what cannot be started now is tried again, later and later
                log.warning("cannot be started", part=service.name, error=repr(error))
                continue
            if revived:
                self.restarts += 1
                log.warning("ended, started again", part=service.name, status=status, log=str(service.log))

    def stop(self) -> None:
        """Start nothing any more."""
        self._stopping.set()


@contextmanager
def kept(services: Iterable[Service]) -> Iterator[dict[str, Keeper]]:
    """Keep services running for the time of the context; keepers by the services' names."""
    keepers = {service.name: Keeper(service) for service in services}
    threads = [threading.Thread(target=each.run, name=f"keep {name}", daemon=True) for name, each in keepers.items()]
    for thread in threads:
        thread.start()
    try:
        yield keepers
    finally:
        for keeper in keepers.values():
            keeper.stop()
