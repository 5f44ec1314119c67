"""numba's `njit` with a type: the compiled function has the signature of its plain twin (`.py_func`).

A cached function also holds what it calls and what constants it uses. numba asks only the function's own file whether
its cache is out of date, so after an upgrade in place a function would go on with the old form of what it calls in
another file. Here the cache is good for as long as that file and everything of the house that it imports, at any
distance, are the same, byte for byte.
"""

import ast
import sys
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from numba import config, njit

F = TypeVar("F", bound=Callable[..., Any])

HOUSE = ("schema", "ingest", "detectors", "streams")
"""Packages that compile functions, or hold constants for them."""


def compiled(function: F) -> F:
    """Compile on first use, cached on disk."""
    kernel: F = _kept(njit(cache=True)(function))
    return kernel


def inlined(function: F) -> F:
    """Compile into its callers: a call that takes arrays costs 10 ns and more, for they are counted atomically."""
    kernel: F = _kept(njit(cache=True, forceinline=True)(function))
    return kernel


def _kept(kernel: Any) -> Any:
    """Have the cache on disk depend on all the sources; numba has no public place for that."""
    if not config.DISABLE_JIT:
        kernel._cache._cache_file._source_stamp = _stamp(kernel.py_func.__module__)
    return kernel


@cache
def _stamp(module: str) -> str:
    """SHA-256 of a module and of all modules of the house that it imports, directly or not."""
    found, waiting = {module}, [module]
    while waiting:
        new = _imported(waiting.pop()) - found
        found |= new
        waiting += new
    digest = sha256()
    for name in sorted(found):
        digest.update(name.encode() + b"\0" + sha256(_source(name)).digest())
    return digest.hexdigest()


@cache
def _imported(module: str) -> frozenset[str]:
    """Modules of the house that a module's top level imports."""
    names: set[str] = set()
    for statement in ast.parse(_source(module)).body:
        if isinstance(statement, ast.Import):
            names.update(alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            names.add(statement.module)
            names.update(f"{statement.module}.{alias.name}" for alias in statement.names)
    return frozenset(name for name in names if name.partition(".")[0] in HOUSE and name in sys.modules)


def _source(module: str) -> bytes:
    file = sys.modules[module].__file__
    assert file is not None
    return Path(file).read_bytes()
