"""What devices put on the wire: bodies of their messages and their JSON."""

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
