"""What the MQTT broker says it has dropped from its own queues; a counter that begins anew when the broker does."""

from dataclasses import dataclass

QUIET_MS = 10 * 60_000
"""Without another loss for so long, it is over."""


@dataclass(slots=True)
class Drops:
    """The broker's counter, and whether it has grown lately; times are receive time."""

    count: int | None = None
    """As it was last seen; None: never. Kept by the broker in this bridge's heartbeat, so a restart misses nothing."""
    total: int = 0
    since_ms: int = 0
    newest_ms: int | None = None

    def restore(self, count: int | None, dropping: bool, now_ms: int) -> None:
        """Go on from what an earlier run of this bridge has seen."""
        if self.count is None and count is not None:
            self.count = count
            if dropping:
                self.since_ms = self.newest_ms = now_ms

    def seen(self, count: int, now_ms: int) -> int:
        """Return how many messages were dropped since the counter was last seen."""
        before, self.count = self.count, count
        if before is None:
            return 0
        dropped = count - before if count >= before else count
        if dropped:
            if self.newest_ms is None:
                self.since_ms, self.total = now_ms, 0
            self.newest_ms = now_ms
            self.total += dropped
        return dropped

    def over(self, now_ms: int) -> bool:
        """Tell, once, that nothing has been dropped for `QUIET_MS`."""
        if self.newest_ms is None or now_ms - self.newest_ms < QUIET_MS:
            return False
        self.newest_ms = None
        return True
