"""Clocks on their way: published, and not yet confirmed by every bridge."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Clocks:
    """Clocks that wait for `bridges` confirmations. A bridge confirms with a clock all earlier ones as well."""

    bridges: int
    _waiting: dict[int, Mapping[str, int]] = field(default_factory=dict)
    """By clock: the place of the clock in what each connection has sent."""
    _confirmed_ms: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._waiting)

    def published(self, at_ms: int, marks: Mapping[str, int]) -> None:
        """Wait for the clock `at_ms`, which comes after `marks` in what each connection has sent."""
        self._waiting[at_ms] = marks

    def confirmed(self, at_ms: int, source: str) -> Mapping[str, int] | None:
        """Take the word of one bridge; the marks of the newest clock that all bridges have now confirmed, if any."""
        self._confirmed_ms[source] = max(at_ms, self._confirmed_ms.get(source, at_ms))
        by_all_ms = self.newest_confirmed_ms
        if by_all_ms is None:
            return None
        marks = None
        for done_ms in [each for each in self._waiting if each <= by_all_ms]:
            marks = self._waiting.pop(done_ms)
        return marks

    def waiting(self) -> list[int]:
        """Clocks that are not confirmed, oldest first."""
        return list(self._waiting)

    def marks(self, at_ms: int) -> Mapping[str, int] | None:
        """The place of a clock in what each connection has sent; None once it is confirmed."""
        return self._waiting.get(at_ms)

    @property
    def newest_confirmed_ms(self) -> int | None:
        """The newest clock that all bridges have confirmed, None before the first."""
        if len(self._confirmed_ms) < self.bridges:
            return None
        return sorted(self._confirmed_ms.values(), reverse=True)[self.bridges - 1]
