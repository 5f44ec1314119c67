"""Rows of the quarantine: what was refused, and why."""

import hashlib

import msgspec

from schema.ids import derived_id
from schema.messages import Refused
from schema.rows import QuarantineRow
from streams.device import DeviceMessage, DeviceState
from streams.processor import LogRecord
from streams.sequence import BOOTS_KEPT

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


def forgotten_boot(partition: int, device: DeviceState, message: DeviceMessage) -> QuarantineRow:
    """Return the row of a message whose boot is too old to tell whether it was stored, in the shape on the wire."""
    series: dict[str, list[tuple[int, float]]] = {}
    for slot, ts_ms, n in zip(message.slots.tolist(), message.ts_ms.tolist(), message.n.tolist(), strict=True):
        name, steps = device.metrics[slot] if slot >= 0 else ("", 1)
        series.setdefault(name, []).append((ts_ms, n / steps))
    faults = [
        {"code": each.code, "ts": each.ts_ms, "severity": each.severity, "subsystem": each.subsystem, "text": each.text}
        for each in message.faults
    ]
    device_id = device.entry.device_id
    content = {"device": device_id, "boot": message.boot, "seq": message.seq, "series": series, "faults": faults}
    return refused_bytes(
        f"log/{partition}/messages",
        msgspec.json.encode(content, order="deterministic"),
        "boot_forgotten",
        f"boot {message.boot} of {device_id!a}: {BOOTS_KEPT} newer ones are known, so nobody can tell whether this"
        " message was stored before",
        received_ms=message.receive_ms,
    )


def refused_bytes(topic: str, content: bytes, reason: str, detail: str, *, received_ms: int = 0) -> QuarantineRow:
    """Return the row of something that was refused behind the bridge; 0 where no receive time is known."""
    return quarantine_row(
        Refused(
            topic=topic,
            sha256=hashlib.sha256(content).hexdigest(),
            received_ms=received_ms,
            reason=reason,
            detail=detail,
            length=len(content),
            payload=content[:_KEPT_BYTES],
        )
    )
