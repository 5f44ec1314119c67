"""The shapes that devices send over MQTT and the decoded message that travels through the log."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Self, overload

import msgspec
import numpy as np
import numpy.typing as npt

MessageKind = Literal["telemetry", "birth", "will"]
MESSAGE_KINDS: tuple[MessageKind, ...] = ("telemetry", "birth", "will")


class WireFault(msgspec.Struct):
    """A fault event as a device reports it; times are ms since the epoch, UTC."""

    code: str
    ts: int
    severity: str | None = None
    subsystem: str | None = None
    text: str = ""


class WireTelemetry(msgspec.Struct):
    """Body of `…/telemetry`: series of `[ts, value]` per metric, faults, and the message's place in its boot."""

    device: str
    boot: int
    seq: int
    sent: int
    series: dict[str, list[tuple[int, float]]] = {}
    faults: list[WireFault] = []


class WireState(msgspec.Struct):
    """Body of `…/state`: the retained birth message (`online`) and the last will (`offline`)."""

    device: str
    state: Literal["online", "offline"]
    boot: int
    firmware: str = ""


class Reading(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One validated reading; ordering is the order of handling within a message: (time, name)."""

    ts_ms: int
    metric: str
    n: int
    """The value in whole steps of the metric's resolution, so that sums are exact."""


class Readings(Sequence[Reading]):
    """Readings of one message in columns; to whoever asks one by one they are a tuple of `Reading`.

    `rows` (R, 3) of int64 are time in ms, number of the metric in `names`, and value in steps.
    """

    __slots__ = ("names", "rows")

    def __init__(self, names: tuple[str, ...], rows: npt.NDArray[np.int64]) -> None:
        self.names = names
        self.rows = rows

    @classmethod
    def of(cls, readings: Iterable[tuple[int, str, int]]) -> Self:
        """Take (time, metric, steps) in the order given; `Reading` does as well."""
        number: dict[str, int] = {}
        rows = [(ts_ms, number.setdefault(metric, len(number)), n) for ts_ms, metric, n in map(_fields, readings)]
        return cls(tuple(number), np.array(rows, np.int64).reshape(-1, 3))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Reading]:
        return (Reading(ts_ms, self.names[number], n) for ts_ms, number, n in self.rows.tolist())

    @overload
    def __getitem__(self, index: int) -> Reading: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Reading, ...]: ...
    def __getitem__(self, index: int | slice) -> Reading | tuple[Reading, ...]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Readings | tuple) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def _fields(reading: Any) -> tuple[int, str, int]:
    return (reading.ts_ms, reading.metric, reading.n) if isinstance(reading, Reading) else reading


class Fault(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One validated fault event, completed from the catalogue."""

    ts_ms: int
    code: str
    severity: str
    subsystem: str
    text: str


class Message(msgspec.Struct, frozen=True):
    """One validated message, whole: the unit of processing. Readings and faults are sorted."""

    device_id: str
    kind: MessageKind
    boot: int
    seq: int
    """Rises by one a message within a boot, from 1; 0 for birth and will, which stand outside the sequence."""
    sent_ms: int
    receive_ms: int
    """When the bridge received it; in simulated time the clock that came before it."""
    readings: tuple[Reading, ...] | Readings = ()
    faults: tuple[Fault, ...] = ()


class Refused(msgspec.Struct, frozen=True):
    """A message with at least one refusal, as it stands in the quarantine."""

    topic: str
    sha256: str
    received_ms: int
    reason: str
    """Stable machine-readable word, e.g. `unknown_device`; the first refusal found."""
    detail: str
    """For people: which field, which value, what was expected; all refusals of the message."""
    length: int
    payload: bytes
    """At most the first 64 kB; empty for what the privacy screen refuses."""
