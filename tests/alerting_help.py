"""A desk with one hospital, and short words for what happens there. Times are in hours and minutes since the epoch."""

from collections import deque
from collections.abc import Iterable
from itertools import count
from typing import Any

import msgspec

from alerting.desk import Desk
from schema.catalogue import load_catalogue
from schema.findings import Finding, Severity
from schema.registry import Calendar, Customer, Device, Site, Technician
from schema.rows import AlertEventRow, AlertRow, OutboxRow, Row, WorkOrderRow

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
CATALOGUE = load_catalogue()
DEVICES = tuple(f"ct-{number}" for number in range(1, 6))
command_ids = (f"00000000-0000-4000-8000-{number:012d}" for number in count(1))


def hospital() -> Desk:
    """Partition 2 with a customer, a site, five CT scanners and three technicians."""
    desk = Desk(2, CATALOGUE)
    desk.register(Customer(customer_id="h", name="Hospital", region="north", account_manager="Ann"))
    desk.register(Customer(customer_id="other", name="Other"))
    desk.register(Site(site_id="h/1", customer_id="h", name="Main", region="north", country="DE"))
    for device_id in DEVICES:
        desk.register(Device(device_id=device_id, model="ct", site_id="h/1", customer_id="h", installed_ms=0))
    desk.register(Technician(technician_id="tina", name="Tina", skills=("ct",), region="north"))
    desk.register(Technician(technician_id="tom", name="Tom", skills=("ct", "mri"), region="north"))
    desk.register(Technician(technician_id="ada", name="Ada", skills=("ct",), region="south"))
    return desk


def maintenance(from_ms: int, until_ms: int, **scope: str) -> Calendar:
    """Planned maintenance, told beforehand."""
    return Calendar(
        calendar_id="upgrade", kind="maintenance", name="Upgrade", from_ms=from_ms, until_ms=until_ms, **scope
    )


def finding(
    detector: str,
    at_ms: int,
    score: float = 1.0,
    *,
    device_id: str = "ct-1",
    subsystem: str = "",
    severity: Severity = "warning",
    onset_ms: int | None = None,
    codes: Iterable[str] = (),
) -> Finding:
    """A finding about a device of the hospital."""
    return Finding(
        detector=detector,
        device_id=device_id,
        site_id="h/1",
        customer_id="h",
        subsystem=subsystem,
        at_ms=at_ms,
        onset_ms=at_ms if onset_ms is None else onset_ms,
        score=score,
        severity=severity,
        evidence={"codes": dict.fromkeys(codes, 1), "version": "test/1"},
    )


def tube_failure(at_ms: int, device_id: str = "ct-1") -> Finding:
    """The X-ray tube of a CT has failed; it stops the device."""
    return finding("fault_rule", at_ms, device_id=device_id, subsystem="tube", severity="critical", codes=["XR-900"])


def silent(at_ms: int, device_id: str = "ct-1", score: float = 1.0) -> Finding:
    """A device has not been heard."""
    return finding("silence", at_ms, score, device_id=device_id)


def site_dark(at_ms: int, score: float = 1.0) -> Finding:
    """The site's devices are dark together."""
    return finding("site_offline", at_ms, score, device_id="", severity="error")


def risk(at_ms: int, score: float, device_id: str = "ct-1", severity: Severity = "warning") -> Finding:
    """The failure model has judged a tube."""
    return finding(
        "failure_risk", at_ms, score, device_id=device_id, subsystem="tube", severity=severity, codes=["XR-101"]
    )


def transitions(rows: Iterable[Row]) -> list[tuple[str, str, str]]:
    """(from, to, reason) of every alert event among the rows."""
    return [(row.from_state, row.to_state, row.reason) for row in rows if isinstance(row, AlertEventRow)]


def told(rows: Iterable[Row]) -> list[str]:
    """Kinds of the messages among the rows."""
    return [row.kind for row in rows if isinstance(row, OutboxRow)]


def last_alert(rows: Iterable[Row]) -> AlertRow:
    """The alert as the rows leave it."""
    return [row for row in rows if isinstance(row, AlertRow)][-1]


def orders(rows: Iterable[Row]) -> list[WorkOrderRow]:
    """The work orders among the rows as they are left, by number."""
    latest = {row.number: row for row in rows if isinstance(row, WorkOrderRow)}
    return [latest[number] for number in sorted(latest)]


def state(value: Any) -> Any:
    """A desk, or what it is made of, as plain values in a fixed order; the catalogue is left out."""
    match value:
        case dict():
            return sorted(((repr(key), state(item)) for key, item in value.items()), key=lambda pair: pair[0])
        case set():
            return sorted(map(repr, value))
        case list() | tuple() | deque():
            return [state(item) for item in value]
        case msgspec.Struct():
            return repr(value)
    fields = {name: item for name, item in getattr(value, "__dict__", {}).items() if name != "catalogue"}
    return [type(value).__name__, state(fields)] if fields else repr(value)
