"""When to look at something again, in one sorted list: a tick at which nothing is due costs one comparison."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=tuple[str, ...])


class Timers(Generic[Key]):
    """At most one time a key; equal content has one form, whatever the order in which it was set."""

    def __init__(self) -> None:
        self._due: list[tuple[int, Key]] = []
        self._at: dict[Key, int] = {}

    def __getstate__(self) -> list[tuple[int, Key]]:
        return self._due

    def __setstate__(self, state: list[tuple[int, Key]]) -> None:
        self._due = state
        self._at = {key: due_ms for due_ms, key in state}

    def set(self, key: Key, due_ms: int | None) -> None:
        """Look at `key` again at `due_ms`, and not at what was set before; None for never."""
        before_ms = self._at.get(key)
        if before_ms == due_ms:
            return
        if before_ms is not None:
            del self._due[bisect_left(self._due, (before_ms, key))]
            del self._at[key]
        if due_ms is not None:
            insort(self._due, (due_ms, key))
            self._at[key] = due_ms

    def due(self, now_ms: int) -> Iterator[Key]:
        """Take out what is due, in the order (time, key); what is set meanwhile to a time that has come too."""
        while self._due and self._due[0][0] <= now_ms:
            _, key = self._due.pop(0)
            del self._at[key]
            yield key
