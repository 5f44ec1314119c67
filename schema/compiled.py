"""numba's `njit` with a type: the compiled function has the signature of its plain twin (`.py_func`)."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile on first use, cached on disk."""
    kernel: F = njit(cache=True)(function)
    return kernel
