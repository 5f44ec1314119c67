"""What a partition knows about one device, and what a message does to it alone."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from detectors.fault_rules import FaultRules
from detectors.silence import Cadence
from detectors.subsystem_health import SubsystemHealth
from detectors.usage_drop import UsageDrop
from schema.catalogue import DeviceModel
from schema.messages import Fault, MessageKind
from schema.registry import Device
from streams.panes import DAY_MS, NEVER, new_panes
from streams.sequence import Sequencer

DAYS_KEPT = 10


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


@dataclass(slots=True)
class UsageDay:
    """Usage of one UTC day over its judged hours, in the unit of the usage metric."""

    observed: float = 0.0
    expected: float = 0.0


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
    down: deque[tuple[int, int | None]] = field(default_factory=lambda: deque(maxlen=8))
    """Stretches [from, until) between hard failure and the next boot, newest last; until is None while it lasts."""
    serviced_ms: int = 0
    codes: deque[tuple[int, str, str]] = field(default_factory=lambda: deque(maxlen=64))
    """The newest faults: (time, subsystem, code)."""
    usage_days: dict[int, UsageDay] = field(default_factory=dict)

    @classmethod
    def new(cls, entry: Device, model: DeviceModel) -> Self:
        """A device of which nothing was heard yet."""
        panes, last = new_panes(len(model.metrics))
        return cls(
            entry=entry,
            metrics=_metrics(model),
            panes=panes,
            last=last,
            cadence=Cadence(model.message_interval_s * 1000) if model.message_interval_s else None,
            usage=UsageDrop() if model.metrics else None,
            rules=FaultRules(),
            health={subsystem: SubsystemHealth() for subsystem in _subsystems(model)},
            serviced_ms=entry.installed_ms,
        )

    def fit(self, model: DeviceModel) -> None:
        """Go on with another version of the catalogue: slots by name, a metric of another resolution begins anew."""
        metrics = _metrics(model)
        if metrics != self.metrics:
            panes, last = new_panes(len(metrics))
            to = np.array([metrics.index(each) if each in metrics else -1 for each in self.metrics] + [-1], np.int64)
            kept = to[:-1] >= 0
            panes[to[:-1][kept]], last[to[:-1][kept]] = self.panes[kept], self.last[kept]
            self.held = [replace(message, slots=to[message.slots]) for message in self.held]
            self.panes, self.last, self.metrics = panes, last, metrics
        for subsystem in _subsystems(model):
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

    def failed(self, at_ms: int) -> None:
        """Note a hard failure."""
        if self.down_since_ms is None:
            self.down.append((at_ms, None))

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
        day = (end_ms - 1) // DAY_MS
        usage = self.usage_days.get(day)
        if usage is None:
            usage = self.usage_days[day] = UsageDay()
            for old in [each for each in self.usage_days if each < day - DAYS_KEPT]:
                del self.usage_days[old]
        usage.observed += observed
        usage.expected += expected

    def arrived(self, message: DeviceMessage) -> Iterator[DeviceMessage]:
        """Take a message in; yield what is to be applied now, in order. The rest is held; a duplicate vanishes."""
        match "hold" if message.kind == "will" else self.sequencer.admit(message.boot, message.seq):
            case "duplicate":
                return
            case "hold":
                self.held.append(message)
                return
        yield message
        self.sequencer.applied(message.boot, message.seq)
        while following := next((m for m in self.held if self.sequencer.follows(m.boot, m.seq)), None):
            self.held.remove(following)
            yield following
            self.sequencer.applied(following.boot, following.seq)

    def release(self) -> Iterator[DeviceMessage]:
        """Yield what is held, in (boot, seq) order; called at a tick."""
        waiting = sorted(self.held, key=lambda m: (m.boot, m.seq, m.kind))
        self.held.clear()
        for message in waiting:
            yield message
            if message.kind != "will":  # it stands outside the sequence and begins no boot
                self.sequencer.applied(message.boot, message.seq)


def _metrics(model: DeviceModel) -> tuple[tuple[str, int], ...]:
    return tuple((name, metric.steps_per_unit) for name, metric in model.metrics.items())


def _subsystems(model: DeviceModel) -> list[str]:
    return sorted({fault.subsystem for fault in model.faults.values() if fault.stops_device})
