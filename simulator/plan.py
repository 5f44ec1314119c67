"""What happens to the fleet beyond every day: who leaves, which sites go off line, holiday and planned maintenance.

Failures are planned in `simulator.failures`. Numbers are spread evenly over blocks of customers, sites or devices, so
that every seed has enough of everything and a new device changes nothing for the others.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from schema.registry import Site
from simulator.fleet import DAY_MS, Fleet, Machine
from simulator.randomness import stream
from simulator.truth import Churn, ChurnKind, DeviceDrop, Holiday, Maintenance, Outage, Withdrawal

HOUR_MS = 3_600_000
_CHURN_BLOCK = 5
_DROP_BLOCK = 8
_OUTAGE_BLOCK = 3
_LIVE_FIRST_SHARE = 0.3
_KINDS: tuple[ChurnKind, ...] = ("step", "ramp", "stop", "withdrawn")


@dataclass(frozen=True, slots=True)
class Course:
    """Everything planned except failures."""

    churn: tuple[Churn, ...]
    withdrawals: tuple[Withdrawal, ...]
    drops: tuple[DeviceDrop, ...]
    outages: tuple[Outage, ...]
    holidays: tuple[Holiday, ...]
    maintenances: tuple[Maintenance, ...]


def plan_course(seed: int, fleet: Fleet, start_ms: int, days: int) -> Course:
    """Plan churn, drops, outages, holiday and maintenance for the `days` from `start_ms`."""
    end_ms = start_ms + days * DAY_MS
    churn = _churn(seed, [customer.customer_id for customer in fleet.customers], start_ms, days)
    leaving = {fact.customer_id for fact in churn}
    withdrawals = _withdrawals(seed, fleet, churn, end_ms)
    drops = _drops(seed, fleet, leaving, start_ms, days)
    holidays = _holidays(seed, fleet, start_ms, days)
    maintenances = _maintenances(seed, fleet, leaving, holidays, start_ms, days)
    outages = _outages(seed, fleet, withdrawals, maintenances, start_ms, days)
    return Course(churn, withdrawals, drops, outages, holidays, maintenances)


def local_midnight_ms(timezone: str, at_ms: int) -> int:
    """The last midnight in `timezone` at or before `at_ms`."""
    local = datetime.fromtimestamp(at_ms / 1000, ZoneInfo(timezone))
    return round(local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)


def _churn(seed: int, customers: list[str], start_ms: int, days: int) -> tuple[Churn, ...]:
    first_kind = int(stream(seed, "churn").integers(len(_KINDS)))
    facts: list[Churn] = []
    for block in range(max(1, len(customers) // _CHURN_BLOCK)):
        rng = stream(seed, "churn", block)
        members = customers[block * _CHURN_BLOCK : (block + 1) * _CHURN_BLOCK]
        kind = _KINDS[(first_kind + block) % len(_KINDS)]
        onset_ms = start_ms + round(rng.uniform(0.5, 0.75) * days * DAY_MS)
        lasts_ms = {
            "step": 0,
            "ramp": round(rng.uniform(10, 14) * DAY_MS),
            "stop": 0,
            "withdrawn": round(rng.uniform(2, 3) * DAY_MS),
        }[kind]
        decline = {"step": rng.uniform(0.4, 0.65), "ramp": rng.uniform(0.55, 0.75)}.get(kind, 1.0)
        facts.append(
            Churn(
                customer_id=members[int(rng.integers(len(members)))],
                kind=kind,
                onset_ms=onset_ms,
                full_ms=onset_ms + lasts_ms,
                decline=round(decline, 3),
            )
        )
    return tuple(facts)


def _withdrawals(seed: int, fleet: Fleet, churn: tuple[Churn, ...], end_ms: int) -> tuple[Withdrawal, ...]:
    facts: list[Withdrawal] = []
    for leaver in churn:
        if leaver.kind != "withdrawn":
            continue
        last_ms: dict[str, int] = {}
        for machine in fleet.machines:
            if machine.customer_id != leaver.customer_id:
                continue
            share = stream(seed, "withdrawal", machine.index).random()
            dark_ms = leaver.onset_ms + round(share * (leaver.full_ms - leaver.onset_ms))
            last_ms[machine.site_id] = max(last_ms.get(machine.site_id, 0), dark_ms)
            facts.append(_withdrawal(machine.device_id, machine.site_id, leaver.customer_id, dark_ms))
        facts += [
            _withdrawal(f"gw-{site_id}", site_id, leaver.customer_id, dark_ms + HOUR_MS)
            for site_id, dark_ms in last_ms.items()
        ]
    return tuple(fact for fact in facts if fact.dark_ms < end_ms)


def _withdrawal(device_id: str, site_id: str, customer_id: str, dark_ms: int) -> Withdrawal:
    return Withdrawal(device_id=device_id, site_id=site_id, customer_id=customer_id, dark_ms=dark_ms)


def _drops(seed: int, fleet: Fleet, leaving: set[str], start_ms: int, days: int) -> tuple[DeviceDrop, ...]:
    by_customer: dict[str, list[Machine]] = {}
    for machine in fleet.machines:
        if machine.model != "ventilator":  # a patient on one machine is not moved to another
            by_customer.setdefault(machine.customer_id, []).append(machine)
    facts: list[DeviceDrop] = []
    customers = list(by_customer)
    for block in range(max(1, len(customers) // _DROP_BLOCK)):
        rng = stream(seed, "drop", block)
        members = customers[block * _DROP_BLOCK : (block + 1) * _DROP_BLOCK]
        staying = [members[i] for i in rng.permutation(len(members)) if members[i] not in leaving]
        if not staying or len(by_customer[staying[0]]) < 3:
            continue
        machines = by_customer[staying[0]][:3]  # later devices must not change who is chosen
        used_less, used_more = rng.permutation(3)[:2]
        facts.append(
            DeviceDrop(
                device_id=machines[used_less].device_id,
                customer_id=staying[0],
                onset_ms=start_ms + round(rng.uniform(0.45, 0.8) * days * DAY_MS),
                decline=round(rng.uniform(0.45, 0.65), 3),
                moved_to=machines[used_more].device_id,
            )
        )
    return tuple(facts)


def _holidays(seed: int, fleet: Fleet, start_ms: int, days: int) -> tuple[Holiday, ...]:
    hospitals: dict[tuple[str, str], int] = {}
    for site in fleet.sites:
        if site.site_id.endswith("a"):
            hospitals[site.country, site.timezone] = hospitals.get((site.country, site.timezone), 0) + 1
    country, timezone = max(hospitals, key=lambda key: hospitals[key])
    day = start_ms + round(stream(seed, "holiday").uniform(0.4, 0.8) * days) * DAY_MS
    while datetime.fromtimestamp(day / 1000, UTC).weekday() >= 5:
        day += DAY_MS
    noon = datetime.fromtimestamp(day / 1000, UTC) + timedelta(hours=12)
    local = datetime(noon.year, noon.month, noon.day, tzinfo=ZoneInfo(timezone))
    return (
        Holiday(
            country=country,
            from_ms=round(local.timestamp() * 1000),
            until_ms=round((local + timedelta(days=1)).timestamp() * 1000),
        ),
    )


def _maintenances(
    seed: int, fleet: Fleet, leaving: set[str], holidays: tuple[Holiday, ...], start_ms: int, days: int
) -> tuple[Maintenance, ...]:
    rng = stream(seed, "maintenance")
    sites = [site for site in fleet.sites if site.customer_id not in leaving and site.site_id.endswith("a")]
    if not sites:
        return ()
    site = sites[int(rng.integers(len(sites)))]
    day = start_ms + round(rng.uniform(0.4, 0.85) * days) * DAY_MS
    while datetime.fromtimestamp(day / 1000, UTC).weekday() >= 5 or any(
        holiday.from_ms - DAY_MS <= day < holiday.until_ms + DAY_MS for holiday in holidays
    ):
        day -= DAY_MS
    from_ms = local_midnight_ms(site.timezone, day + 12 * HOUR_MS) + 7 * HOUR_MS
    here = [machine for machine in fleet.machines if machine.site_id == site.site_id]
    return (
        Maintenance(
            site_id=site.site_id,
            customer_id=site.customer_id,
            from_ms=from_ms,
            until_ms=from_ms + round(rng.uniform(8, 20)) * HOUR_MS,
            switched_off=tuple(
                machine.device_id
                for machine in here
                if machine is here[0] or stream(seed, "switched off", machine.index).random() < 0.4
            ),
        ),
    )


def _outages(
    seed: int,
    fleet: Fleet,
    withdrawals: tuple[Withdrawal, ...],
    maintenances: tuple[Maintenance, ...],
    start_ms: int,
    days: int,
) -> tuple[Outage, ...]:
    end_ms = start_ms + days * DAY_MS
    first_dark_ms: dict[str, int] = {}
    for gone in withdrawals:
        first_dark_ms[gone.site_id] = min(first_dark_ms.get(gone.site_id, end_ms), gone.dark_ms)
    main = [site for site in fleet.sites if site.site_id.endswith("a")]
    groups = [main[first : first + _OUTAGE_BLOCK] for first in range(0, len(main), _OUTAGE_BLOCK)]
    groups = [group for group in groups if len(group) == _OUTAGE_BLOCK] or [main]
    groups += [[site] for site in fleet.sites if site not in main]
    facts: list[Outage] = []
    for group in groups:
        rng = stream(seed, "outage", group[0].site_id)
        share = days / 56 * len(group) / _OUTAGE_BLOCK
        wanted = max(int(share + rng.random()), 1 if group is groups[0] else 0)
        for _attempt in range(20 * wanted):
            found = _outage(rng, group[int(rng.integers(len(group)))], start_ms, days)
            busy = [(fact.from_ms, fact.until_ms) for fact in maintenances if fact.site_id == found.site_id]
            busy += [(fact.from_ms, fact.until_ms) for fact in facts if fact.site_id == found.site_id]
            gone_ms = first_dark_ms.get(found.site_id, end_ms)
            if found.until_ms + 2 * HOUR_MS > gone_ms or any(
                found.from_ms < until_ms + 12 * HOUR_MS and since_ms < found.until_ms + 12 * HOUR_MS
                for since_ms, until_ms in busy
            ):
                continue
            facts.append(found)
            wanted -= 1
            if wanted == 0:
                break
    return tuple(facts)


def _outage(rng: np.random.Generator, site: Site, start_ms: int, days: int) -> Outage:
    from_ms = start_ms + round(rng.uniform(0.15, 0.95) * days * DAY_MS)
    until_ms = from_ms + round(rng.uniform(4, 10) * HOUR_MS)
    live_first = rng.random() < _LIVE_FIRST_SHARE
    backlog_ms = until_ms + (round(rng.uniform(20, 60) * 60_000) if live_first else 1000)
    return Outage(
        gateway_id=f"gw-{site.site_id}",
        site_id=site.site_id,
        customer_id=site.customer_id,
        from_ms=from_ms,
        until_ms=until_ms,
        backlog_ms=backlog_ms,
        delivered_ms=backlog_ms + 5 * 60_000,
    )
