"""The truth as JSON lines: what was planned, and in the end what was published. One tagged object a line."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

ChurnKind = Literal["step", "ramp", "stop", "withdrawn"]


class _Fact(msgspec.Struct, frozen=True, tag_field="fact", kw_only=True):
    pass


class Run(_Fact, frozen=True, tag="run"):
    """What was simulated: virtual time [start_ms, end_ms)."""

    seed: int
    devices: int
    customers: int
    start_ms: int
    end_ms: int


class Failure(_Fact, frozen=True, tag="failure"):
    """A hard failure: the device stands still from `at_ms` until it boots again at `repaired_ms`."""

    device_id: str
    customer_id: str
    subsystem: str
    code: str
    part_ids: tuple[str, ...]
    """What the repair needs."""
    at_ms: int
    repaired_ms: int
    precursor_ms: int | None
    """When its signs began; None if there were none."""


class FalsePrecursor(_Fact, frozen=True, tag="false_precursor"):
    """Signs of a failure in [from_ms, until_ms) that came to nothing; they were strongest at `peak_ms`."""

    device_id: str
    customer_id: str
    subsystem: str
    from_ms: int
    peak_ms: int
    until_ms: int


class Churn(_Fact, frozen=True, tag="churn"):
    """A customer who leaves: use falls by `decline` (a share of 1) between `onset_ms` and `full_ms`."""

    customer_id: str
    kind: ChurnKind
    onset_ms: int
    full_ms: int
    decline: float


class Withdrawal(_Fact, frozen=True, tag="withdrawal"):
    """A device or gateway that is dark for good from `dark_ms`."""

    device_id: str
    site_id: str
    customer_id: str
    dark_ms: int


class DeviceDrop(_Fact, frozen=True, tag="device_drop"):
    """One device is used less for good, its work done by another one: no churn."""

    device_id: str
    customer_id: str
    onset_ms: int
    decline: float
    moved_to: str


class Outage(_Fact, frozen=True, tag="outage"):
    """A gateway off line in [from_ms, until_ms); its backlog has arrived by `delivered_ms`."""

    gateway_id: str
    site_id: str
    customer_id: str
    from_ms: int
    until_ms: int
    backlog_ms: int
    """When the gateway begins to deliver what it kept: at once, or some time after live data."""
    delivered_ms: int


class Holiday(_Fact, frozen=True, tag="holiday"):
    """A public holiday of a country, told beforehand."""

    country: str
    from_ms: int
    until_ms: int


class Maintenance(_Fact, frozen=True, tag="maintenance"):
    """Planned maintenance of a site, told beforehand: nothing is used, and some devices are switched off."""

    site_id: str
    customer_id: str
    from_ms: int
    until_ms: int
    switched_off: tuple[str, ...]


class Count(_Fact, frozen=True, tag="count"):
    """Unique readings of a device and metric by the day of their own time stamp (days since the epoch, UTC)."""

    device_id: str
    metric: str
    days: dict[int, int]


class Totals(_Fact, frozen=True, tag="totals"):
    """What was published until the end, or until the run was stopped; the last line of a finished run."""

    until_ms: int
    messages: int
    """Telemetry messages, duplicates and malformed ones left out."""
    readings_published_unique: int
    faults: int
    births: int
    wills: int
    duplicates: int
    malformed_sent: int
    sent_again: int
    """Messages sent once more because a connection had broken before they were confirmed."""


Fact = (
    Run | Failure | FalsePrecursor | Churn | Withdrawal | DeviceDrop | Outage | Holiday | Maintenance | Count | Totals
)
_AnyFact = TypeVar("_AnyFact", bound=_Fact)


class Truth:
    """All facts of one run, in the order of the file."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self.facts = tuple(facts)

    def of(self, kind: type[_AnyFact]) -> list[_AnyFact]:
        """Facts of one kind."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    @property
    def run(self) -> Run:
        """What was simulated.

        Raises:
            ValueError: the truth has no such line.
        """
        for fact in self.facts:
            if isinstance(fact, Run):
                return fact
        raise ValueError("the truth has no line that says what was simulated")


def write_truth(path: Path, facts: Iterable[Fact]) -> None:
    """Write a new file."""
    with path.open("wb") as file:
        file.writelines(_lines(facts))


def append_truth(path: Path, facts: Iterable[Fact]) -> None:
    """Add lines at the end of the file."""
    with path.open("ab") as file:
        file.writelines(_lines(facts))


def read_truth(path: Path) -> Truth:
    """Read a file.

    Raises:
        msgspec.ValidationError: a line is no fact.
        OSError: the file cannot be read.
    """
    decoder = msgspec.json.Decoder(Fact)
    with path.open("rb") as file:
        return Truth(decoder.decode(line) for line in file if line.strip())


def _lines(facts: Iterable[Fact]) -> Iterator[bytes]:
    encoder = msgspec.json.Encoder()
    for fact in facts:
        yield encoder.encode(fact) + b"\n"
