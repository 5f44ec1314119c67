"""Sparse crosses: how long ago each thing happened, in single hours, and every two of them together."""

import math
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from river import base

from schema.compiled import compiled

CAP_H = 2000.0
"""What happened longer ago (twelve weeks) is no token."""

Tokens = NDArray[np.int64]
"""(T,): one number for each (what, whole hours ago), not hashed to places yet."""


class SparseCrosses(base.Classifier):  # type: ignore[misc]  # River publishes no types
    """Logistic regression on tokens (what, hours ago) and all their pairs, learnt by FTRL-Proximal.

    A failure that follows a code by a day, or a planned visit by a fortnight, has a weight of its own in the very hour;
    a pair tells a code shortly before a planned visit from the same code at another time. Most of these weights are
    never touched and cost nothing. A place is one of SIZE; collisions share a weight.

    * Range: log odds without bound, in practice within +-10. Warm-up: none, log odds 0 until something is learned.
    * Memory: 2 x SIZE single floats, whatever the number of tokens: 1 MB.
    * Source: McMahan et al. (2013), Ad click prediction: a view from the trenches, KDD; hashing of crosses as in
      Weinberger et al. (2009), Feature hashing for large scale multitask learning, ICML.

    >>> model = SparseCrosses()
    >>> for _ in range(30):
    ...     model.learn_one({"arc": 20.0, "visit": 300.0}, True)
    ...     model.learn_one({"arc": 20.0}, False)
    >>> model.predict_proba_one({"arc": 20.5, "visit": 300.0})[True] > 0.8
    True
    >>> model.predict_proba_one({"arc": 20.0})[True] < 0.5
    True
    """

    SIZE = 1 << 17
    ALPHA = 0.3
    """Step of a weight at its first update."""
    BETA = 1.0
    L1 = 0.1
    """What one or two examples say of a pair is noise: a weight stays 0 until its gradients add up to more."""
    L2 = 1.0

    def __init__(self) -> None:
        self.z: NDArray[np.float32] = np.zeros(self.SIZE, np.float32)
        self.n: NDArray[np.float32] = np.zeros(self.SIZE, np.float32)

    def __getstate__(self) -> tuple[bytes, bytes, bytes]:
        """Only the places that were touched."""
        touched = np.flatnonzero(self.n).astype(np.int32)
        return touched.tobytes(), self.z[touched].tobytes(), self.n[touched].tobytes()

    def __setstate__(self, state: tuple[bytes, bytes, bytes]) -> None:
        touched = np.frombuffer(state[0], np.int32)
        self.z, self.n = np.zeros(self.SIZE, np.float32), np.zeros(self.SIZE, np.float32)
        self.z[touched], self.n[touched] = (np.frombuffer(each, np.float32) for each in state[1:])

    @staticmethod
    def tokens(ages_h: Mapping[Any, float | None]) -> Tokens:
        """Tokens of what happened so many hours ago, by name; None, NaN, below 0 and CAP_H or more are left out."""
        made = [
            (crc32(str(name).encode()) << 12) + int(age_h) + 1
            for name, age_h in ages_h.items()
            if age_h is not None and 0 <= age_h < CAP_H
        ]
        return np.array(made, np.int64)

    def odds(self, tokens: Tokens) -> float:
        """Log odds of the event."""
        return float(_odds(_places(tokens, self.SIZE), self.z, self.n, self.ALPHA, self.BETA, self.L1, self.L2))

    def learn(self, tokens: Tokens, y: bool, weight: float = 1.0) -> None:
        """Learn an example that counts for `weight`."""
        places = _places(tokens, self.SIZE)
        _learn(places, self.z, self.n, float(y), weight, self.ALPHA, self.BETA, self.L1, self.L2)

    def moved(self, names: Sequence[str], tokens: Tokens) -> dict[str, float]:
        """How much each name moved the log odds; half of a pair's weight goes to either."""
        places = _places(tokens, self.SIZE)
        shares = _moved(places, len(tokens), self.z, self.n, self.ALPHA, self.BETA, self.L1, self.L2)
        what = {crc32(name.encode()): name for name in names}
        return {what[int(token) >> 12]: float(share) for token, share in zip(tokens, shares, strict=True)}

    def learn_one(self, x: Mapping[Any, float | None], y: Any, w: float = 1.0) -> None:
        """River's interface: hours ago by name; `y` is true for the event."""
        self.learn(self.tokens(x), bool(y), w)

    def predict_proba_one(self, x: Mapping[Any, float | None]) -> dict[bool, float]:
        """River's interface: probabilities of both labels."""
        p = 1 / (1 + math.exp(-max(-500.0, min(500.0, self.odds(self.tokens(x))))))
        return {False: 1 - p, True: p}


@compiled
def _places(tokens: Tokens, size: int) -> NDArray[np.int64]:
    """(1 + T + T (T - 1) / 2,): the constant's place 0, those of the tokens and of their pairs, from 1 to size - 1."""
    count = len(tokens)
    out = np.zeros(1 + count + count * (count - 1) // 2, np.int64)
    mixed = np.empty(count, np.uint64)
    for i in range(count):
        mixed[i] = _mix(np.uint64(tokens[i]))
        out[1 + i] = 1 + mixed[i] % np.uint64(size - 1)
    at = 1 + count
    for i in range(count):
        for j in range(i):
            out[at] = 1 + _mix(mixed[i] + mixed[j]) % np.uint64(size - 1)
            at += 1
    return out


@compiled
def _mix(x: np.uint64) -> np.uint64:
    """Steele, Lea and Flood (2014), the finaliser of SplitMix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@compiled
def _weight(place: int, z: Any, n: Any, a: float, b: float, l1: float, l2: float) -> Any:
    least = l1 if place else 0.0
    if abs(z[place]) <= least:
        return 0.0
    return -(z[place] - np.sign(z[place]) * least) / ((b + np.sqrt(n[place])) / a + l2)


@compiled
def _odds(places: Tokens, z: Any, n: Any, a: float, b: float, l1: float, l2: float) -> float:
    total = 0.0
    for place in places:
        total += _weight(place, z, n, a, b, l1, l2)
    return total


@compiled
def _moved(places: Tokens, count: int, z: Any, n: Any, a: float, b: float, l1: float, l2: float) -> Any:
    out = np.zeros(count)
    at = 1 + count
    for i in range(count):
        out[i] += _weight(places[1 + i], z, n, a, b, l1, l2)
        for j in range(i):
            half = _weight(places[at], z, n, a, b, l1, l2) / 2
            out[i] += half
            out[j] += half
            at += 1
    return out


@compiled
def _learn(places: Tokens, z: Any, n: Any, y: float, weight: float, a: float, b: float, l1: float, l2: float) -> None:
    weights = np.empty(len(places))
    total = 0.0
    for i in range(len(places)):
        weights[i] = _weight(places[i], z, n, a, b, l1, l2)
        total += weights[i]
    gradient = weight * (1 / (1 + np.exp(-min(max(total, -35.0), 35.0))) - y)
    for i in range(len(places)):
        place = places[i]
        step = (np.sqrt(n[place] + gradient * gradient) - np.sqrt(n[place])) / a
        z[place] += gradient - step * weights[i]
        n[place] += gradient * gradient
