"""What is usual for devices of one model, by those that are known well: where a new device begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from detectors.usage_day import SUSPECT

if TYPE_CHECKING:
    from detectors.usage_drop import UsageDrop

Floats = npt.NDArray[np.float64]

STEPS = 1 << 20
"""Sums are kept in whole steps of 1 / STEPS, so no order of adding can show."""
_LEVEL, _WEEKDAYS, _SPREAD, _HOURS = 0, slice(1, 8), 8, slice(9, 177)
FIGURES = 177
"""Of a device: log level, log worth of the weekdays, variance of days, shares of the hours of each weekday."""
SQUARES = 8
"""The first of them, level and weekdays, are compared: their squares are summed too."""


@dataclass(frozen=True)
class UsagePrior:
    """What a device is like before anything is known of it itself."""

    level: float
    """Log of the use of a day, and its variance between devices."""
    level_variance: float
    weekdays: Floats
    """(7,) log worth, Monday first, 0 on average, and its variance between devices."""
    doubts: Floats
    hours: Floats
    """(7, 24) shares of the hours in a weekday's use."""
    spread: float
    """Variance of single days' log rates."""


class UsageFleet:
    """Sums over the devices of a model that are known well; a `FleetModel` (see `streams.fleet`).

    Each day every partition contributes the sums over its own devices; what is absorbed are the sums over all, which
    take the place of those of the day before. The customer's own devices move the prior: a hospital that works on
    Saturdays does so with all its machines.

    * Memory: 2 kB a device model.
    """

    LEAST_DEVICES = 3
    """As many must be known well before anything is said."""
    PRIOR_DEVICES = 3.0
    """As how many devices the variances count that are assumed before."""
    LEVELS_DIFFER, WEEKDAYS_DIFFER = 1.0, 0.1
    """Variances between devices of log levels and of weekdays, as assumed."""
    OWN_DEVICES = 2.0
    """Other devices of the customer after which their way weighs as much as the fleet's."""

    CONTRIBUTION = 1
    NUMBERS = 1 + FIGURES + SQUARES
    """Devices, sums of figures, sums of squares."""

    def __init__(self) -> None:
        self.gathered = np.zeros(self.NUMBERS, np.int64)
        self.sums = np.zeros(self.NUMBERS, np.int64)

    def add(self, usage: "UsageDrop") -> None:
        """Count a device in for the day that closes, if it is known well."""
        figures = figures_of(usage)
        if figures is not None:
            self.gathered[0] += 1
            self.gathered[1:] += np.rint(STEPS * np.append(figures, figures[:SQUARES] ** 2)).astype(np.int64)

    def contribution(self) -> bytes:
        """Return the sums of the day that closes, and begin the next."""
        gathered, self.gathered = self.gathered, np.zeros_like(self.gathered)
        return gathered.astype("<i8").tobytes() if gathered[0] else b""

    @staticmethod
    def read(contribution: bytes) -> npt.NDArray[np.int64]:
        """What a contribution says, (NUMBERS,); ValueError if it is none."""
        sums = np.frombuffer(contribution, "<i8")
        if len(sums) != UsageFleet.NUMBERS or sums[0] <= 0:
            raise ValueError(f"{len(sums)} sums, expected {UsageFleet.NUMBERS} of some devices")
        return sums

    def absorb(self, contributions: Sequence[bytes]) -> None:
        """Take the sums of all partitions for those of the fleet."""
        self.sums = np.sum([self.read(each) for each in contributions], axis=0, dtype=np.int64)

    def deviation(self, usage: "UsageDrop") -> Floats | None:
        """How a device differs from the fleet: log level and weekdays (8,); None if one of them is not known."""
        if self.sums[0] < self.LEAST_DEVICES or not _is_known(usage):
            return None
        own: Floats = np.append(usage.level, usage.weekdays)
        return own - self.sums[1 : 1 + SQUARES] / (STEPS * self.sums[0])  # type: ignore[no-any-return]

    def prior(self, deviations: Floats | None = None, devices: int = 0) -> UsagePrior | None:
        """Return where a new device begins; None while too few are known.

        `deviations` (8,) is the sum of `deviation` over `devices` other devices of its customer, of any model.
        """
        n = int(self.sums[0])
        if n < self.LEAST_DEVICES:
            return None
        means = self.sums[1 : 1 + FIGURES] / (STEPS * n)
        squares = self.sums[1 + FIGURES :] / STEPS - n * means[:SQUARES] ** 2
        assumed = np.full(SQUARES, self.WEEKDAYS_DIFFER)
        assumed[0] = self.LEVELS_DIFFER
        between = (np.maximum(squares, 0) + self.PRIOR_DEVICES * assumed) / (n - 1 + self.PRIOR_DEVICES)
        own = means[:SQUARES].copy()
        if deviations is not None:
            own += deviations / (devices + self.OWN_DEVICES)
        return UsagePrior(
            level=float(own[_LEVEL]),
            level_variance=float(between[_LEVEL]),
            weekdays=own[_WEEKDAYS] - own[_WEEKDAYS].mean(),
            doubts=between[_WEEKDAYS],
            hours=means[_HOURS].reshape(7, 24),
            spread=float(means[_SPREAD]),
        )


def figures_of(usage: Any) -> Floats | None:
    """Figures (FIGURES,) of a device that is known well and used as usual; None of any other."""
    if not _is_known(usage):
        return None
    return np.concatenate(([usage.level], usage.weekdays, [usage.spread], usage.shares().ravel()))


def _is_known(usage: Any) -> bool:
    return usage.days >= 2 * usage.LEARNING_DAYS and usage.judgement.belief < SUSPECT  # type: ignore[no-any-return]
