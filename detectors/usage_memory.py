"""What a usage detector remembers, in little room: a few numbers an hour and a day, and the hypotheses alive."""

import numpy as np

from detectors.usage_counts import Floats
from detectors.usage_filter import AGES, DEAD, HYPOTHESES, ODDS, Singles

_USUAL, _WEEKDAYS, _DOUBTS, _COUNTS, _EXPOSURE = slice(7), slice(7, 14), slice(14, 21), slice(21, 45), slice(45, 69)
_DOUBLES = 69
_DAYS = 3 * AGES
_RECENT, _HOURS = slice(_DAYS), slice(_DAYS, _DAYS + 168)
_POOLED, _WATCHED = slice(_DAYS + 168, _DAYS + 192), slice(_DAYS + 192, _DAYS + 216)
_SINGLES = _DAYS + 216
"""Places among the numbers of double and of single precision."""
_BITS = AGES * HYPOTHESES // 8


def packed(hypotheses: Singles) -> bytes:
    """Which of the hypotheses (AGES, HYPOTHESES, 4) are alive, as bits, and what is known of those."""
    alive = hypotheses[:, :, ODDS] > DEAD
    return np.packbits(alive).tobytes() + hypotheses[alive].tobytes()


def unpacked(written: bytes) -> Singles:
    """Return the hypotheses that `packed` has written."""
    hypotheses = np.full((AGES, HYPOTHESES, 4), DEAD, np.float32)
    alive = np.unpackbits(np.frombuffer(written[:_BITS], np.uint8)).reshape(AGES, HYPOTHESES).astype(bool)
    hypotheses[alive] = np.frombuffer(written[_BITS:], np.float32).reshape(-1, 4)
    return hypotheses


class UsageMemory:
    """Two arrays, for nine would take 1.3 kB more a device; each name is a view of its part."""

    __slots__ = ("doubles", "hypotheses", "singles")

    def __init__(self) -> None:
        self.singles: Singles = np.zeros(_SINGLES, np.float32)
        self.doubles: Floats = np.zeros(_DOUBLES)
        self.hypotheses = bytes(_BITS)
        """What may have begun, `packed`: it is looked at once a day, and most of it is dead."""

    @property
    def usual(self) -> Floats:
        """(7,) what is known if nothing has happened (see `detectors.usage_filter`)."""
        return self.doubles[_USUAL]

    @property
    def weekdays(self) -> Floats:
        """(7,) log worth of the weekdays, Monday first."""
        return self.doubles[_WEEKDAYS]

    @property
    def doubts(self) -> Floats:
        """(7,) variances of `weekdays`."""
        return self.doubles[_DOUBTS]

    @property
    def counts(self) -> Floats:
        """(24,) use in the hours of the running day."""
        return self.doubles[_COUNTS]

    @property
    def exposure(self) -> Floats:
        """(24,) part of each hour of the running day that could be watched."""
        return self.doubles[_EXPOSURE]

    @property
    def recent(self) -> Singles:
        """(AGES, 3) last judged days, newest first: day, use, share of the level usual for what was judged."""
        return self.singles[_RECENT].reshape(AGES, 3)

    @property
    def hours(self) -> Singles:
        """(7, 24) what is known of the hours of each weekday."""
        return self.singles[_HOURS].reshape(7, 24)

    @property
    def pooled(self) -> Singles:
        """(24,) the same of all days."""
        return self.singles[_POOLED]

    @property
    def watched(self) -> Singles:
        """(24,) for how many days each hour could be watched."""
        return self.singles[_WATCHED]
