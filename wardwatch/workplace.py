"""What simulated staff see and do in a running stack: the database, and the command line's way into the log."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg

from schema.commands import Command
from simulator import staff
from streams.logs.file import LogError
from wardwatch.actions import RECONNECT_S, ActionError, as_of, send_commands, wait_for_time
from wardwatch.stack import Stack

COMMIT_WITHIN_S = 300.0

_T = TypeVar("_T")


@dataclass(slots=True)
class StackWorkplace:
    """A `simulator.staff.Workplace`; whatever ends in the meantime is waited for, until `stop` is set."""

    stack: Stack
    stop: threading.Event = field(default_factory=threading.Event)
    _at_ms: int = 0

    def wait_committed(self, at_ms: int) -> None:
        """See `Workplace`."""
        self._at_ms = at_ms
        settings = self.stack.settings
        wait_for_time(self.stack.database_url, at_ms, settings.partitions, COMMIT_WITHIN_S, self.stop)

    def open_alerts(self) -> Sequence[staff.OpenAlert]:
        """See `Workplace`."""
        return self.read(staff.open_alerts)

    def open_orders(self) -> Sequence[staff.OpenOrder]:
        """See `Workplace`."""
        return self.read(staff.open_orders)

    def read(self, read: Callable[[psycopg.Connection[Any]], _T]) -> _T:
        """Read the database as of what was committed at `wait_committed`."""
        settings = self.stack.settings
        return as_of(self.stack.database_url, self._at_ms, settings.partitions, read, COMMIT_WITHIN_S, self.stop)

    def send(self, commands: Sequence[Command]) -> None:
        """See `Workplace`. Sent again as long as the log or the database does not take them: ids make that harmless.

        Raises:
            ActionError: they are not answered in time.
        """
        deadline = time.monotonic() + COMMIT_WITHIN_S
        settings = self.stack.settings
        while True:
            try:
                results = send_commands(
                    self.stack.log,
                    self.stack.database_url,
                    commands,
                    settings.partitions,
                    wait_s=deadline - time.monotonic(),
                    stop=self.stop,
                )
                break
            except (LogError, psycopg.OperationalError, ActionError):
                if time.monotonic() > deadline or self.stop.wait(RECONNECT_S):
                    raise
        waiting = [result.command_id for result in results if result.result == "waiting"]
        if waiting:
            raise ActionError(f"the worker has not answered {len(waiting)} commands; see {settings.data / 'log'}")
