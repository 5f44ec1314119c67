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
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from detectors.announcement import FleetAnnouncements
from schema.rows import FleetRow


class FleetModel(Protocol):
    """A model that all devices of a device model share; made without arguments, picklable, the same everywhere.

    It is handed only bytes, so it forms no view of how many partitions there are. What is gathered between two ticks
    comes in any order of devices: gather under keys (or exact sums of integers), and sort before encoding. It changes
    what it says only in `absorb`.
    """

    def contribution(self) -> bytes:
        """Return what this partition adds for the day that closes, and begin the next; b"" if nothing."""

    def absorb(self, contributions: Sequence[bytes]) -> None:
        """Learn one day of all partitions, this one too, in partition order; never called without any."""


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

    def close(self, number: int, day: int, given: Given | None) -> FleetRow | None:
        """Close the days up to `day`: take in what all have contributed for those closed before, and contribute.

        Without `given` the partition is the only one. Returns the row that others will ask for; None if no day ends.
        """
        if self.begun is None:
            self.begun = self.closed = day
            return None
        if day <= self.closed:
            return None
        missed = self._take_in(number, given or Given((), {})) if self.asks(day) else {}
        packed = _pack((kind, model, self.models[kind, model].contribution()) for kind, model in sorted(self.models))
        self.closed = day
        self.own.append(Contribution(day, number, packed))
        return FleetRow(number, day, packed, missed)

    def _take_in(self, number: int, given: Given) -> dict[str, int]:
        """Return the partitions of which something was gone without, and what the last day taken in of them is."""
        everything = sorted([*self.own, *given.contributions])
        self.own.clear()
        self.taken |= {**given.until, number: self.closed}
        for _, of_day in groupby(everything, key=lambda each: each.day):
            by_model: dict[tuple[str, str], list[bytes]] = {}
            for each in of_day:
                for kind, model, added in _unpack(each.packed):
                    by_model.setdefault((kind, model), []).append(added)
            for (kind, model), contributions in sorted(by_model.items()):
                self._model(kind, model).absorb(contributions)
        return {str(number): until for number, until in sorted(given.until.items()) if until < self.closed}


def _pack(added: Iterable[tuple[str, str, bytes]]) -> bytes:
    some = [each for each in added if each[2]]
    return zlib.compress(msgspec.msgpack.encode(some)) if some else b""


def _unpack(packed: bytes) -> list[tuple[str, str, bytes]]:
    return msgspec.msgpack.decode(zlib.decompress(packed), type=list[tuple[str, str, bytes]]) if packed else []
