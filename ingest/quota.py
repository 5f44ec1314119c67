"""How much a device may send: a token bucket each, filled in receive time by what its model is expected to send.

In the catalogue a model says how often its devices send (`message_interval_s`). A device is admitted `factor` times as
much in the long run, and `BURST_MS` worth of what is expected at once. While a device is away its bucket fills without
that limit, so it may deliver days at once; what it does not use of it is kept, but grows no more. Before the first
message of a device it is taken to have been away since the oldest of its messages was sent: a backlog may come behind a
birth, which says nothing of that, or behind a live message.

A message costs one token, and another for each `READINGS_A_TOKEN` readings. Buckets are in memory only: after a restart
a device begins with a full one, but for those whose messages wait in the overflow.
"""

from dataclasses import dataclass

BURST_MS = 24 * 3_600_000
AWAY_MS = 30 * 24 * 3_600_000
"""Longer than that nobody is taken to have been away."""
READINGS_A_TOKEN = 1000
UNKNOWN_INTERVAL_MS = 60_000
"""For models of which the catalogue does not say how often they send."""


@dataclass(slots=True)
class _Bucket:
    level: float
    at_ms: int
    per_ms: float
    burst: float
    begun_ms: int
    away_ms: int
    """How long before `begun_ms` the device is taken to have been away."""


class Quota:
    """The buckets of all devices; `intervals_ms` is by model, 0 where it is not known."""

    def __init__(self, factor: float, intervals_ms: dict[str, int]) -> None:
        self._factor = factor
        self._intervals_ms = intervals_ms
        self._buckets: dict[str, _Bucket] = {}

    def spend(self, device_id: str, model: str, readings: int, *, receive_ms: int, sent_ms: int) -> bool:
        """Pay for a message if the device has anything left; a message of many readings may leave it in debt."""
        bucket = self._buckets.get(device_id)
        if bucket is None:
            bucket = self._begin(device_id, model, receive_ms)
        elif receive_ms > bucket.at_ms:
            _fill(bucket, receive_ms)
        if bucket.begun_ms - sent_ms > bucket.away_ms:
            _lengthen_absence(bucket, min(bucket.begun_ms - sent_ms, AWAY_MS))
        if bucket.level <= 0.0:
            return False
        bucket.level -= 1.0 + readings // READINGS_A_TOKEN
        return True

    def charge(self, device_id: str, messages: int, readings: int) -> None:
        """Pay for messages that were admitted together."""
        self._buckets[device_id].level -= messages + readings // READINGS_A_TOKEN

    def has_left(self, device_id: str, model: str, now_ms: int) -> bool:
        """Tell whether something may be admitted now; a device not seen before has used up what it may send at once."""
        bucket = self._buckets.get(device_id)
        if bucket is None:
            self._begin(device_id, model, now_ms).level = 0.0
            return False
        _fill(bucket, now_ms)
        return bucket.level > 0.0

    def is_calm(self, device_id: str) -> bool:
        """Tell whether a device, as of the last call about it, could again send a quarter of what it may at once."""
        bucket = self._buckets[device_id]
        return bucket.level >= bucket.burst / 4

    def per_hour(self, model: str) -> float:
        """Messages an hour that a device of the model is admitted in the long run."""
        return self._factor * 3_600_000 / self._interval_ms(model)

    def _begin(self, device_id: str, model: str, now_ms: int) -> _Bucket:
        interval_ms = self._interval_ms(model)
        per_ms, burst = self._factor / interval_ms, max(1.0, BURST_MS / interval_ms)
        bucket = _Bucket(burst, now_ms, per_ms, burst, begun_ms=now_ms, away_ms=0)
        self._buckets[device_id] = bucket
        return bucket

    def _interval_ms(self, model: str) -> int:
        return self._intervals_ms.get(model) or UNKNOWN_INTERVAL_MS


def _lengthen_absence(bucket: _Bucket, away_ms: int) -> None:
    """Credit what the bucket would have begun with, had so long an absence been known then."""
    before = max(bucket.burst, bucket.per_ms * bucket.away_ms)
    bucket.level += max(bucket.burst, bucket.per_ms * away_ms) - before
    bucket.away_ms = away_ms


def _fill(bucket: _Bucket, now_ms: int) -> None:
    gained = bucket.per_ms * (now_ms - bucket.at_ms)
    if gained > 0.0:
        bucket.level = min(bucket.level + gained, max(bucket.level, bucket.burst, gained))
        bucket.at_ms = now_ms
