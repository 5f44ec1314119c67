"""Announcement threshold: how sure is sure enough, learned from what became of earlier announcements."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import msgspec

from detectors.detector import Detector
from schema.catalogue import Allowance

VERSION = "announcement/2"
DAY_MS = 86_400_000
MONTH_DAYS = 30
COSTS_ALONE = Allowance(false_alerts_per_device_month=math.inf)
"""Where nobody has said what is allowed: a needless visit costs what a prevented outage is worth, and that decides."""
GRID = tuple(-2.5 + 0.25 * i for i in range(17))
"""Thresholds that are played through: probabilities 0.08 to 0.82."""


Key = tuple[str, ...]
"""Device and subsystem."""


class _Standing(msgspec.Struct):
    up: int
    """How many thresholds of the grid stand announced: the lowest `up` ones."""
    low_ms: int
    """Since when the odds have been too low for some of them; -1 while they are not."""


class _Record(msgspec.Struct, array_like=True):
    """What is known of the announcements about one device model."""

    device_days: float = 0
    """Watched so far."""
    came_false: list[float] = msgspec.field(default_factory=lambda: [0] * len(GRID))
    came_true: list[float] = msgspec.field(default_factory=lambda: [0] * len(GRID))

    def count(self, begun: tuple[int, int], came_true: bool) -> None:
        counts = self.came_true if came_true else self.came_false
        for place in range(*begun):
            counts[place] += 1

    def add(self, other: "_Record") -> None:
        self.device_days += other.device_days
        for place in range(len(GRID)):
            self.came_false[place] += other.came_false[place]
            self.came_true[place] += other.came_true[place]

    def fade(self, share: float) -> None:
        self.device_days *= share
        self.came_false = [share * count for count in self.came_false]
        self.came_true = [share * count for count in self.came_true]


_Days = list[tuple[str, _Record]]
"""By device model."""
_DAYS = msgspec.msgpack.Decoder(_Days)


class AnnouncementThreshold(Detector):
    """Plays through what each of a grid of thresholds would have announced, and chooses by what people allow.

    For each threshold g (log odds) an announcement about a key begins when its odds reach g and ends when they have
    been below g - RESOLVE for KEEP_MS: the hysteresis of the alerts. It is counted when it is known whether it came
    true. The threshold of a device model maximises, with PRICE = cost of a false alert / cost of a miss and over the
    announcements about all models,

        came_true(g) - PRICE x came_false(g) - CAUTION x (g - START - log PRICE)^2

    so announcements are made while one more is right with a probability of at least PRICE / (1 + PRICE), but only from
    thresholds at which the model's false ones keep the budget, by Gamma priors from the fleet and from the budget:

        rate(g) = (came_false of the model + MONTHS x fleet(g)) / (months of the model + MONTHS),
        fleet(g) = (came_false + PRIOR x exp(START - g)) / (months + PRIOR / (SHARE x budget)).

    CAUTION keeps the threshold near its start until some ten announcements speak against it. Where nothing was watched
    (`device_days`) costs alone decide.

    * Range: log odds within GRID. Warm-up: none, it starts at START + log PRICE.
    * Memory: two sums a threshold for each model, two numbers a key that stands announced for some threshold.
    * Source: Provost and Fawcett (2001), Robust classification for imprecise environments, Machine Learning 42, on
      choosing the operating point by costs; judged prequentially as in Gama et al. (2013).

    >>> threshold = AnnouncementThreshold()
    >>> for day in range(40):
    ...     begun = threshold.observe(("ct-1", "tube"), 2 * day * DAY_MS, -1.0)
    ...     threshold.verdict("ct", begun, came_true=False)
    ...     _ = threshold.observe(("ct-1", "tube"), (2 * day + 1) * DAY_MS, -9.0)
    >>> threshold.value("ct") > -1.0
    True
    """

    START = -0.5
    CAUTION = 8.0
    RESOLVE = math.log(3)
    """On the scale of scores: raised at 0.5, resolved below 0.25."""
    KEEP_MS = DAY_MS
    PRIOR = 3.0
    """False announcements that the first belief of the rate is worth."""
    SHARE = 0.7
    """So much of the budget is believed to be used at START."""
    MONTHS = 20.0
    """Device-months after which a model's rate is as much its own as the fleet's."""

    def __init__(self) -> None:
        self.records: dict[str, _Record] = {}
        """By device model."""
        self.allowances: dict[str, Allowance] = {}
        """What people allow, by device model; `COSTS_ALONE` for others."""
        self.standing: dict[Key, _Standing] = {}
        self._values: dict[str, float] = {}

    def allow(self, model: str, allowance: Allowance) -> None:
        """Say what people allow for a device model."""
        if self.allowances.get(model) != allowance:
            self.allowances[model] = allowance
            self._values.pop(model, None)

    def value(self, model: str) -> float:
        """Log odds at which to announce failures of a model's devices."""
        if model not in self._values:
            self._values[model] = GRID[self._choice(model)]
        return self._values[model]

    def left(self, device_id: str) -> None:
        """A device has left: nothing stands announced of it."""
        for key in [key for key in self.standing if key[0] == device_id]:
            del self.standing[key]

    def observe(self, key: Key, at_ms: int, odds: float) -> tuple[int, int]:
        """Log odds of a key at a time (rising): half-open range of thresholds at which an announcement begins."""
        level = bisect_right(GRID, odds)
        standing = self.standing.get(key)
        if standing is None:
            if not level:
                return 0, 0
            self.standing[key] = _Standing(level, -1)
            return 0, level
        before = standing.up
        still = bisect_right(GRID, odds + self.RESOLVE)
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

    def verdict(self, model: str, begun: tuple[int, int], came_true: bool) -> None:
        """What became of the announcements about a device of the model that `observe` returned."""
        if begun[0] < begun[1]:
            self.records.setdefault(model, _Record()).count(begun, came_true)
            self._values.clear()

    def rates(self, model: str) -> list[float]:
        """False announcements of the model a device-month expected at each threshold of GRID; empty if unknown."""
        budget = self.allowances.get(model, COSTS_ALONE).false_alerts_per_device_month
        whole, own = self._whole(), self.records.get(model, _Record())
        if not whole.device_days:
            return []
        rates = []
        for threshold, of_all, of_model in zip(GRID, whole.came_false, own.came_false, strict=True):
            prior = self.PRIOR * math.exp(self.START - threshold)
            fleet = (of_all + prior) / (whole.device_days / MONTH_DAYS + self.PRIOR / (self.SHARE * budget))
            rates.append((of_model + self.MONTHS * fleet) / (own.device_days / MONTH_DAYS + self.MONTHS))
        return rates

    def record(self) -> tuple[float, float]:
        """Announcements made at the thresholds in use, and how many of them came true."""
        used = [(each, GRID.index(self.value(model))) for model, each in self.records.items()]
        true = math.fsum(each.came_true[place] for each, place in used)
        return true + math.fsum(each.came_false[place] for each, place in used), true

    def metrics(self) -> Iterator[tuple[str, dict[str, float]]]:
        """For each model of which something is allowed: its threshold, what it costs and may cost."""
        for model, allowance in sorted(self.allowances.items()):
            threshold, rates = self.value(model), self.rates(model)
            figures = {"threshold": threshold, "probability": 1 / (1 + math.exp(-threshold))}
            if rates:
                figures |= {
                    "expected_false": rates[GRID.index(threshold)],
                    "budget": allowance.false_alerts_per_device_month,
                    "device_months": self.records.get(model, _Record()).device_days / MONTH_DAYS,
                }
            yield model, figures

    def _whole(self) -> _Record:
        whole = _Record()
        for _, each in sorted(self.records.items()):
            whole.add(each)
        return whole

    def _choice(self, model: str) -> int:
        allowance = self.allowances.get(model, COSTS_ALONE)
        price = allowance.cost_of_false / allowance.cost_of_miss
        start, whole = self.START + math.log(price), self._whole()

        def worth(place: int) -> float:
            earned = whole.came_true[place] - price * whole.came_false[place]
            return earned - self.CAUTION * (GRID[place] - start) ** 2

        most = allowance.false_alerts_per_device_month
        rates = self.rates(model) or [0.0] * len(GRID)
        within = [place for place, rate in enumerate(rates) if rate <= most]
        return max(within, key=worth, default=len(GRID) - 1)


