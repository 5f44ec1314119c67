"""What comes before the first clock of all, in simulated time: it waits for that clock, and takes its time.

It cannot be acknowledged before it has a time, the clock comes behind it, and a broker sends only so much that is not
acknowledged (65,535 messages). So when much waits, nothing more is taken, and the first clock that was heard on the
line to the other bridges, a connection of its own, will do.
"""

import structlog

from ingest.clock import read_clock
from ingest.intake import Arrival
from ingest.refusal import Problems

WAITING_AT_MOST = 20_000
"""Messages; far fewer than a broker sends before it must hear that they are taken."""
WAITING_BYTES = 32 << 20

_log = structlog.get_logger("ingest")


class Early:
    """Arrivals that wait for the first clock, in order."""

    def __init__(self) -> None:
        self.time_ms = 0
        """What they were let in with; 0 before."""
        self.heard_ms = 0
        """The first clock that was heard beside them; 0 before."""
        self._arrivals: list[Arrival] = []
        self._bytes = 0
        self._told = 0
        """How many waited when it was last said that nothing more is taken."""

    @property
    def full(self) -> bool:
        """Whether too much waits for more to be taken."""
        return len(self._arrivals) >= WAITING_AT_MOST or self._bytes >= WAITING_BYTES

    def add(self, arrival: Arrival) -> None:
        """Have an arrival wait."""
        self._arrivals.append(arrival)
        self._bytes += len(arrival.payload)

    def tell(self) -> None:
        """Say that nothing more is taken, once for all that came since the last call."""
        if self.full and self._told != len(self._arrivals):
            self._told = len(self._arrivals)
            _log.warning("takes nothing more before a clock is heard", messages=self._told)

    def hear(self, payload: bytes) -> None:
        """Note a clock that was heard beside what waits."""
        if not self.heard_ms and not self.time_ms:
            self.heard_ms = read_clock(payload, Problems())

    def let_in(self, at_ms: int) -> list[Arrival]:
        """Give away what waits for the clock."""
        self.time_ms = self.time_ms or at_ms
        found, self._arrivals, self._bytes = self._arrivals, [], 0
        return found
