"""What a partition knows about one device, and what a message does to it alone."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from sys import intern
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from detectors.due import Dues
from detectors.fault_patterns import FaultPatterns
from detectors.fault_rules import FaultRules
from detectors.sensor_watch import SensorWatch
from detectors.silence import Cadence
from detectors.subsystem_health import SubsystemHealth
from detectors.usage_drop import UsageDrop
from schema.catalogue import DeviceModel
from schema.messages import Fault, MessageKind
from schema.registry import Device
from streams.pane_rows import DAY_MS, LAST_DTYPE, NEVER, PANE_DTYPE, RESOLUTIONS_MS, new_panes
from streams.sequence import Admission, Count, Opening, Sequencer

DAYS_KEPT = 10
DOWN_KEPT = 8
CODES_KEPT = 64
CODES_KEPT_MS = 10 * DAY_MS
"""Three days more than a judgement looks back: it is of an hour that closes behind the newest fault."""


@dataclass(frozen=True, slots=True)
class DeviceMessage:
    """One message as the partition handles it; `slots`, `ts_ms` and `n` are (R,), sorted by time."""

    kind: MessageKind
    boot: int
    seq: int
    receive_ms: int
    slots: npt.NDArray[np.int64]
    ts_ms: npt.NDArray[np.int64]
    n: npt.NDArray[np.int64]
    faults: tuple[Fault, ...]

    @property
    def opening(self) -> Opening | None:
        """How it begins (see `streams.sequence`); None if it says nothing."""
        if len(self.ts_ms):
            return int(self.ts_ms[0]), int(self.slots[0]), int(self.n[0])
        return (self.faults[0].ts_ms, -1, 0) if self.faults else None


@dataclass(frozen=True, slots=True)
class Shape:
    """What a device model's catalogue entry means for the state of its devices; one for all of them."""

    metrics: tuple[tuple[str, int], ...]
    """Name and steps per unit of each slot."""
    subsystems: tuple[str, ...]
    """Subsystems that can fail, sorted."""

    @classmethod
    def of(cls, model: DeviceModel) -> Self:
        """The shape of a model."""
        return cls(
            tuple((name, metric.steps_per_unit) for name, metric in model.metrics.items()),
            tuple(sorted({fault.subsystem for fault in model.faults.values() if fault.stops_device})),
        )


