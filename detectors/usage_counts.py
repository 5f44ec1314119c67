"""Likelihoods of counts: overdispersed days, days of any lower use, and how a day's counts lie over its hours."""

from math import erf, exp, lgamma, log, sqrt

import numpy as np
import numpy.typing as npt

from schema.compiled import compiled

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

LEAST = 1e-3
"""Events that a mean has at least: no count is impossible, and nothing divides by 0."""


@compiled
def log_ways(count: float, size: float) -> float:
    """The part of `log_count` that does not depend on the mean."""
    return lgamma(count + size) - lgamma(size) - lgamma(count + 1) + size * log(size)


@compiled
def log_count(count: float, mean: float, size: float, ways: float) -> float:
    """Log probability of a negative binomial count of a mean and a size (1 / variance of the rate).

    `count` may be fractional (hours of use); `mean` and `size` are positive; `ways` is `log_ways`.
    """
    return ways + count * log(mean) - (size + count) * log(size + mean)


@compiled
def any_share(count: float, mean: float) -> float:
    """Probability of a count of which any share of the mean is as likely: about 1 / (mean + 1) up to the mean."""
    above = (count - mean) / sqrt(2 * (mean + 1))
    within = 0.5 * (1 - erf(above)) if above > -4 else 1.0
    return within / (mean + 1) + 1e-12


@compiled
def log_hours(counts: Floats, shares: Floats, concentration: float) -> float:
    """Log probability of how a day's counts (24,) lie over its hours, less what does not depend on `shares`.

    Dirichlet-multinomial: `shares` (24,) sum to 1, `concentration` is how many events repeat them faithfully.
    """
    total = result = 0.0
    for hour in range(24):
        if counts[hour] > 0:
            weight = concentration * shares[hour] + LEAST
            result += lgamma(counts[hour] + weight) - lgamma(weight)
            total += counts[hour]
    return result - lgamma(total + concentration) + lgamma(concentration)


@compiled
def log_mixed(first: float, second: float) -> float:
    """Log of the mean of two likelihoods given by their logs."""
    most = max(first, second)
    return most + log(0.5 * (exp(first - most) + exp(second - most)))