class FleetAnnouncements(AnnouncementThreshold):
    """The same, taught by what became of the announcements of all partitions alike (a `FleetModel`)."""

    CONTRIBUTION = 1
    FADE = 0.5 ** (1 / 180)
    """What a day leaves of what is known: half a year counts half."""

    def __init__(self) -> None:
        super().__init__()
        self.day: dict[str, _Record] = {}
        """What the partition adds to the records, in whole numbers."""

    def watched(self, model: str, device_days: int) -> None:
        """So many days of the model's devices were watched."""
        self.day.setdefault(model, _Record()).device_days += device_days

    def verdict(self, model: str, begun: tuple[int, int], came_true: bool) -> None:
        """See `AnnouncementThreshold`; it counts when the day is shared."""
        if begun[0] < begun[1]:
            self.day.setdefault(model, _Record()).count(begun, came_true)

    def contribution(self) -> bytes:
        """What became known on the day that closes; the next one begins. Empty if nothing."""
        day, self.day = self.day, {}
        return msgspec.msgpack.encode(sorted(day.items())) if day else b""

    @staticmethod
    def read(contribution: bytes) -> _Days:
        """What a contribution says; ValueError if it is none."""
        days = _DAYS.decode(contribution)
        for model, added in days:
            if not len(added.came_false) == len(added.came_true) == len(GRID):
                raise ValueError(f"{model}: announcements at other thresholds than {len(GRID)}")
        return days

    def absorb(self, contributions: Sequence[bytes]) -> None:
        """Take in a day of all partitions: sums of whole numbers, so their order does not show."""
        said = [each for packed in contributions if packed for each in self.read(packed)]
        for each in self.records.values():
            each.fade(self.FADE)
        day: dict[str, _Record] = {}
        for model, added in said:
            day.setdefault(model, _Record()).add(added)
        for model, added in sorted(day.items()):
            self.records.setdefault(model, _Record()).add(added)
        self._values.clear()