@dataclass(slots=True)
class DeviceState:
    """State of one device; pickled on its own for a snapshot, so it refers to nothing outside itself."""

    entry: Device
    metrics: tuple[tuple[str, int], ...]
    """Name and steps per unit of what the slots of `panes`, `last` and `held` are."""
    panes: npt.NDArray[np.void]
    last: npt.NDArray[np.void]
    cadence: Cadence | None
    usage: UsageDrop | None
    rules: FaultRules
    health: dict[str, SubsystemHealth]
    """By subsystem, for the subsystems of the catalogue in sorted order."""
    sequencer: Sequencer = field(default_factory=Sequencer)
    held: list[DeviceMessage] = field(default_factory=list)
    """Messages that wait for the next tick (see `streams.sequence`)."""
    watermark_ms: int = NEVER
    online: bool = True
    """What the last birth or will said; a hint, silence is decided by cadence."""
    silent: bool = False
    down: list[tuple[int, int | None]] = field(default_factory=list)
    """The last `DOWN_KEPT` stretches [from, until) between hard failure and the next boot; until is None while it
    lasts."""
    serviced_ms: int = 0
    codes: list[tuple[int, str, str]] = field(default_factory=list)
    """The `CODES_KEPT` newest faults of the last `CODES_KEPT_MS`: (time, subsystem, code)."""
    patterns: FaultPatterns = field(default_factory=FaultPatterns)
    dues: Dues = field(default_factory=Dues)
    sensors: dict[str, SensorWatch] = field(default_factory=dict)
    """By subsystem, as its gauges are first heard of."""
    usage_days: "array[float]" = field(default_factory=lambda: array("d"))
    """Three numbers for each of the last days: UTC day since the epoch; usage observed and expected over its judged
    hours, in the unit of the usage metric."""

    @classmethod
    def new(cls, entry: Device, model: DeviceModel) -> Self:
        """A device of which nothing was heard yet."""
        panes, last = new_panes(len(model.metrics))
        shape = Shape.of(model)
        return cls(
            entry=entry,
            metrics=shape.metrics,
            panes=panes,
            last=last,
            cadence=Cadence(model.message_interval_s * 1000) if model.message_interval_s else None,
            usage=UsageDrop() if model.metrics else None,
            rules=FaultRules(),
            health={subsystem: SubsystemHealth() for subsystem in shape.subsystems},
            serviced_ms=entry.installed_ms,
        )

    def __getstate__(self) -> tuple[Any, ...]:
        """Plain values and bytes: pickling a device of ten metrics takes a fifth of the time of its attributes."""
        return (
            self.entry,
            "\n".join(f"{name}:{steps}" for name, steps in self.metrics),
            self.panes.tobytes(),
            self.last.tobytes(),
            self.cadence,
            self.usage,
            self.rules,
            self.health,
            self.sequencer.packed(),
            self.held,
            self.watermark_ms,
            self.online,
            self.silent,
            self.down,
            self.serviced_ms,
            self.codes,
            self.patterns,
            self.dues,
            self.sensors,
            self.usage_days.tobytes(),
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        (
            self.entry,
            metrics,
            panes,
            last,
            self.cadence,
            self.usage,
            self.rules,
            health,
            sequencer,
            self.held,
            self.watermark_ms,
            self.online,
            self.silent,
            self.down,
            self.serviced_ms,
            codes,
            self.patterns,
            self.dues,
            self.sensors,
            days,
        ) = state
        self.metrics = _metrics(metrics)
        self.sensors = {intern(subsystem): each for subsystem, each in self.sensors.items()}
        self.panes = np.frombuffer(panes, PANE_DTYPE).reshape(-1, len(RESOLUTIONS_MS)).copy()
        self.last = np.frombuffer(last, LAST_DTYPE).copy()
        self.health = {intern(subsystem): each for subsystem, each in health.items()}
        self.sequencer = Sequencer.unpacked(sequencer)
        self.codes = [(at, intern(part), intern(code)) for at, part, code in codes]
        self.usage_days = array("d", days)

    def fit(self, shape: Shape) -> None:
        """Go on with another version of the catalogue: slots by name, a metric of another resolution begins anew."""
        metrics = shape.metrics
        if metrics != self.metrics:
            panes, last = new_panes(len(metrics))
            to = np.array([metrics.index(each) if each in metrics else -1 for each in self.metrics] + [-1], np.int64)
            kept = to[:-1] >= 0
            panes[to[:-1][kept]], last[to[:-1][kept]] = self.panes[kept], self.last[kept]
            self.held = [replace(message, slots=to[message.slots]) for message in self.held]
            self.panes, self.last, self.metrics = panes, last, metrics
        for subsystem in shape.subsystems:
            self.health.setdefault(subsystem, SubsystemHealth())

    @property
    def down_since_ms(self) -> int | None:
        """When the device stopped working, if it has not booted since."""
        return self.down[-1][0] if self.down and self.down[-1][1] is None else None

    def was_down(self, from_ms: int, until_ms: int) -> bool:
        """Tell whether a hard failure covers part of [from_ms, until_ms)."""
        return any(start < until_ms and (end is None or end > from_ms) for start, end in self.down)

    def codes_since(self, subsystem: str, from_ms: int) -> dict[str, int]:
        """Count the fault codes of a subsystem since `from_ms`."""
        return dict(Counter(code for at_ms, part, code in self.codes if part == subsystem and at_ms >= from_ms))

    def told(self, fault: Fault) -> None:
        """Note a fault."""
        kept = [each for each in self.codes if each[0] > fault.ts_ms - CODES_KEPT_MS]
        self.codes = [*kept, (fault.ts_ms, fault.subsystem, fault.code)][-CODES_KEPT:]

    def failed(self, at_ms: int) -> None:
        """Note a hard failure."""
        if self.down_since_ms is None:
            self.down.append((at_ms, None))
            del self.down[:-DOWN_KEPT]

    def booted(self, at_ms: int) -> bool:
        """Note a new boot; True if it ended a hard failure."""
        since_ms = self.down_since_ms
        if since_ms is None:
            return False
        self.down[-1] = (since_ms, max(at_ms, since_ms))
        self.serviced_ms = max(self.serviced_ms, at_ms)
        return True

    def judged_hour(self, end_ms: int, observed: float, expected: float) -> None:
        """Add a judged hour of usage to its day; days older than `DAYS_KEPT` are dropped."""
        day, days = (end_ms - 1) // DAY_MS, self.usage_days
        place = self._place_of(day)
        if place < 0:
            while days and days[0] < day - DAYS_KEPT:
                del days[:3]
            place = len(days)
            days.extend((day, 0.0, 0.0))
        days[place + 1] += observed
        days[place + 2] += expected

    def usage_of(self, day: int) -> tuple[float, float] | None:
        """Usage of a day, observed and expected; None if none of its hours could be judged."""
        place = self._place_of(day)
        return (self.usage_days[place + 1], self.usage_days[place + 2]) if place >= 0 else None

    def _place_of(self, day: int) -> int:
        return next((i for i in range(len(self.usage_days) - 3, -1, -3) if self.usage_days[i] == day), -1)

    def admit(self, message: DeviceMessage, count: Count) -> Admission:
        """Say what is to be done with a message; a will stands outside the sequence and is always held."""
        if message.kind == "will":
            return "hold"
        return self.sequencer.admit(message.boot, message.seq, message.opening, count)

    def arrived(self, message: DeviceMessage, admission: Admission) -> Iterator[DeviceMessage]:
        """Take a message in that is no duplicate; yield what is to be applied now, in order. The rest is held."""
        if admission == "hold":
            self.held.append(message)
            return
        yield message
        self.sequencer.applied(message.boot, message.seq)
        while (place := self._next_held()) is not None:
            following = self.held.pop(place)
            yield following
            self.sequencer.applied(following.boot, following.seq)

    def _next_held(self) -> int | None:
        return next((i for i, m in enumerate(self.held) if self.sequencer.follows(m.boot, m.seq)), None)

    def release(self, missing: Callable[[int], None]) -> Iterator[DeviceMessage]:
        """Yield what is held, in (boot, seq) order; called at a tick. `missing` is told what is given up by that."""
        waiting = sorted(self.held, key=lambda m: (m.boot, m.seq, m.kind, m.opening or ()))
        self.held.clear()
        for message in waiting:
            yield message
            given_up = self.sequencer.missing(message.boot, message.seq) if message.kind != "will" else 0
            if given_up:
                missing(given_up)
            if message.kind != "will":  # it stands outside the sequence and begins no boot
                self.sequencer.applied(message.boot, message.seq)


@cache
def _metrics(written: str) -> tuple[tuple[str, int], ...]:
    """Metrics as a state has them, of their text in a snapshot: one value for all devices of a model."""
    return tuple((name, int(steps)) for name, _, steps in (each.rpartition(":") for each in written.splitlines()))
