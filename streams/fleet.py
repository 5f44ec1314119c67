"""What partitions learn from each other: models that the devices of the whole fleet share.

A partition sees only its own customers. So each gathers, during a day of event time, what its devices add to the shared
models. The tick that closes the day makes of it one immutable row (`FleetRow`), written in that tick's transaction. The
tick that closes the *next* day takes in the rows of all partitions, its own like the others', sorted by day and
partition: from then on all partitions have the same models, and how many partitions there are does not show, if a
model sorts what it is handed (see `FleetModel`).

Everything here is pure. The rows of others come with the tick, as an argument: they are an input, keyed by event time,
that never changes once it is there. So a partition that is recomputed from a cut meets itself. `streams.exchange` gets
them, waits for them, and says why nothing stands still for ever.

A tick may close several days at once (after an outage of the bridge): they share one row, that of the last of them.

During an upgrade partitions of two versions meet. What a row says is read by its format and by the version of each
model's contribution; what cannot be read was not said. That follows from the bytes of the row alone, so it is the same
for whoever reads it, and when it is read again.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
import structlog

from detectors.announcement import FleetAnnouncements
from schema.rows import FleetRow

log = structlog.get_logger()
FORMAT = b"\x01"
"""First byte of what a partition contributes; another number for each change of how models are packed together."""
_PARTS = msgspec.msgpack.Decoder(list[tuple[str, str, bytes]])


class FleetModel(Protocol):
    """A model that all devices of a device model share; made without arguments, picklable, the same everywhere.

    It is handed only bytes, so it forms no view of how many partitions there are. What is gathered between two ticks
    comes in any order of devices: gather under keys (or exact sums of integers), and sort before encoding. It changes
    what it says only in `absorb`.
    """

    CONTRIBUTION: int
    """Version of what `contribution` says: another number for each change of its form or of what it means."""

    def contribution(self) -> bytes:
        """Return what this partition adds for the day that closes, and begin the next; b"" if nothing."""

    @staticmethod
    def read(contribution: bytes) -> Any:
        """Return what a contribution says.

        Raises:
            ValueError: it is none of this version; whatever is read without can be absorbed.
        """

    def absorb(self, contributions: Sequence[bytes]) -> None:
        """Learn one day of all partitions, this one too, in partition order; never called without any.

        Raises:
            ValueError: one of them cannot be read; then nothing was learnt.
        """


M = TypeVar("M", bound=FleetModel)

KINDS: dict[str, type[FleetModel]] = {FleetAnnouncements.__name__: FleetAnnouncements}
"""What kinds there are, by the name of the class."""


class Contribution(NamedTuple):
    """What one partition adds to all models for one day."""

    day: int
    """UTC days since the epoch."""
    partition: int
    packed: bytes


@dataclass(frozen=True, slots=True)
class Given:
    """What the other partitions have contributed, handed over with the tick that takes it in."""

    contributions: tuple[Contribution, ...]
    """All of them not taken in yet, of days up to the last that this partition has closed, in any order."""
    until: Mapping[int, int]
    """The last day that they hold of each other partition; a partition of which a day is missing is gone without."""


@dataclass(slots=True)
class Fleet:
    """The shared models as one partition has them, and how far it is in exchanging them."""

    models: dict[tuple[str, str], FleetModel] = field(default_factory=dict)
    """By kind and device model."""
    begun: int | None = None
    """The last closed day when the partition began; what was contributed before is not taken in."""
    closed: int = 0
    """The last day that is closed."""
    taken: dict[int, int] = field(default_factory=dict)
    """By partition: the last day taken in."""
    own: list[Contribution] = field(default_factory=list)
    """Closed here and not taken in yet."""

    def of(self, kind: type[M], device_model: str) -> M:
        """Return the shared model of a device model; a new one where nothing was learnt yet."""
        return self._model(kind.__name__, device_model)  # type: ignore[return-value]

    def _model(self, kind: str, device_model: str) -> FleetModel:
        key = kind, device_model
        if key not in self.models:
            self.models[key] = KINDS[kind]()
        return self.models[key]

    def asks(self, day: int) -> bool:
        """Whether a tick that closes `day` takes contributions in."""
        return self.begun is not None and day > self.closed

    def taken_of(self, partition: int) -> int:
        """The last day taken in of a partition."""
        assert self.begun is not None
        return self.taken.get(partition, self.begun)

    def since(self) -> int | None:
        """The first day that may still be asked for; None before the first tick."""
        return None if self.begun is None else min(self.taken.values(), default=self.begun) + 1

    def close(
        self, number: int, day: int, given: Given | None, refused: Callable[[], None] = lambda: None
    ) -> FleetRow | None:
        """Close the days up to `day`: take in what all have contributed for those closed before, and contribute.

        Without `given` the partition is the only one. `refused` is called for each row of which something cannot be
        read. Returns the row that others will ask for; None if no day ends.
        """
        if self.begun is None:
            self.begun = self.closed = day
            return None
        if day <= self.closed:
            return None
        missed = self._take_in(number, given or Given((), {}), refused) if self.asks(day) else {}
        packed = pack((kind, model, self.models[kind, model].contribution()) for kind, model in sorted(self.models))
        self.closed = day
        self.own.append(Contribution(day, number, packed))
        return FleetRow(number, day, packed, missed)

    def _take_in(self, number: int, given: Given, refused: Callable[[], None]) -> dict[str, int]:
        """Return the partitions of which something was gone without, and what the last day taken in of them is."""
        everything = sorted([*self.own, *given.contributions])
        self.own.clear()
        self.taken |= {**given.until, number: self.closed}
        for _, of_day in groupby(everything, key=lambda each: each.day):
            by_model: dict[tuple[str, str], list[bytes]] = {}
            for each in of_day:
                said, wrong = _unpack(each.packed)
                for kind, model, added in said:
                    by_model.setdefault((kind, model), []).append(added)
                if wrong:
                    refused()
                    log.warning("cannot read what was learnt", partition=each.partition, day=each.day, wrong=wrong)
            for (kind, model), contributions in sorted(by_model.items()):
                self._model(kind, model).absorb(contributions)
        return {str(number): until for number, until in sorted(given.until.items()) if until < self.closed}


def pack(added: Iterable[tuple[str, str, bytes]]) -> bytes:
    """Pack contributions, each with kind and device model; b"" if all of them are."""
    some = [(_versioned(kind), model, each) for kind, model, each in added if each]
    return FORMAT + zlib.compress(msgspec.msgpack.encode(some)) if some else b""


def _versioned(kind: str) -> str:
    return f"{kind}/{KINDS[kind].CONTRIBUTION}"


def _unpack(packed: bytes) -> tuple[list[tuple[str, str, bytes]], list[str]]:
    """What can be absorbed, by kind and device model, and what is wrong with the rest."""
    if not packed:
        return [], []
    try:
        if not packed.startswith(FORMAT):
            raise ValueError(f"format {packed[0]}, this version reads {FORMAT[0]}")
        parts = _PARTS.decode(zlib.decompress(packed[1:]))
    except (zlib.error, ValueError) as error:
        return [], [str(error)]
    said: list[tuple[str, str, bytes]] = []
    wrong = []
    for versioned, model, added in parts:
        kind = versioned.partition("/")[0]
        if kind not in KINDS or versioned != _versioned(kind):
            wrong.append(f"{versioned}: not known here")
            continue
        try:
            KINDS[kind].read(added)
        except ValueError as error:
            wrong.append(f"{versioned} {model}: {error}")
        else:
            said.append((kind, model, added))
    return said, wrong
