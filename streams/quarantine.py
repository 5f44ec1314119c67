"""Rows of the quarantine: what was refused, and why."""

import hashlib

from schema.ids import derived_id
from schema.messages import Refused
from schema.rows import QuarantineRow
from streams.processor import LogRecord

_KEPT_BYTES = 65_536


def quarantine_row(refused: Refused) -> QuarantineRow:
    """Return the row of a refused message; topic and payload make its identity."""
    return QuarantineRow(
        quarantine_id=derived_id("quarantine", refused.topic, refused.sha256),
        topic=refused.topic,
        sha256=refused.sha256,
        received_at=refused.received_ms,
        reason=refused.reason,
        detail=refused.detail,
        length=refused.length,
        payload=refused.payload,
    )


def corrupt_record(topic: str, record: LogRecord, detail: str) -> QuarantineRow:
    """Return the row of a record that is none."""
    return refused_bytes(f"{topic}/{record.offset}", record.value, "corrupt_record", detail)


def refused_bytes(topic: str, content: bytes, reason: str, detail: str) -> QuarantineRow:
    """Return the row of something that was refused behind the bridge, where no receive time is known."""
    return quarantine_row(
        Refused(
            topic=topic,
            sha256=hashlib.sha256(content).hexdigest(),
            received_ms=0,
            reason=reason,
            detail=detail,
            length=len(content),
            payload=content[:_KEPT_BYTES],
        )
    )
