"""The scenario that is run again and again: a fleet's two days, and what people do in them."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import NAMESPACE_URL, uuid5

import msgspec
import psycopg

from schema.commands import CloseAlert, Silence
from schema.registry import Device
from simulator import staff
from simulator.scenario import Publication, Scenario
from simulator.truth import Truth
from streams.logs.file import LogError
from wardwatch.actions import RECONNECT_S, ActionError, import_registry
from wardwatch.workplace import COMMIT_WITHIN_S, StackWorkplace

SEED, DEVICES, CUSTOMERS, DAYS = 120, 20, 4, 2
"""With failures, a gateway that is offline and brings a backlog, planned maintenance, duplicates and refusals."""
HOUR_MS = 3_600_000
MAX_READINGS = 200
"""Small records, so that there are many of them."""
CONFIRM_EVERY_MS = HOUR_MS


@dataclass(frozen=True)
class Recording(Scenario):
    """A scenario that says how far its publishing is."""

    on_time: Callable[[int], None] = field(default=lambda _: None, compare=False)
    """Called with the virtual time of each publication before it is published."""

    def publications(self) -> Iterator[Publication]:
        """See `Scenario`."""
        for publication in super().publications():
            self.on_time(publication.at_ms)
            yield publication


def recording(on_time: Callable[[int], None] = lambda _: None) -> Recording:
    """The recorded scenario."""
    return Recording(SEED, DEVICES, CUSTOMERS, DAYS, on_time=on_time)


class Staff:
    """The simulator's staff, and what they leave out: a silence, a judged alert, new firmware in the registry."""

    def __init__(self, workplace: StackWorkplace, scenario: Scenario, truth: Truth) -> None:
        self._workplace = workplace
        self._scenario = scenario
        self._truth = truth

    def __call__(self, at_ms: int) -> None:
        """One virtual day's work, at the clock `at_ms`."""
        self._workplace.wait_committed(at_ms)
        self._close(self._workplace.open_alerts()[:1], at_ms)
        staff.work(self._workplace, self._truth, at_ms)
        self._silence(at_ms)
        self._register(at_ms)

    def _silence(self, at_ms: int) -> None:
        customer = self._scenario.registry.customers[0]
        self._workplace.send(
            [
                Silence(
                    command_id=_name("silence", at_ms),
                    actor="chaos",
                    customer_id=customer.customer_id,
                    from_ms=at_ms,
                    until_ms=at_ms + 6 * HOUR_MS,
                )
            ]
        )

    def _close(self, alerts: Sequence[staff.OpenAlert], at_ms: int) -> None:
        chosen = sorted(alerts, key=lambda alert: alert.alert_id)
        self._workplace.send(
            [
                CloseAlert(command_id=_name("close", at_ms), actor="chaos", alert_id=alert.alert_id, outcome="false")
                for alert in chosen
            ]
        )

    def _register(self, at_ms: int) -> None:
        """The first device gets new firmware, and the fleet one more device that never speaks."""
        registry, stack = self._scenario.registry, self._workplace.stack
        first = registry.devices[0]
        version = f"9.{(at_ms - self._scenario.start_ms) // HOUR_MS}"
        devices: tuple[Device, ...] = (
            msgspec.structs.replace(first, firmware=version),
            msgspec.structs.replace(first, device_id=f"{first.device_id}-spare-{version}", installed_ms=at_ms),
        )
        changed = msgspec.structs.replace(registry, devices=devices)
        deadline = time.monotonic() + COMMIT_WITHIN_S
        while True:
            try:
                import_registry(stack.log, stack.database_url, changed, stack.settings.partitions, now_ms=at_ms)
                return
            except (LogError, ActionError, psycopg.OperationalError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(RECONNECT_S)


def _name(action: str, at_ms: int) -> str:
    return str(uuid5(NAMESPACE_URL, f"chaos/{action}/{at_ms}"))
