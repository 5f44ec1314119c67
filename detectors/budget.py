"""Alert budget: the thresholds of all detectors, from what people allow, the same in the whole fleet."""

import math
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import astuple

from detectors.alert_threshold import SCALES, UNKNOWN, Key, Threshold
from detectors.detector import Detector
from schema.catalogue import Allowance

VERSION = "alert_budget/1"
DAY_MS = 86_400_000
UNSAID = Allowance()
"""What is allowed a detector of which the catalogue says nothing."""
_Days = list[tuple[str, tuple[float, float, float], list[int]]]
"""Of each detector: name, allowance, numbers of the day."""
_DAYS = msgspec.msgpack.Decoder(_Days)


class AlertBudget(Detector):
    """The thresholds of all detectors for one device model, the same in the whole fleet.

    Candidates, exposure and judgements are gathered during a day and take effect when `absorb` brings those of all
    partitions: sums of whole numbers, so that neither their order nor the number of partitions shows. Episodes stay
    where the device is. What is allowed comes from the catalogue, by whoever watches such a device, and travels with
    the contributions.

    >>> budget = AlertBudget()
    >>> for day in range(60):
    ...     for device in ("ct-1", "ct-2"):
    ...         _ = budget.observe("usage_drop", (device,), day * DAY_MS, 0.5 if day % 4 == 0 else -9.0)
    ...     budget.watched(2)
    ...     budget.absorb([budget.contribution()])
    >>> budget.threshold("usage_drop") > 0.0
    True
    """

    CONTRIBUTION = 1

    def __init__(self) -> None:
        self.allowances: Mapping[str, Allowance] = {}
        """By detector; `UNSAID` for others."""
        self.thresholds: dict[str, Threshold] = {}

    def allowance(self, detector: str) -> Allowance:
        """What people allow the detector."""
        return self.allowances.get(detector, UNSAID)

    def threshold(self, detector: str) -> float:
        """Log odds at which the detector raises; it moves by `absorb` alone."""
        return self._of(detector).value

    def observe(self, detector: str, key: Key, at_ms: int, odds: float) -> float:
        """Offer a candidate, or say that there is none (low odds); see `Threshold.observe`.

        Every judgement is to be offered, below the threshold too: that is what the lower levels learn from.

        Returns:
            The finding's score, 0.5 at the threshold.
        """
        return self._of(detector).observe(key, at_ms, odds)

    def judged(self, detector: str, key: Key, true: bool) -> None:
        """What became of the alert of a key (see `Threshold.judged`)."""
        if detector in self.thresholds:
            self.thresholds[detector].judged(key, true)

    def left(self, device_id: str) -> None:
        """A device has left: nothing more will come of its episodes."""
        for threshold in self.thresholds.values():
            for known in (threshold.episodes, threshold.over):
                for key in [key for key in known if key[0] == device_id]:
                    del known[key]

    def watched(self, device_days: int) -> None:
        """So many device-days were watched, by every detector that has an allowance and a scale."""
        for detector in sorted(self.allowances.keys() & SCALES.keys() | self.thresholds.keys()):
            self._of(detector).day.watched += device_days

    def contribution(self) -> bytes:
        """What this partition adds for the day that closes; the next one begins. Empty if nothing."""
        days = [
            (detector, astuple(self.allowance(detector)), numbers)
            for detector, each in sorted(self.thresholds.items())
            if any(numbers := each.close_day())
        ]
        return msgspec.msgpack.encode(days) if days else b""

    @staticmethod
    def read(contribution: bytes) -> _Days:
        """What a contribution says; ValueError if it is none."""
        days = _DAYS.decode(contribution)
        for detector, allowance, numbers in days:
            if len(numbers) != Threshold.NUMBERS:
                raise ValueError(f"{len(numbers)} numbers of {detector}, expected {Threshold.NUMBERS}")
            if not all(0 < each < math.inf for each in allowance):
                raise ValueError(f"{detector} is allowed {allowance}, expected numbers above 0")
        return days

    def absorb(self, contributions: Sequence[bytes]) -> None:
        """Take in what all partitions have added for a day, this one too; thresholds move."""
        sums: dict[str, list[int]] = {}
        allowances = dict(self.allowances)
        added = [each for packed in contributions if packed for each in self.read(packed)]
        for detector, allowance, numbers in sorted(added):
            known = sums.setdefault(detector, [0] * len(numbers))
            sums[detector] = [a + b for a, b in zip(known, numbers, strict=True)]
            allowances[detector] = Allowance(*allowance)
        self.allowances = allowances
        for detector in sorted(sums.keys() | self.thresholds.keys()):
            self._of(detector).learn(sums.get(detector), self.allowance(detector))

    def metrics(self) -> Iterator[tuple[str, dict[str, float]]]:
        """For each detector that has had candidates: threshold, budget, expected false alerts, what they rest on."""
        for detector, threshold in sorted(self.thresholds.items()):
            if any(threshold.onsets):
                yield detector, threshold.metrics(self.allowance(detector))

    def _of(self, detector: str) -> Threshold:
        threshold = self.thresholds.get(detector)
        if threshold is None:
            threshold = self.thresholds[detector] = Threshold(SCALES.get(detector, UNKNOWN))
            threshold.begin(self.allowance(detector))
        return threshold
