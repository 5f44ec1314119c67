"""Reasons for refusing, and the quarantine entry that they become."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from schema.messages import Refused

Reason = Literal[
    "unsupported_topic",
    "unsupported_content_type",
    "too_large",
    "unknown_device",
    "unknown_model",
    "topic_mismatch",
    "invalid_json",
    "invalid_payload",
    "bad_seq",
    "timestamp_implausible",
    "timestamp_ahead",
    "unknown_metric",
    "not_finite",
    "out_of_range",
    "privacy",
    "corrupt_record",
]
"""`corrupt_record`: no message, but what should be a record of the overflow. `invalid_json`: the bytes are no JSON (or,
by content type, no MessagePack). `invalid_payload`: they are, but a field is missing or of a wrong type.
`unknown_model`: the device is registered with a model that no catalogue file has."""

KEPT_BYTES = 64 * 1024
_TOPIC_LENGTH = 512
_VALUE_LENGTH = 60
_PROBLEMS_TOLD = 20


@dataclass(slots=True)
class Problems:
    """What was found wrong with one message, in the order of finding; the first gives the reason."""

    reason: Reason | None = None
    count: int = 0
    texts: list[str] = field(default_factory=list)
    private_field: str | None = None
    """Name of a field that the privacy screen refused."""

    def add(self, reason: Reason, text: str) -> None:
        """Note a refusal; `text` says which field, which value and what was expected."""
        if self.reason is None:
            self.reason = reason
        self.count += 1
        if self.count <= _PROBLEMS_TOLD:
            self.texts.append(text)

    def detail(self) -> str:
        """All of it for people, shortened where it is long."""
        more = self.count - len(self.texts)
        return "; ".join(self.texts) + (f"; and {more} more" if more else "")


def shown(value: object) -> str:
    """Return a value as it may stand in a detail: short, and printable whatever it is."""
    text = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    return text if len(text) <= _VALUE_LENGTH else f"{text[:_VALUE_LENGTH]}…"


def refused(topic: str, payload: bytes, problems: Problems, *, received_ms: int) -> Refused:
    """Make the quarantine entry; of what the privacy screen refused, only hash, length and name of the field."""
    private = problems.private_field
    return Refused(
        topic=topic[:_TOPIC_LENGTH].replace("\0", "?"),
        sha256=sha256(payload).hexdigest(),
        received_ms=received_ms,
        reason="privacy" if private is not None else problems.reason or "invalid_payload",
        detail=f"field {private} may hold data of a patient" if private is not None else problems.detail(),
        length=len(payload),
        payload=b"" if private is not None else payload[:KEPT_BYTES],
    )
