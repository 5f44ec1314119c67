"""What detectors have in common: what they are to River, and what is a number to them."""

from numbers import Real
from typing import Any, TypeGuard

from river import base

LARGEST = 1e30
"""No sensor measures more; squares of it are still numbers."""


class Detector(base.Base):  # type: ignore[misc]  # River publishes no types
    """A River citizen for which River knows no data: it is cloned, pickled and checked like all others."""

    @property
    def _tags(self) -> set[str]:
        """River's words for the data that an estimator can be given: none."""
        return set()


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a value is a number within +-LARGEST; None, NaN, texts and truths are none."""
    if type(value) is float:
        return abs(value) <= LARGEST
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    size: Any = abs(value)
    return bool(size <= LARGEST)
