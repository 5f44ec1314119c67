"""What an order needs and who could do it: priority, deadline, parts, skill, technician. Pure, deterministic."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from alerting.lifecycle import Alert
from alerting.orders import Priority, WorkKind
from alerting.policy import DAY_MS, HOUR_MS
from schema.catalogue import Catalogue
from schema.registry import Technician


class Urgency(NamedTuple):
    """How soon; due times are counted from the tick that opens the order."""

    priority: Priority
    within_ms: int


# A stopped device costs the hospital examinations every hour: the same working day. An error lets it work with
# retries: two days. An inspection is worth its travel only before the failure, and predictions look 1 to 7 days ahead:
# a strong one gets two days, others three. What is only informative waits for the next round.
_CORRECTIVE = {
    "critical": Urgency("P1", 8 * HOUR_MS),
    "error": Urgency("P2", 2 * DAY_MS),
    "warning": Urgency("P3", 7 * DAY_MS),
    "info": Urgency("P4", 14 * DAY_MS),
}
_INSPECTION = {
    "critical": Urgency("P2", 2 * DAY_MS),
    "error": Urgency("P2", 2 * DAY_MS),
    "warning": Urgency("P3", 3 * DAY_MS),
    "info": Urgency("P4", 14 * DAY_MS),
}


# Planned work waits for a visit that suits everybody, up to the day on which it is due; what is overdue a week more.
_OVERDUE = Urgency("P3", 7 * DAY_MS)


def urgency(kind: WorkKind, alert: Alert) -> Urgency:
    """Priority and time to the deadline of an order for `alert`."""
    if kind == "preventive":
        _, due_ms, _ = alert.evidence.get("due_ms", (0, 0, 0))
        within_ms = due_ms - alert.raised_ms
        return Urgency("P4", within_ms) if within_ms > _OVERDUE.within_ms else _OVERDUE
    return (_CORRECTIVE if kind == "corrective" else _INSPECTION)[alert.severity]


class Needs(NamedTuple):
    """What the technician must bring."""

    part_ids: tuple[str, ...]
    skill: str


def fault_codes(alert: Alert) -> tuple[str, ...]:
    """The fault codes in the alert's evidence (`codes`: names, or counts by name), sorted, each once."""
    codes = alert.evidence.get("codes", ())
    return tuple(sorted({str(code) for code in codes})) if isinstance(codes, Iterable) and codes else ()


def needs(alert: Alert, model: str, catalogue: Catalogue) -> Needs:
    """Parts and skill by the alert's fault codes, else by its subsystem; empty for a model without a catalogue."""
    entry = catalogue.get(model)
    if entry is None:
        return Needs((), "")
    limit = entry.limits.get(alert.subsystem)
    if limit is not None:
        return Needs(limit.parts, limit.skill or entry.skill)
    faults = [entry.faults[code] for code in fault_codes(alert) if code in entry.faults]
    asked = {part for fault in faults for part in fault.parts}
    if not asked:
        subsystems = {alert.subsystem} if alert.subsystem else {fault.subsystem for fault in faults}
        asked = {name for name, part in entry.parts.items() if part.subsystem in subsystems}
    skill = next((fault.skill for fault in faults if fault.skill), entry.skill)
    return Needs(tuple(part for part in entry.parts if part in asked), skill)


def suggest(skill: str, region: str, technicians: Mapping[str, Technician], load: Mapping[str, int]) -> str:
    """Id of the technician with the skill who is near, has the fewest open orders, and comes first by id; or empty."""
    able = [each for each in technicians.values() if skill in each.skills]
    return (
        min(
            able, key=lambda each: (each.region != region, load.get(each.technician_id, 0), each.technician_id)
        ).technician_id
        if able
        else ""
    )
