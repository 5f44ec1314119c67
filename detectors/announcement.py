"""Announcement threshold: how sure is sure enough, learned from what became of earlier announcements."""

import math
from bisect import bisect_right
from collections.abc import Hashable, Sequence

import msgspec
from river import base

VERSION = "announcement/1"
DAY_MS = 86_400_000
_TALLIES = msgspec.msgpack.Decoder(list[list[int]])


class _Standing(msgspec.Struct):
    up: int
    """How many thresholds of the grid stand announced: the lowest `up` ones."""
    low_ms: int
    """Since when the odds have been too low for some of them; -1 while they are not."""


class AnnouncementThreshold(base.Base):  # type: ignore[misc]  # River publishes no types
    """Plays through what each of a grid of thresholds would have announced, and uses the one that served best.

    For each threshold g (log odds) an announcement about a key begins when its odds reach g and ends when they have
    been below g - RESOLVE for KEEP_MS: the hysteresis of the alerts. When it is known whether it came true, g is
    credited 1 or charged PRICE. The threshold in use maximises

        credit(g) - PRICE x charges(g) - CAUTION x (g - START)^2

    so announcements are made while one more is right with a probability of at least PRICE / (1 + PRICE): the budget
    that people state. CAUTION keeps the threshold near START until some ten announcements speak against it.

    * Range: log odds within the grid. Warm-up: none, it starts at START.
    * Memory: two sums a threshold, two numbers a key that stands announced for some threshold.
    * Source: Provost and Fawcett (2001), Robust classification for imprecise environments, Machine Learning 42, on
      choosing the operating point by costs; judged prequentially as in Gama et al. (2013).

    >>> threshold = AnnouncementThreshold()
    >>> for day in range(40):
    ...     begun = threshold.observe(("ct-1", "tube"), 2 * day * DAY_MS, -1.0)
    ...     threshold.verdict(begun, came_true=False)
    ...     _ = threshold.observe(("ct-1", "tube"), (2 * day + 1) * DAY_MS, -9.0)
    >>> threshold.value > -1.0
    True
    """

    GRID = tuple(-2.5 + 0.25 * i for i in range(17))
    """Probabilities 0.08 to 0.82."""
    START = -0.5
    PRICE = 1.0
    """A needless visit costs what a prevented outage is worth: at least half of the announcements are to be right."""
    CAUTION = 8.0
    RESOLVE = math.log(3)
    """On the scale of scores: raised at 0.5, resolved below 0.25."""
    KEEP_MS = DAY_MS

    def __init__(self) -> None:
        self.came_true = [0.0] * len(self.GRID)
        self.came_false = [0.0] * len(self.GRID)
        self.standing: dict[Hashable, _Standing] = {}
        self.value = self.START
        """Log odds at which to announce."""

    def observe(self, key: Hashable, at_ms: int, odds: float) -> tuple[int, int]:
        """Log odds of a key at a time (rising): half-open range of thresholds at which an announcement begins."""
        level = bisect_right(self.GRID, odds)
        standing = self.standing.get(key)
        if standing is None:
            if not level:
                return 0, 0
            self.standing[key] = _Standing(level, -1)
            return 0, level
        before = standing.up
        still = bisect_right(self.GRID, odds + self.RESOLVE)
        if still >= before:
            standing.low_ms = -1
        elif standing.low_ms < 0:
            standing.low_ms = at_ms
        elif at_ms - standing.low_ms >= self.KEEP_MS:
            standing.up, standing.low_ms = still, -1
            if not still:
                del self.standing[key]
            return 0, 0
        if level <= before:
            return 0, 0
        standing.up = level
        return before, level

    def verdict(self, begun: tuple[int, int], came_true: bool) -> None:
        """What became of the announcements that `observe` returned."""
        tally = self.came_true if came_true else self.came_false
        for place in range(*begun):
            tally[place] += 1
        if begun[0] < begun[1]:
            self.value = max(self.GRID, key=self._worth)

    def record(self) -> tuple[float, float]:
        """Announcements made at the threshold in use, and how many of them came true."""
        place = self.GRID.index(self.value)
        return self.came_true[place] + self.came_false[place], self.came_true[place]

    def _worth(self, threshold: float) -> float:
        place = self.GRID.index(threshold)
        earned = self.came_true[place] - self.PRICE * self.came_false[place]
        return earned - self.CAUTION * (threshold - self.START) ** 2


class FleetAnnouncements(AnnouncementThreshold):
    """The same, taught by what became of the announcements of all partitions alike (a `FleetModel`)."""

    def __init__(self) -> None:
        super().__init__()
        self.gathered = [[0] * len(self.GRID), [0] * len(self.GRID)]
        """Announcements of the day by threshold, those that came false and those that came true."""

    def verdict(self, begun: tuple[int, int], came_true: bool) -> None:
        """See `AnnouncementThreshold`; it counts when the day is shared."""
        for place in range(*begun):
            self.gathered[came_true][place] += 1

    def contribution(self) -> bytes:
        """What became known on the day that closes; the next one begins."""
        gathered, self.gathered = self.gathered, [[0] * len(self.GRID), [0] * len(self.GRID)]
        return msgspec.msgpack.encode(gathered) if any(map(any, gathered)) else b""

    def absorb(self, contributions: Sequence[bytes]) -> None:
        """Take in a day of all partitions: sums of whole numbers, so their order does not show."""
        for added in contributions:
            for tally, counts in zip((self.came_false, self.came_true), _TALLIES.decode(added), strict=True):
                for place, count in enumerate(counts):
                    tally[place] += count
        self.value = max(self.GRID, key=self._worth)
