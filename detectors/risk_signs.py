"""What is known of a subsystem when its risk is judged, packed; and a judgement whose outcome is known."""

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from detectors.detector import LARGEST
from detectors.risk_crosses import CAP_H, SparseCrosses

SINCE = "since "
"""Columns that begin so are hours since something happened."""

Names = tuple[str, ...]


class Signs(msgspec.Struct, frozen=True, order=True, gc=False):
    """Signs of one subsystem at one time."""

    names: Names
    """Of the columns; one and the same tuple for all judgements that have the same."""
    values: bytes
    """(columns,) float32: features, and log(1 + hours) of what begins with `SINCE`; NaN where unknown or no number."""
    ages: bytes
    """(T,) int64, see `SparseCrosses.tokens`."""

    @classmethod
    def of(cls, features: Mapping[str, float], ages_h: Mapping[str, float], known: dict[Names, Names]) -> "Signs":
        """Signs of features and of hours since things happened, by their full names; `known` keeps names once."""
        names = (*features, *ages_h)
        logs_of_ages = (math.log1p(min(max(age, 0.0), CAP_H)) for age in ages_h.values())
        values = np.array([*features.values(), *logs_of_ages], np.float64)
        values[np.abs(values) > LARGEST] = math.nan
        tokens = SparseCrosses.tokens(ages_h)
        return cls(known.setdefault(names, names), values.astype(np.float32).tobytes(), tokens.tobytes())

    def by_name(self) -> dict[str, float]:
        """Values by name, as they are in `values`."""
        return dict(zip(self.names, np.frombuffer(self.values, np.float32).tolist(), strict=True))


class Labelled(msgspec.Struct, frozen=True, order=True, gc=False):
    """A judgement and what became of it; sorted in the order in which it is learned."""

    at_ms: int
    device_id: str
    subsystem: str
    model: str
    """Of the device."""
    signs: Signs
    odds: tuple[float, ...]
    """Log odds that each expert gave it when it was made."""
    weight: float
    """How many judgements it stands for."""
    happened: bool

    def check(self, experts: int) -> None:
        """Raise ValueError if it is not as a partition makes it: so many odds, a value for each name."""
        signs = self.signs
        if len(self.odds) != experts or not 0 < self.weight < math.inf:
            raise ValueError(f"{len(self.odds)} odds and a weight of {self.weight}, expected {experts} and more than 0")
        if len(signs.values) != 4 * len(signs.names) or len(signs.ages) % 8:
            raise ValueError(f"{len(signs.values)} bytes of {len(signs.names)} values and {len(signs.ages)} of ages")
