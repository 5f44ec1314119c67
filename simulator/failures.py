"""When devices fail, and the signs before it: real precursors, false ones, and failures without any.

At full size 48 failures fall into each half of eight weeks; one in six has no precursor, and for every two precursors
that end in a failure one comes to nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schema.catalogue import Catalogue, DeviceModel
from simulator.fleet import DAY_MS, Fleet, Machine
from simulator.plan import HOUR_MS, Course
from simulator.randomness import stream
from simulator.truth import Failure, FalsePrecursor

_BLOCK = 25
_PER_BLOCK = 8
_FALSE_PER_BLOCK = 4
_PER_DEVICE_DAY = _PER_BLOCK / (_BLOCK * 28)
_WITHOUT_SIGNS = 6
_GAP_MS = 2 * DAY_MS


@dataclass(frozen=True, slots=True)
class Stress:
    """Signs of trouble in one subsystem: rising from `from_ms` as if a failure came at `full_ms`.

    Real ones reach it and last until `until_ms`, the repair. False ones turn at `peak_ms` and are gone at `until_ms`.
    """

    subsystem: str
    from_ms: int
    full_ms: int
    peak_ms: int
    until_ms: int
    shows: bool
    """False for a failure without any sign: only the stop itself."""

    def level(self, at_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Strength in [0, 1] at each instant."""
        if not self.shows:
            return np.zeros(at_ms.shape)
        rise = np.clip((at_ms - self.from_ms) / (self.full_ms - self.from_ms), 0, 1)
        if self.peak_ms < self.full_ms:
            peak = (self.peak_ms - self.from_ms) / (self.full_ms - self.from_ms)
            fade = np.clip((self.until_ms - at_ms) / (self.until_ms - self.peak_ms), 0, 1)
            rise = np.where(at_ms >= self.peak_ms, peak * fade, rise)
        return np.where((at_ms >= self.from_ms) & (at_ms < self.until_ms), rise, 0.0)


@dataclass(frozen=True, slots=True)
class Troubles:
    """All failures and false precursors, and the course of the signs by device."""

    failures: tuple[Failure, ...]
    false_precursors: tuple[FalsePrecursor, ...]
    stresses: dict[str, tuple[Stress, ...]]


