"""What is published when: messages, births, backlogs, duplicates and malformed messages of all devices in one order."""

from typing import Literal, NamedTuple

import numpy as np

from simulator.fleet import Fleet
from simulator.plan import Course
from simulator.randomness import stream
from simulator.track import Track
from simulator.truth import Outage

Kind = Literal["join", "cut", "birth", "telemetry", "duplicate", "malformed"]
_DUPLICATE_SHARE = 0.003
_MALFORMED_SHARE = 0.001
_BACKLOG_SPACING_MS = 100
_BACKLOG_MS = 240_000


class Entry(NamedTuple):
    """One thing that happens on a gateway's connection. Sorting is the order of publishing."""

    at_ms: int
    rank: int
    """Index of the device; gateways come before devices of the same instant."""
    position: int
    """Place in the device's own order."""
    kind: Kind
    gateway_id: str
    device_id: str
    number: int
    """Of the message, boot or malformed message within the device."""


def schedule(
    seed: int, fleet: Fleet, tracks: tuple[Track, ...], course: Course, start_ms: int, end_ms: int
) -> list[Entry]:
    """Everything between [start_ms, end_ms), sorted."""
    gone_ms = {fact.device_id: fact.dark_ms for fact in course.withdrawals}
    entries: list[Entry] = []
    by_gateway: dict[str, list[Track]] = {gateway_id: [] for gateway_id in fleet.gateways()}
    for track in tracks:
        by_gateway[track.machine.gateway_id].append(track)
    for gateway_id, members in by_gateway.items():
        outages = [fact for fact in course.outages if fact.gateway_id == gateway_id]
        until_ms = gone_ms.get(gateway_id, end_ms)
        entries += _connections(gateway_id, outages, start_ms, until_ms, end_ms)
        sends = sorted(send for track in members for send in _sends(track))
        for outage in outages:
            sends = _delayed(sends, outage)
        entries += sends
        for track in members:
            dark_ms = min(gone_ms.get(track.machine.device_id, end_ms), until_ms)
            own = [send for send in sends if send.device_id == track.machine.device_id and send.kind == "telemetry"]
            entries += _duplicates(seed, track, own, outages, dark_ms)
            entries += _malformed(seed, track, len(own), outages, start_ms, dark_ms)
    entries.sort()
    return [entry for entry in entries if entry.at_ms < end_ms]


def _connections(gateway_id: str, outages: list[Outage], start_ms: int, until_ms: int, end_ms: int) -> list[Entry]:
    """Joins with their births, and cuts, of a gateway."""

    def entry(at_ms: int, position: int, kind: Kind) -> Entry:
        return Entry(at_ms, -1, position, kind, gateway_id, gateway_id, 0)

    entries = [entry(start_ms, 0, "join"), entry(start_ms, 1, "birth")]
    for outage in outages:
        entries += [
            entry(outage.from_ms, 0, "cut"),
            entry(outage.until_ms, 0, "join"),
            entry(outage.until_ms, 1, "birth"),
        ]
    if until_ms < end_ms:
        entries.append(entry(until_ms, 0, "cut"))
    return entries


def _sends(track: Track) -> list[Entry]:
    """Births and messages as the device sends them; a birth comes before what follows it."""
    machine = track.machine
    births = [
        Entry(boot_ms, machine.index, 0, "birth", machine.gateway_id, machine.device_id, boot)
        for boot, boot_ms in enumerate(track.boots_ms)
    ]
    return births + [
        Entry(plan.at_ms, machine.index, 1 + index, "telemetry", machine.gateway_id, machine.device_id, index)
        for index, plan in enumerate(track.messages)
    ]


def _delayed(sends: list[Entry], outage: Outage) -> list[Entry]:
    """Sends of a gateway, those of the outage moved to its backlog.

    A gateway that delivers its backlog first also queues behind it what comes in meanwhile.
    """
    held = [send for send in sends if outage.from_ms <= send.at_ms < outage.until_ms]
    spacing_ms = max(1, min(_BACKLOG_SPACING_MS, _BACKLOG_MS // max(1, len(held))))
    in_order = outage.backlog_ms <= outage.until_ms + 1000
    if in_order:
        waits_until_ms = outage.backlog_ms + (len(held) + 8) * spacing_ms
        held = [send for send in sends if outage.from_ms <= send.at_ms < waits_until_ms]
    moved = {
        id(send): send._replace(at_ms=max(send.at_ms, outage.backlog_ms + rank * spacing_ms))
        for rank, send in enumerate(held)
    }
    return sorted(moved.get(id(send), send) for send in sends)


def _online_ms(at_ms: int, outages: list[Outage], until_ms: int, otherwise_ms: int) -> int:
    """`at_ms`, or a while after the outage that it falls into; `otherwise_ms` if that is after the end."""
    for outage in outages:
        if outage.from_ms <= at_ms < outage.until_ms:
            at_ms = outage.until_ms + 120_000
    return at_ms if at_ms < until_ms else otherwise_ms


def _duplicates(seed: int, track: Track, sent: list[Entry], outages: list[Outage], until_ms: int) -> list[Entry]:
    """Messages that a gateway sends twice: at once, or minutes to hours later."""
    rng = stream(seed, "duplicates", track.machine.index)
    chosen = np.flatnonzero(rng.random(len(sent)) < _DUPLICATE_SHARE).tolist()
    copies: list[Entry] = []
    for index in chosen:
        original = sent[index]
        soon_ms = original.at_ms + int(rng.integers(1, 50))
        late_ms = original.at_ms + int(rng.integers(60_000, 6 * 3_600_000))
        at_ms = _online_ms(late_ms if rng.random() < 0.5 else soon_ms, outages, until_ms, soon_ms)
        copies.append(original._replace(at_ms=at_ms, kind="duplicate"))
    return copies


def _malformed(
    seed: int, track: Track, messages: int, outages: list[Outage], start_ms: int, until_ms: int
) -> list[Entry]:
    rng = stream(seed, "malformed times", track.machine.index)
    machine = track.machine
    first_ms = start_ms + 3_600_000
    count = int(rng.binomial(messages, _MALFORMED_SHARE)) if until_ms > first_ms else 0
    return [
        Entry(
            _online_ms(int(rng.integers(first_ms, until_ms)), outages, until_ms, first_ms),
            machine.index,
            0,
            "malformed",
            machine.gateway_id,
            machine.device_id,
            number,
        )
        for number in range(count)
    ]
