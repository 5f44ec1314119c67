"""All that is learned about failures: one general model, experts for each device model, shared by the whole fleet."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.bayes_logistic import BayesianLogistic, log_odds
from detectors.detector import Detector
from detectors.risk_experts import EXPERTS, RiskExperts
from detectors.risk_signs import Labelled, Signs
from detectors.subsystem_health import FEATURES

PRIOR = {
    "": -4.5,
    "codes_1d": 1.5,
    "codes_3d": 1.5,
    "level_z": 0.3,
    "codes_and_level": 0.3,
    "dismissed": -1.0,
}
"""Log odds per unit of a feature before any data: about one judgement in ninety is followed by a failure; warnings that
cluster and a gauge that leaves its usual level raise the odds, both together more; a technician who found nothing
lowers them. Sizes were set on simulated fleets."""
GENERAL = (*FEATURES, "dismissed")
"""Features that mean the same for all device models."""
_EXAMPLES = msgspec.msgpack.Decoder(list[Labelled])


class Opinion(NamedTuple):
    """What the experts say, and what is made of it."""

    odds: tuple[float, ...]
    """Log odds by the general model, and how much each of `EXPERTS` differs from it, by their standing."""
    probability: float


class LearnedRisk(Detector):
    """What judgements with a known outcome have taught, for all partitions alike (a `FleetModel` of `streams.fleet`).

    The general model is a Bayesian logistic regression on `GENERAL` with a stated prior, for all device models
    together: it judges a model of which nothing is known yet, and is one of the experts on the others. Failures are
    rare and each is preceded by many judgements that tell the same story, so an example weighs STORY there.

    The blend is a Bayesian logistic regression on the log odds that the general model gave when the judgement was made,
    and on how the three experts (`RiskExperts`) differed from it, learned when the outcome is known: each is weighed by
    what it foretold, never by what it explains afterwards, and the result is calibrated, for this is Platt's
    calibration of an ensemble. It is one for all device models and begins with the general model; how far the experts
    of a model count is also a matter of the failures that they have seen (`RiskExperts.standing`), so that a fleet with
    few of them is judged as the general model does.

    A partition gathers examples and hands them out at the end of a day; what all partitions have gathered is sorted and
    learned a day later, so their number does not show. Whoever is alone may call `learn` and `refit` himself.

    * Range: probability in (0, 1). Warm-up: none.
    * Memory: that of `RiskExperts` for each device model that has had a labelled judgement.
    * Source: Wolpert (1992), Stacked generalization, Neural Networks 5; Platt (1999), Probabilistic outputs for support
      vector machines.
    """

    CONTRIBUTION = 1
    STORY = 0.15
    """Weight of one judgement as evidence: judged every 3 h over some days, some seven judgements tell one story."""

    def __init__(self) -> None:
        self.general = BayesianLogistic(PRIOR, variance=0.25)
        self.general.vector(dict.fromkeys(GENERAL, 0.0))
        self.blend = BayesianLogistic({"general": 1.0}, variance=0.03)
        self.blend.vector(dict.fromkeys(("general", *EXPERTS), 0.0))
        self.usual: NDArray[np.float64] = np.zeros(len(GENERAL) + 1)
        """Mean of what the general model has learned."""
        self.experts: dict[str, RiskExperts] = {}
        self.learned = 0.0
        self.gathered: list[Labelled] = []

    def judge(self, model: str, signs: Signs) -> Opinion:
        """Judge signs of a device of a model."""
        general = log_odds(self.general.probability(self._general(signs)))
        experts = self._of(model)
        odds = (general, *(experts.standing * (each - general) for each in experts.judge(signs)))
        return Opinion(odds, self.blend.probability(np.array((1.0, *odds))))

    def learn(self, examples: Iterable[Labelled]) -> None:
        """Learn judgements whose outcome is known, in the order given."""
        for each in examples:
            self.blend.learn(np.array((1.0, *each.odds)), each.happened, self.STORY * each.weight)
            general = self._general(each.signs)
            self.learned += each.weight
            self.usual += (general - self.usual) * (each.weight / self.learned)
            self.general.learn(general, each.happened, self.STORY * each.weight)
            self._of(each.model).learn(each)

    def refit(self) -> bool:
        """At a day boundary: fit the trees of the one device model that needs it most, if one does."""
        all_trees = (self.experts[model].trees for model in sorted(self.experts))
        trees = max(all_trees, key=lambda each: each.due, default=None)
        if trees is None or trees.due < trees.GROWTH:
            return False
        trees.refit()
        return True

    def gather(self, examples: Iterable[Labelled]) -> None:
        """Keep examples for the day's contribution."""
        self.gathered.extend(examples)

    def contribution(self) -> bytes:
        """Examples gathered since the last call; b"" if none."""
        added = msgspec.msgpack.encode(self.gathered) if self.gathered else b""
        self.gathered = []
        return added

    @staticmethod
    def read(contribution: bytes) -> list[Labelled]:
        """Examples of a contribution; ValueError if it is none."""
        examples = _EXAMPLES.decode(contribution)
        for each in examples:
            each.check(1 + len(EXPERTS))
        return examples

    def absorb(self, contributions: Sequence[bytes]) -> None:
        """Learn a day of all partitions in canonical order."""
        self.learn(sorted(each for added in contributions for each in self.read(added)))
        self.refit()

    def reasons(self, model: str, signs: Signs, most: int = 3) -> dict[str, float]:
        """The columns that moved the log odds most, with how much; compared with what the fleet usually shows."""
        experts, general = self._of(model), self._general(signs)
        _, trust, *weights = self.blend.mean.tolist()
        of_experts = [experts.standing * weight for weight in weights]
        trust -= sum(of_experts)
        moved = experts.moved(signs, of_experts)
        for name, change in zip(GENERAL, (self.general.mean * (general - self.usual))[1:].tolist(), strict=True):
            moved[name] = moved.get(name, 0.0) + trust * change
        first = sorted(moved, key=lambda name: (-abs(moved[name]), name))[:most]
        return {name: moved[name] for name in first if abs(moved[name]) >= 0.1}

    def _of(self, model: str) -> RiskExperts:
        if model not in self.experts:
            self.experts[model] = RiskExperts()
        return self.experts[model]

    @staticmethod
    def _general(signs: Signs) -> NDArray[np.float64]:
        known: Mapping[str, float] = signs.by_name()
        values = np.array([1.0, *(known.get(name, 0.0) for name in GENERAL)])
        values[values != values] = 0.0
        return values
