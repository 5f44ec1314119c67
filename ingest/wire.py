"""Content types and the shapes on the wire: bytes to `WireTelemetry` or `WireState`, as much of it as can be had."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from ingest.refusal import Problems, Reason
from schema.messages import WireFault, WireState, WireTelemetry

_T = TypeVar("_T")

DECODING_ERRORS = (msgspec.MsgspecError, ValueError, TypeError, RecursionError)
"""What decoders raise on bytes that are none of theirs: also bad UTF-8, keys that cannot be keys, endless nesting."""


class Envelope(msgspec.Struct):
    """A telemetry message without its series, in the place of which stands a zero, for `ingest.usual`."""

    device: str
    boot: int
    seq: int
    sent: int
    series: Literal[0] | None = None
    faults: list[WireFault] = []


class Numbered(msgspec.Struct):
    """Of a telemetry message what says where it belongs, for one of which nothing else can be used."""

    boot: int
    seq: int
    device: object = None


@dataclass(frozen=True, slots=True)
class Format:
    """The decoders of one content type: straight into the wire's shapes, and into plain values."""

    envelope: Callable[[bytes], Envelope] | None
    """Only of JSON."""
    telemetry: Callable[[bytes], WireTelemetry]
    state: Callable[[bytes], WireState]
    numbered: Callable[[bytes], Numbered]
    """Takes a number that is written as a text, too."""
    plain: Callable[[bytes], Any]


_JSON = Format(
    msgspec.json.Decoder(Envelope).decode,
    msgspec.json.Decoder(WireTelemetry).decode,
    msgspec.json.Decoder(WireState).decode,
    msgspec.json.Decoder(Numbered, strict=False).decode,
    msgspec.json.Decoder().decode,
)
_MSGPACK = Format(
    None,
    msgspec.msgpack.Decoder(WireTelemetry).decode,
    msgspec.msgpack.Decoder(WireState).decode,
    msgspec.msgpack.Decoder(Numbered, strict=False).decode,
    msgspec.msgpack.Decoder().decode,
)
_FORMATS = {
    "": _JSON,
    "application/json": _JSON,
    "application/msgpack": _MSGPACK,
    "application/x-msgpack": _MSGPACK,
    "application/vnd.msgpack": _MSGPACK,
}


def format_of(content_type: str | None) -> Format | None:
    """Return the decoders for an MQTT 5 content type, JSON where a sender names none; None if there are none (CBOR)."""
    if content_type is None:
        return _JSON
    return _FORMATS.get(content_type.partition(";")[0].strip().lower())


def read_telemetry(form: Format, payload: bytes, problems: Problems) -> WireTelemetry | None:
    """Decode a telemetry payload; where a single field is of a wrong type, keep what is left without it.

    None, with the problem noted, if the payload cannot be decoded at all or its envelope (device, boot, seq) is wrong.
    """
    try:
        return form.telemetry(payload)
    except DECODING_ERRORS:
        pass
    plain = _read_plain(form, payload, problems)
    return None if plain is None else _salvage(plain, problems)


def read_state(form: Format, payload: bytes, problems: Problems) -> WireState | None:
    """Decode a birth or will; None, with the problem noted, if it is none."""
    try:
        return form.state(payload)
    except DECODING_ERRORS:
        pass
    plain = _read_plain(form, payload, problems)
    return None if plain is None else _convert(plain, WireState, "message", problems)


def _read_plain(form: Format, payload: bytes, problems: Problems) -> Any:
    """Decode into plain values; None with the problem noted. `null` is a problem too: it is no message."""
    try:
        plain = form.plain(payload)
    except DECODING_ERRORS as error:
        too_big = isinstance(error, msgspec.ValidationError) and "out of range" in str(error)
        reason: Reason = "not_finite" if too_big else "invalid_json"
        problems.add(reason, f"message: {error}" if isinstance(error, msgspec.MsgspecError) else f"message: {error!r}")
        return None
    if plain is None:
        problems.add("invalid_payload", "message: expected `object`, got `null`")
    return plain


class _Envelope(msgspec.Struct):
    device: str
    boot: int
    seq: int
    sent: int


def _salvage(plain: Any, problems: Problems) -> WireTelemetry | None:
    envelope = _convert(plain, _Envelope, "message", problems)
    if envelope is None:
        return None
    wire = WireTelemetry(envelope.device, envelope.boot, envelope.seq, envelope.sent, {}, [])
    series, faults = plain.get("series", {}), plain.get("faults", [])
    if not isinstance(series, dict):
        problems.add("invalid_payload", "series: expected `object`")
        series = {}
    if not isinstance(faults, list):
        problems.add("invalid_payload", "faults: expected `array`")
        faults = []
    for name, points in series.items():
        if not isinstance(name, str) or not isinstance(points, list):
            problems.add("invalid_payload", f"series.{ascii(name)[:80]}: expected `array` of [ts, value]")
            continue
        where = f"series.{ascii(name)[:80]}"
        found = (_convert(point, tuple[int, float], f"{where}[{i}]", problems) for i, point in enumerate(points))
        wire.series[name] = [point for point in found if point is not None]
    wire.faults = [
        fault
        for i, item in enumerate(faults)
        if (fault := _convert(item, WireFault, f"faults[{i}]", problems)) is not None
    ]
    return wire


def _convert(value: Any, shape: type[_T], where: str, problems: Problems) -> _T | None:
    try:
        return msgspec.convert(value, shape)
    except DECODING_ERRORS as error:
        problems.add("invalid_payload", f"{where}: {error}")
        return None
