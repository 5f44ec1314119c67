"""A canonical dump of state: plain values, so that two states can be compared.

Pickles cannot be: equal River models pickle to other bytes after one load, and shared references show.
"""

from array import array
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np


def canonical(value: Any) -> Any:
    """Return `value` as nested dicts, lists and scalars; equal states give equal dumps, whatever their history.

    Objects become their class name and attributes, mappings sorted pairs, sets sorted lists.
    """
    match value:
        case float() if value != value:
            return "NaN"  # equal to itself
        case None | bool() | int() | float() | str() | bytes():
            return value
        case np.generic():
            return value.item()
        case np.ndarray():
            return canonical(value.tolist())
        case Mapping():
            return sorted(([canonical(key), canonical(item)] for key, item in value.items()), key=repr)
        case list() | tuple() | deque() | array():
            return [canonical(item) for item in value]
        case set() | frozenset():
            return sorted((canonical(item) for item in value), key=repr)
        case type():
            return value.__qualname__
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    return [type(value).__qualname__, canonical(_attributes(value))]


def _attributes(value: Any) -> dict[str, Any]:
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    slots = dict.fromkeys(name for owner in type(value).__mro__ for name in getattr(owner, "__slots__", ()))
    return {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})
