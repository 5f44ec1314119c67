"""The ticks of one source: which it writes to which partition, and what time they make it there."""

from collections.abc import Mapping

from ingest.batch import Entry
from schema.record import Tick, encode_tick
from schema.topics import TELEMETRY


class Ticks:
    """The last tick of every partition, as the log has it (`last_ms` at start); time in a partition never goes back."""

    def __init__(self, source: str, partitions: int, last_ms: Mapping[int, int]) -> None:
        self._source = source
        self._partitions = range(partitions)
        self._last_ms = {partition: at_ms for partition, at_ms in last_ms.items() if partition in self._partitions}
        self._joined_ms: dict[int, int] = {}

    def last_ms(self, partition: int) -> int | None:
        """Return the last tick of a partition, None before the first."""
        return self._last_ms.get(partition)

    def newest_ms(self) -> int | None:
        """Return the newest tick of all partitions, None before the first."""
        return max(self._last_ms.values(), default=None)

    def joined(self, at_ms: int | None) -> list[Entry]:
        """Say that the source counts from now on: at the partition's last tick, or at `at_ms` where there is none.

        Without `at_ms` a partition without a tick is left out. It is said once.
        """
        since_ms = {p: self._last_ms.get(p, at_ms) for p in self._partitions if p not in self._joined_ms}
        joined_ms = {partition: ms for partition, ms in since_ms.items() if ms is not None}
        self._joined_ms |= joined_ms
        return [self._entry(partition, ms, "joined") for partition, ms in joined_ms.items()]

    def tick(self, at_ms: int) -> list[Entry]:
        """Move every partition on to `at_ms`; those that are there already, or joined later, get nothing."""
        joined_ms = self._joined_ms
        behind = [p for p in self._partitions if self._last_ms.get(p, joined_ms.get(p, at_ms) - 1) < at_ms]
        self._last_ms.update(dict.fromkeys(behind, at_ms))
        return [self._entry(partition, at_ms, "tick") for partition in behind]

    def left(self) -> list[Entry]:
        """Say that the source counts no longer."""
        return [self._entry(p, self._last_ms.get(p, ms), "left") for p, ms in self._joined_ms.items()]

    def left_by(self, source: str, at_ms: int) -> list[Entry]:
        """Say it for another source, that is gone."""
        return [(TELEMETRY, partition, encode_tick(Tick(source, at_ms, "left"))) for partition in self._partitions]

    def _entry(self, partition: int, at_ms: int, state: str) -> Entry:
        return TELEMETRY, partition, encode_tick(Tick(self._source, at_ms, state))  # type: ignore[arg-type] # one of three
