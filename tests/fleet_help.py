"""A shared model that shows every mistake of exchanging it, logs of several partitions, and a table in memory."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from schema.catalogue import load_catalogue
from schema.messages import Message
from schema.record import TelemetryRecord, Tick, encode_registry, encode_telemetry, encode_tick
from schema.registry import Customer, Device, Site
from schema.rows import FleetRow
from schema.topics import partition_of
from streams.fleet import KINDS, Contribution, Fleet, Given
from streams.pane_rows import DAY_MS, HOUR_MS
from streams.processor import LogRecord
from streams.state import PartitionState
from streams.telemetry import handle_telemetry

CATALOGUE = load_catalogue()
MODEL = sorted(CATALOGUE)[0]
CUSTOMERS = 12
BEGUN_MS = 20_000 * DAY_MS


class Sums:
    """Chains what it learns, so that order, repetitions and omissions show; what it gathers is keyed, as it must be."""

    CONTRIBUTION = 1

    def __init__(self) -> None:
        self.gathered: dict[tuple[int, str], float] = {}
        self.learnt: list[tuple[int, str]] = []
        self.chain = 0.1

    def gather(self, at: int, device: str, value: float) -> None:
        self.gathered[at, device] = value

    def contribution(self) -> bytes:
        rows = [(at, device, value) for (at, device), value in sorted(self.gathered.items())]
        self.gathered = {}
        return msgspec.msgpack.encode(rows) if rows else b""

    @staticmethod
    def read(contribution: bytes) -> list[tuple[int, str, float]]:
        return msgspec.msgpack.decode(contribution, type=list[tuple[int, str, float]])

    def absorb(self, contributions: Sequence[bytes]) -> None:
        for at, device, value in sorted(row for each in contributions for row in self.read(each)):
            self.learnt.append((at, device))
            self.chain = self.chain * 0.7 + value


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> type[Sums]:
    """The kind, registered."""
    monkeypatch.setitem(KINDS, "Sums", Sums)
    return Sums


@pytest.fixture
def fed(sums: type[Sums], monkeypatch: pytest.MonkeyPatch) -> type[Sums]:
    """The kind, which learns of each message that partitions take in."""

    def handle(state: PartitionState, record: TelemetryRecord) -> None:
        handle_telemetry(state, record)
        for message in record.messages:
            device = record.strings[message["device"]]
            state.shared.fleet.of(sums, MODEL).gather(int(message["receive_ms"]), device, float(message["seq"]))

    monkeypatch.setattr("streams.partition.handle_telemetry", handle)
    return sums


def logs(partitions: int, days: int) -> list[list[LogRecord]]:
    """The logs of a fleet whose devices say every hour that they are there; the first tick is at a day's begin."""
    values: list[list[bytes]] = [[] for _ in range(partitions)]
    for number in range(partitions):
        here = [each for each in range(CUSTOMERS) if partition_of(f"cu-{each}", partitions) == number]
        customers = [Customer(customer_id=f"cu-{each}", name="") for each in here]
        sites = [Site(site_id=f"si-{each}", customer_id=f"cu-{each}", name="", country="DE") for each in here]
        devices = [
            Device(device_id=f"de-{each}", model=MODEL, site_id=f"si-{each}", customer_id=f"cu-{each}", installed_ms=0)
            for each in here
        ]
        log = values[number]
        log.append(encode_registry([*customers, *sites, *devices], source="test", receive_ms=0))
        log.append(encode_tick(Tick("bridge", BEGUN_MS)))
        for at_ms in range(BEGUN_MS, BEGUN_MS + days * DAY_MS, HOUR_MS):
            seq = (at_ms - BEGUN_MS) // HOUR_MS + 1
            sent = [Message(each.device_id, "telemetry", BEGUN_MS, seq, at_ms, at_ms, (), ()) for each in devices]
            log += [encode_telemetry(sent, source="bridge", receive_ms=at_ms)] if sent else []
            log.append(encode_tick(Tick("bridge", at_ms + HOUR_MS)))
    return [[LogRecord(offset, value) for offset, value in enumerate(log)] for log in values]


class Table:
    """The table of contributions, in memory."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], FleetRow] = {}

    def put(self, rows: Iterable[Any]) -> None:
        """Keep what is a contribution."""
        for row in rows:
            if isinstance(row, FleetRow):
                assert (row.partition, row.day) not in self.rows
                self.rows[row.partition, row.day] = row

    def given(self, number: int, fleet: Fleet, others: Iterable[int]) -> Given:
        """What is there of other partitions now."""
        closed = {key for key in self.rows if key[1] <= fleet.closed}
        until = {
            other: max([day for who, day in closed if who == other], default=fleet.begun or 0)
            for other in others
            if other != number
        }
        return Given(tuple(self._new(fleet, until)), until)

    def _new(self, fleet: Fleet, until: dict[int, int]) -> Iterator[Contribution]:
        for (who, day), row in reversed(self.rows.items()):  # in any order
            if who in until and fleet.taken_of(who) < day <= until[who]:
                yield Contribution(day, who, row.contribution)
