"""Reliability: whether what was called 30 % comes true in three of ten cases."""

from bisect import bisect_right

EDGES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Lower bounds of the bins, narrow where most judgements of rare failures are."""


class Reliability:
    """Sums by bin of the probability, until they are taken away; sums of days and partitions may be added up.

    Source: DeGroot and Fienberg (1983), The comparison and evaluation of forecasters, The Statistician 32.
    """

    __slots__ = ("sums",)

    def __init__(self) -> None:
        self.sums: dict[int, list[float]] = {}

    def add(self, probability: float, happened: bool, weight: float) -> None:
        """Add a judgement with a known outcome that stands for `weight` judgements."""
        sums = self.sums.setdefault(bisect_right(EDGES, probability) - 1, [0.0, 0.0, 0.0])
        sums[0] += weight
        sums[1] += weight * probability
        sums[2] += weight * happened

    def take(self) -> dict[str, float]:
        """Take what was added, as metrics: `reliability_30_judged`, `_foretold`, `_happened` of the bin from 30 %."""
        taken = {
            f"reliability_{round(100 * EDGES[place]):02}_{what}": value
            for place, sums in sorted(self.sums.items())
            for what, value in zip(("judged", "foretold", "happened"), sums, strict=True)
        }
        self.sums = {}
        return taken
