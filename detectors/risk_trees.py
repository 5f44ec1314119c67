"""Boosted trees that are fitted again now and then to what has been labelled so far, and walked compiled."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from detectors.detector import Detector
from schema.compiled import compiled

_BINS = 1023
_FIT = {
    "objective": "binary",
    "learning_rate": 0.1,
    "num_leaves": 15,
    "min_data_in_leaf": 2,
    "min_data_in_bin": 1,
    "max_bin": _BINS,
    "lambda_l2": 1.0,
    "use_missing": False,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 1,
    "verbosity": -1,
}
"""Of LightGBM. Single hours need fine bins; a few examples may make a leaf, as failures are few, and the penalty keeps
what they say small."""


class RefittedTrees(Detector):
    """Gradient boosting on labelled examples, kept up to MOST, refitted when there is a tenth more to be learned.

    A refit takes less than a second on one core, for whoever waits, also where all columns are noise: beyond WIDE
    columns there are as many times fewer examples and bins.

    * Range: log odds. Warm-up: LEAST positives; until then `odds` gives 0.
    * Memory: MOST rows of single floats. When there are more, every second negative goes, of those to come too, and the
      others count double; where failures are as many, the older half goes.
    * Source: Ke et al. (2017), LightGBM: a highly efficient gradient boosting decision tree, NeurIPS.
    """

    ROUNDS = 100
    LEAST = 5
    MOST = 16_000
    WIDE = 32
    """Columns up to which MOST examples and all bins are looked at: most device models have fewer."""
    ROOM = 256
    """Rows by which the memory grows."""
    GROWTH = 1.1
    """Refitted when the positives have grown so much: the number of fits grows with the logarithm of what is known."""

    def __init__(self) -> None:
        self.blank: list[float] = []
        self.many = self.positives = self.fitted = self.passed = 0
        self.every = 1
        """Of the negatives one in so many is kept, a power of two."""
        self.rows: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        """The first `many` are examples, the rest is room to grow."""
        self.labels: NDArray[np.float32] = np.zeros(0, np.float32)
        self.weights: NDArray[np.float32] = np.zeros(0, np.float32)
        self.trees = _NO_TREES

    def widen(self, blank: float) -> None:
        """One more column, with what it holds in rows that do not have it yet."""
        self.blank.append(blank)
        self.rows = np.hstack([self.rows, np.full((len(self.rows), 1), blank, np.float32)])

    def learn(self, row: NDArray[np.float32], y: bool, weight: float) -> None:
        """Remember an example (columns,), or let one in `every` stand for the negatives in between."""
        if not y:
            self.passed += 1
            if self.passed % self.every:
                return
            weight *= self.every
        if self.many >= self._share(self.MOST):
            self._thin()
        if self.many == len(self.rows):
            room = np.zeros(self.ROOM, np.float32)
            self.rows = np.vstack([self.rows, np.zeros((self.ROOM, len(row)), np.float32)])
            self.labels, self.weights = np.append(self.labels, room), np.append(self.weights, room)
        self.rows[self.many], self.labels[self.many], self.weights[self.many] = row, y, weight
        self.many += 1
        self.positives += bool(y)

    def odds(self, row: NDArray[np.float32]) -> float:
        """Log odds of the event."""
        return float(_walk(row, *self.trees))

    def moved(self, row: NDArray[np.float32]) -> NDArray[np.float64]:
        """(C,) how much each column moved the log odds, along the paths (Saabas 2014, treeinterpreter)."""
        moved: NDArray[np.float64] = _moved(row, *self.trees)
        return moved

    @property
    def due(self) -> float:
        """By how much the positives have grown since the last fit; at least GROWTH when it is time to refit."""
        return self.positives / max(self.fitted, self.LEAST / self.GROWTH)

    def refit(self) -> None:
        """Fit anew to all that is kept; called at day boundaries."""
        rows, labels, weights = self.rows[: self.many], self.labels[: self.many], self.weights[: self.many]
        data = lgb.Dataset(rows, labels, weight=weights, params={"verbosity": -1})
        fit = {**_FIT, "max_bin": self._share(_BINS)}
        self.trees = _compiled(lgb.train(fit, data, self.ROUNDS).dump_model()["tree_info"])
        self.fitted = self.positives

    def _share(self, of_narrow: int) -> int:
        return of_narrow * self.WIDE // max(self.WIDE, len(self.blank))

    def _thin(self) -> None:
        labels = self.labels[: self.many]
        negative = labels == 0
        kept = np.arange(self.many) >= self.many // 2
        if 2 * negative.sum() > self.many:
            kept = ~negative | (np.cumsum(negative) % 2 == 0)
            self.weights[: self.many][negative] *= 2
            self.every *= 2
        self.rows, self.labels, self.weights = (
            each[: self.many][kept] for each in (self.rows, self.labels, self.weights)
        )
        self.many = len(self.rows)


Trees = tuple[
    NDArray[np.int64], NDArray[np.int32], NDArray[np.float64], NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]
]
"""Roots (R,); column, threshold, left, right and value of each node (N,); the column of a leaf is -1."""
_NO_TREES: Trees = (
    np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0)
)


def _compiled(trees: Sequence[Mapping[str, Any]]) -> Trees:
    nodes: list[list[float]] = []

    def add(node: Mapping[str, Any]) -> int:
        at = len(nodes)
        if "leaf_value" in node:
            nodes.append([-1, 0.0, 0, 0, node["leaf_value"]])
        else:
            nodes.append([node["split_feature"], node["threshold"], 0, 0, node["internal_value"]])
            nodes[at][2] = add(node["left_child"])
            nodes[at][3] = add(node["right_child"])
        return at

    roots = [add(tree["tree_structure"]) for tree in trees]
    table = np.array(nodes)
    return (
        np.array(roots, np.int64),
        table[:, 0].astype(np.int32),
        np.ascontiguousarray(table[:, 1]),
        table[:, 2].astype(np.int32),
        table[:, 3].astype(np.int32),
        np.ascontiguousarray(table[:, 4]),
    )


@compiled
def _walk(row: Any, roots: Any, column: Any, threshold: Any, left: Any, right: Any, value: Any) -> float:
    total = 0.0
    for root in roots:
        at = root
        while column[at] >= 0:
            x = row[column[at]] if column[at] < len(row) else 0.0
            at = left[at] if x <= threshold[at] else right[at]
        total += value[at]
    return total


@compiled
def _moved(row: Any, roots: Any, column: Any, threshold: Any, left: Any, right: Any, value: Any) -> Any:
    out = np.zeros(len(row))
    for root in roots:
        at = root
        while column[at] >= 0:
            x = row[column[at]] if column[at] < len(row) else 0.0
            to = left[at] if x <= threshold[at] else right[at]
            if column[at] < len(row):
                out[column[at]] += value[to] - value[at]
            at = to
    return out
