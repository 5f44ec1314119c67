"""What keeps an alert from being told: planned maintenance, and silences that people set."""

from typing import NamedTuple

from alerting.directory import Directory
from alerting.lifecycle import Alert
from alerting.policy import MAINTENANCE_GRACE_MS, policy_of
from schema.commands import Silence
from schema.registry import Calendar

_KEPT_MS = 30 * 86_400_000
"""Windows are remembered this long after their end, for devices that deliver a backlog."""


class Shade(NamedTuple):
    """What lies over an alert at one time."""

    by: str
    """Empty for nothing; else what the row says in `suppressed_by`."""
    holds: bool
    """It may not fire; otherwise it may, but nobody is told."""
    until_ms: int | None
    """When to look again; None when something else will say so."""


CLEAR = Shade("", False, None)


class Suppression:
    """The windows of planned maintenance and the silences of one partition; bounded, for old ones are dropped."""

    def __init__(self) -> None:
        self._maintenance: dict[str, Calendar] = {}
        self._silences: dict[str, Silence] = {}

    def plan(self, entry: Calendar) -> None:
        """Take over a calendar entry; holidays concern detectors, not alerting."""
        if entry.kind == "maintenance":
            self._maintenance[entry.calendar_id] = entry

    def silence(self, command: Silence) -> None:
        """Take over a silence."""
        self._silences[command.command_id] = command

    def forget(self, now_ms: int) -> None:
        """Drop what ended long ago."""
        for entries in (self._maintenance, self._silences):
            for each in [name for name, entry in entries.items() if entry.until_ms + _KEPT_MS < now_ms]:
                del entries[each]

    def over(self, alert: Alert, at_ms: int, directory: Directory) -> Shade:
        """What lies over the alert at `at_ms`; maintenance (with its grace) before silences."""
        planned = [
            entry
            for entry in self._maintenance.values()
            if entry.from_ms <= at_ms < entry.until_ms + MAINTENANCE_GRACE_MS and _concerns(entry, alert, directory)
        ]
        if planned:
            entry = max(planned, key=lambda entry: (entry.until_ms, entry.calendar_id))
            holds = policy_of(alert.detector).maintenance == "hold"
            return Shade(f"maintenance {entry.calendar_id}", holds, entry.until_ms + MAINTENANCE_GRACE_MS)
        muted = [
            command
            for command in self._silences.values()
            if command.from_ms <= at_ms < command.until_ms and _mutes(command, alert)
        ]
        if muted:
            command = max(muted, key=lambda command: (command.until_ms, command.command_id))
            return Shade(f"silence by {command.actor}", False, command.until_ms)
        return CLEAR


def _concerns(entry: Calendar, alert: Alert, directory: Directory) -> bool:
    if entry.device_id:
        return entry.device_id == alert.device_id
    if entry.site_id:
        return entry.site_id == alert.site_id
    if entry.customer_id:
        return entry.customer_id == alert.customer_id
    return not entry.country or entry.country == directory.country_of(alert.site_id)


def _mutes(command: Silence, alert: Alert) -> bool:
    return (
        command.customer_id == alert.customer_id
        and command.site_id in ("", alert.site_id)
        and command.device_id in ("", alert.device_id)
        and command.detector in ("", alert.detector)
    )
