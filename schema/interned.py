"""Names that thousands of devices have in common, kept once."""

from functools import lru_cache
from sys import intern
from typing import Any

MOST = 4096
"""Different tuples that are known; of more the one longest unused is kept more than once."""


@lru_cache(MOST)
def one_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the same tuple for all equal ones, of interned names."""
    return tuple(map(intern, names))


def same(value: Any) -> Any:
    """Return the one text for all equal ones; what is no text as it is."""
    return intern(value) if isinstance(value, str) else value
