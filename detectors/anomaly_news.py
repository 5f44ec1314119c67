"""News: what of an evidence has not been said already."""

import math

import numpy as np
import numpy.typing as npt

from schema.compiled import compiled

ALARM = 1.0
"""News from which on an event is announced; a score of 0.5."""
STANDING = 1.5
"""Times its evidence that a standing event explains: the means follow a shift and become surer of it."""
QUIET = 40
"""Values in a row below ALARM after which an event is over."""
FATIGUE = 0.15
"""By how much an announcement raises what the next one needs."""
FATIGUE_LENGTH = 2000
"""Values after which a fatigue has fallen to 1/e."""
_REST = math.exp(-1.0 / FATIGUE_LENGTH)

NEWS_DTYPE = np.dtype([("known", "f8"), ("fatigue", "f8"), ("quiet", "i8"), ("news", "f8")])
"""Evidence of the event that stands announced (0: none), fatigue, values since it was last seen, the last news."""


@compiled
def tell_news(news: npt.NDArray[np.void], evidence: float) -> float:
    """What is new in the evidence of a value, in [0, inf): all of it if it is announced, else less than ALARM.

    An event is announced once, by the value that gives it away; while it stands only evidence that exceeds STANDING
    times its own by ALARM is announced again. It is over after QUIET values without it. Each announcement makes the
    next one a little harder, so a sensor that has become restless is not announced over and over.
    """
    state = news[0]
    if state.quiet > QUIET:
        state.known = 0.0
    left = evidence - state.fatigue
    fresh = max(0.0, left - STANDING * state.known)
    state.fatigue *= _REST
    if fresh >= ALARM:
        fresh = state.known = evidence
        state.fatigue += FATIGUE
        state.quiet = 0
    elif state.known > 0.0 and left >= ALARM:
        state.quiet = 0
    else:
        state.quiet += 1
    state.news = fresh
    return float(fresh)
