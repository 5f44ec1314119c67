"""Derived identities: UUIDv5 over a natural key and an onset, so that a replay meets itself."""

from uuid import UUID, uuid5

_NAMESPACE = UUID("6f1c0a5e-6e5b-5d3c-9f62-77617264770a")


def derived_id(kind: str, *parts: str | int) -> str:
    """Identity of a `kind` (an alert, an order, an event …) with this natural key; never a sequence or a clock."""
    return str(uuid5(_NAMESPACE, "\x1f".join((kind, *map(str, parts)))))
