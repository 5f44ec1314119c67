"""Sensor anomaly: is this value of a sensor something new, in a score that means the same for every sensor."""

from math import exp

import numpy as np

from detectors.anomaly_news import NEWS_DTYPE, tell_news
from detectors.anomaly_views import STATE_DTYPE, observe
from detectors.detector import LARGEST, Detector

VERSION = "sensor_anomaly/1"


class SensorAnomaly(Detector):
    """Scores each value of one sensor by how rarely so much was seen before, and says each event once.

    The value is stripped of what the time of day and week tell, looked at from six views (`anomaly_views`), and each
    view's size compared with the largest peaks that this view has had on this sensor (`anomaly_tail`): no unit, range
    or threshold of the sensor is needed. The evidence e is the negative logarithm of the share of those peaks that
    would be as large; what of it was not announced before is news (`anomaly_news`), and

        score = news / (1 + news),        tail probability = exp(-news).

    A score of 0.5 announces an event: about four peaks of the history reach as far. 0.71 is one of them, 0.83 one in
    twelve such histories; it does not saturate (0.9 is e^-9). While an event stands that was announced the score is
    small; `evidence` is not.

    * Range: [0, 1); 0 for a missing value, on a constant signal and during warm-up.
    * Warm-up: WARM_BLOCKS * BLOCK = 224 values.
    * Memory: 1.5 kB, whatever the length. Cost: 1 to 2 us an update.
    * A level shift is announced once; the means follow it within some hundred values.
    * Source: the parts name theirs; pooled by the root of a mean of powers as in ensembles of detectors, Aggarwal and
      Sathe (2015), SIGKDD Explorations 17.

    >>> detector = SensorAnomaly()
    >>> for i in range(1000):
    ...     calm = detector.update(i * 300_000, 20.0 + i % 7)
    >>> calm < 0.1, detector.update(300_000_000, 60.0) > 0.7, detector.update(300_300_000, 60.0) < 0.1
    (True, True, True)
    """

    def __init__(self) -> None:
        self._sensor = np.zeros(1, STATE_DTYPE)
        self._news = np.zeros(1, NEWS_DTYPE)

    def __getstate__(self) -> tuple[bytes, bytes]:
        """Numbers as bytes: a state is written for each device at each cut."""
        return self._sensor.tobytes(), self._news.tobytes()

    def __setstate__(self, state: tuple[bytes, bytes]) -> None:
        self._sensor = np.frombuffer(state[0], STATE_DTYPE).copy()
        self._news = np.frombuffer(state[1], NEWS_DTYPE).copy()

    def update(self, at_ms: int, value: float | None) -> float:
        """Score a value and learn from it; a missing one scores 0 and changes nothing."""
        if value is None or not abs(value) <= LARGEST:
            return 0.0
        news = tell_news(self._news, observe(self._sensor, 0, at_ms, float(value)))
        return news / (1.0 + news)

    @property
    def evidence(self) -> float:
        """Evidence of the last value, announced before or not, in [0, inf)."""
        return float(self._sensor["evidence"][0])

    @property
    def tail_probability(self) -> float:
        """Share of the known peaks that would be as surprising as the last value's news, in (0, 1]."""
        return exp(-float(self._news["news"][0]))

    @property
    def standing(self) -> bool:
        """Whether an event stands announced."""
        return bool(self._news["known"][0] > 0.0)

    @property
    def expected(self) -> float:
        """What the last value was expected to be: its slow mean with what the time of day and week tell."""
        return float(self._sensor["usual"][0])
