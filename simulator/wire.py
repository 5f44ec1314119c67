"""What goes over the wire: bodies of messages and their JSON, the clock, and what is confirmed."""

from typing import TypeVar

import msgspec

Pair = tuple[int, float]


class FaultBody(msgspec.Struct):
    """A fault as a device writes it."""

    code: str
    ts: int
    severity: str
    subsystem: str
    text: str


class Telemetry(msgspec.Struct, omit_defaults=True):
    """Readings of one message, or one fault; `ts`, `sent` and `boot` by the device's own clock."""

    device: str
    boot: int
    seq: int
    sent: int
    series: dict[str, list[Pair]] = {}
    faults: list[FaultBody] = []


class State(msgspec.Struct, omit_defaults=True):
    """Birth message and last will."""

    device: str
    state: str
    boot: int
    firmware: str = ""


_ENCODER = msgspec.json.Encoder()


def encode(body: Telemetry | State | bytes) -> bytes:
    """Payload of a body; malformed messages are bytes already."""
    return body if isinstance(body, bytes) else _ENCODER.encode(body)


class ClockConfirmed(msgspec.Struct):
    """A bridge has everything before this clock in the log."""

    at: int
    source: str = ""


class Confirmed(msgspec.Struct):
    """Messages `first` to `seq` of a device's boot are in the log."""

    boot: int
    seq: int
    first: int = msgspec.field(name="from", default=1)


_Body = TypeVar("_Body")


def decode(payload: bytes, shape: type[_Body]) -> _Body | None:
    """What a confirmation says; None for bytes that say nothing of the kind."""
    try:
        return msgspec.json.decode(payload, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def clock_payload(at_ms: int) -> bytes:
    """Body of the clock."""
    return msgspec.json.encode({"at": at_ms})