def plan_troubles(seed: int, fleet: Fleet, course: Course, catalogue: Catalogue, start_ms: int, days: int) -> Troubles:
    """Place the failures and false precursors of the whole run."""
    planner = _Planner(seed, fleet, course, catalogue, start_ms, days)
    for block in range(-(-len(fleet.machines) // _BLOCK)):
        for half in (0, 1):
            planner.fill(block, half)
    return planner.troubles()


class _Planner:
    """Places troubles so that none overlap on a device or fall into its dark times.

    A block of devices is planned as if it were complete: a device that is added later changes nothing for the others.
    """

    def __init__(self, seed: int, fleet: Fleet, course: Course, catalogue: Catalogue, start_ms: int, days: int) -> None:
        self._seed = seed
        self._fleet = fleet
        self._catalogue = catalogue
        self._start_ms = start_ms
        self._half_ms = days * DAY_MS // 2
        self._offset = int(stream(seed, "failure").integers(_WITHOUT_SIGNS))
        self._busy: dict[str, list[tuple[int, int]]] = {}
        for outage in course.outages:
            self._busy.setdefault(outage.site_id, []).append((outage.from_ms, outage.until_ms))
        for works in course.maintenances:
            self._busy.setdefault(works.site_id, []).append((works.from_ms, works.until_ms))
        self._unused_ms = {
            fact.customer_id: fact.onset_ms for fact in course.churn if fact.kind in ("stop", "withdrawn")
        }
        self._failures: list[Failure] = []
        self._false: list[FalsePrecursor] = []
        self._stresses: dict[str, list[Stress]] = {}

    def fill(self, block: int, half: int) -> None:
        """Place everything of one block in one half of the run."""
        expected = _PER_DEVICE_DAY * _BLOCK * self._half_ms / DAY_MS
        rng = stream(self._seed, "troubles", block, half)
        failing = max(1, int(expected + rng.random()))
        false = max(1, int(expected * (1 - 1 / _WITHOUT_SIGNS) / 2 + rng.random()))
        for nth in range(failing):
            rng = stream(self._seed, "failure", block, half, nth)
            number = (block * 2 + half) * failing + nth
            has_signs = (number + self._offset) % _WITHOUT_SIGNS != 0
            for machine in self._candidates(rng, block, nth, _PER_BLOCK):
                if self._place_failure(machine, half, has_signs, rng):
                    break
        for nth in range(false):
            rng = stream(self._seed, "false precursor", block, half, nth)
            for machine in self._candidates(rng, block, nth, _FALSE_PER_BLOCK):
                if self._place_false_precursor(machine, half, rng):
                    break

    def troubles(self) -> Troubles:
        """What was placed, in order of time."""
        return Troubles(
            tuple(sorted(self._failures, key=lambda fact: (fact.at_ms, fact.device_id))),
            tuple(sorted(self._false, key=lambda fact: (fact.from_ms, fact.device_id))),
            {device_id: tuple(found) for device_id, found in self._stresses.items()},
        )

    def _candidates(self, rng: np.random.Generator, block: int, nth: int, strata: int) -> Iterator[Machine]:
        """Devices of the block to try, those of the `nth` stratum first; none if the first choice does not exist."""
        edges = (np.arange(strata + 1) * _BLOCK) // strata
        own = np.arange(edges[nth % strata], edges[nth % strata + 1])
        others = np.setdiff1d(np.arange(_BLOCK), own)
        for position, slot in enumerate(np.concatenate([rng.permutation(own), rng.permutation(others)])):
            index = block * _BLOCK + int(slot)
            if index < len(self._fleet.machines):
                yield self._fleet.machines[index]
            elif position == 0:
                return

    def _place_failure(self, machine: Machine, half: int, has_signs: bool, rng: np.random.Generator) -> bool:
        subsystem, code = _failing(rng, self._catalogue[machine.model])
        for _attempt in range(20):
            rise_ms = self._rise_ms(rng)
            margin_ms = min(8 * HOUR_MS, self._half_ms // 10)
            low_ms = self._start_ms + max(half * self._half_ms, rise_ms + margin_ms)
            high_ms = self._start_ms + (half + 1) * self._half_ms - margin_ms
            at_ms = round(rng.uniform(low_ms, high_ms))
            repaired_ms = at_ms + round(rng.uniform(6, 48) * HOUR_MS)
            from_ms = at_ms - (rise_ms if has_signs else 0)
            if not self._free(machine, from_ms, at_ms, repaired_ms):
                continue
            self._failures.append(
                Failure(
                    device_id=machine.device_id,
                    customer_id=machine.customer_id,
                    subsystem=subsystem,
                    code=code,
                    part_ids=self._catalogue[machine.model].faults[code].parts,
                    at_ms=at_ms,
                    repaired_ms=repaired_ms,
                    precursor_ms=from_ms if has_signs else None,
                )
            )
            stress = Stress(subsystem, from_ms, at_ms, at_ms, repaired_ms, has_signs)
            self._stresses.setdefault(machine.device_id, []).append(stress)
            return True
        return False

    def _place_false_precursor(self, machine: Machine, half: int, rng: np.random.Generator) -> bool:
        subsystem, _ = _failing(rng, self._catalogue[machine.model])
        for _attempt in range(20):
            rise_ms = self._rise_ms(rng)
            lasts_ms = round(rise_ms * rng.uniform(0.45, 0.85))
            fade_ms = round(min(rng.uniform(0.7, 1.5) * DAY_MS, 0.3 * self._half_ms))
            low_ms = self._start_ms + half * self._half_ms
            from_ms = round(rng.uniform(low_ms, low_ms + self._half_ms - lasts_ms - fade_ms))
            peak_ms, until_ms = from_ms + lasts_ms, from_ms + lasts_ms + fade_ms
            if not self._free(machine, from_ms, peak_ms, until_ms):
                continue
            self._false.append(
                FalsePrecursor(
                    device_id=machine.device_id,
                    customer_id=machine.customer_id,
                    subsystem=subsystem,
                    from_ms=from_ms,
                    peak_ms=peak_ms,
                    until_ms=until_ms,
                )
            )
            stress = Stress(subsystem, from_ms, from_ms + rise_ms, peak_ms, until_ms, True)
            self._stresses.setdefault(machine.device_id, []).append(stress)
            return True
        return False

    def _rise_ms(self, rng: np.random.Generator) -> int:
        """How long before a failure its signs begin."""
        return round(min(rng.uniform(3.5, 6.5) * DAY_MS, 0.6 * self._half_ms))

    def _free(self, machine: Machine, from_ms: int, at_ms: int, until_ms: int) -> bool:
        """Whether [from_ms, until_ms) is free of other troubles and `at_ms` of outages and of being unused."""
        for other in self._stresses.get(machine.device_id, ()):
            if from_ms < other.until_ms + _GAP_MS and other.from_ms < until_ms + _GAP_MS:
                return False
        unused_ms = self._unused_ms.get(machine.customer_id)
        if unused_ms is not None and until_ms > unused_ms - HOUR_MS:
            return False
        return not any(
            since_ms - 2 * HOUR_MS <= at_ms < busy_until_ms + 2 * HOUR_MS
            for since_ms, busy_until_ms in self._busy.get(machine.site_id, ())
        )


def _failing(rng: np.random.Generator, model: DeviceModel) -> tuple[str, str]:
    """Subsystem and code of a hard failure."""
    codes = [(fault.subsystem, code) for code, fault in model.faults.items() if fault.stops_device]
    return codes[int(rng.integers(len(codes)))]
