"""The log record: a header with a checksum, and whole messages as numpy rows, a tick, a command or registry entries.

Layout, little-endian: `HEADER_DTYPE`, the source's name, then the body. The checksum (CRC-32) covers everything behind
itself. A telemetry body is a string table (MessagePack) followed by message, reading and fault rows; the other bodies
are MessagePack. Where records are cut carries no meaning: the same messages in other records give the same result.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from schema.commands import Command
from schema.messages import MESSAGE_KINDS, Fault, Message, Reading, Readings, Refused
from schema.notices import Notice
from schema.registry import RegistryEntry

VERSION = 1
MAGIC = b"WW"
KINDS = ("telemetry", "tick", "command", "registry", "refused", "notice")

HEADER_DTYPE = np.dtype(
    [
        ("magic", "S2"),
        ("version", "u1"),
        ("kind", "u1"),
        ("checksum", "<u4"),
        ("messages", "<u4"),
        ("readings", "<u4"),
        ("faults", "<u4"),
        ("source_bytes", "<u2"),
        ("strings_bytes", "<u4"),
        ("min_ms", "<i8"),
        ("max_ms", "<i8"),
        ("receive_ms", "<i8"),
    ]
)
MESSAGE_DTYPE = np.dtype(
    [
        ("device", "<u4"),
        ("kind", "u1"),
        ("boot", "<i8"),
        ("seq", "<i8"),
        ("sent_ms", "<i8"),
        ("receive_ms", "<i8"),
        ("readings", "<u4"),
        ("faults", "<u4"),
    ]
)
READING_DTYPE = np.dtype([("ts_ms", "<i8"), ("n", "<i8"), ("metric", "<u4")])
FAULT_DTYPE = np.dtype([("ts_ms", "<i8"), ("code", "<u4"), ("severity", "<u4"), ("subsystem", "<u4"), ("text", "<u4")])
_CHECKED_FROM = HEADER_DTYPE.fields["checksum"][1] + 4  # type: ignore[index]  # a structured dtype has fields


class CorruptRecordError(ValueError):
    """The bytes are no record of a known version, or the checksum does not fit."""


class Tick(msgspec.Struct, frozen=True):
    """A tick of time from one source; `joined` and `left` bound the stretch in which the source counts."""

    source: str
    at_ms: int
    state: Literal["joined", "tick", "left"] = "tick"


@dataclass(frozen=True, slots=True)
class TelemetryRecord:
    """Whole messages in columns.

    `messages` (M,) of MESSAGE_DTYPE, `readings` (R,) of READING_DTYPE and `faults` (F,) of FAULT_DTYPE lie in message
    order; message i owns the next `messages["readings"][i]` readings and `messages["faults"][i]` faults. Numbers in the
    columns device, metric, code, severity, subsystem and text are indices into `strings`.
    """

    source: str
    receive_ms: int
    strings: tuple[str, ...]
    messages: npt.NDArray[np.void]
    readings: npt.NDArray[np.void]
    faults: npt.NDArray[np.void]

    def __iter__(self) -> Iterator[Message]:
        """Yield the messages as values, in order; for tests and tools, the hot path reads the columns."""
        first_reading = first_fault = 0
        text = self.strings
        for row in self.messages:
            last_reading, last_fault = first_reading + int(row["readings"]), first_fault + int(row["faults"])
            yield Message(
                device_id=text[row["device"]],
                kind=MESSAGE_KINDS[row["kind"]],
                boot=int(row["boot"]),
                seq=int(row["seq"]),
                sent_ms=int(row["sent_ms"]),
                receive_ms=int(row["receive_ms"]),
                readings=tuple(
                    Reading(int(ts), text[metric], int(n))
                    for ts, n, metric in self.readings[first_reading:last_reading].tolist()
                ),
                faults=tuple(
                    Fault(ts, text[code], text[severity], text[subsystem], text[words])
                    for ts, code, severity, subsystem, words in self.faults[first_fault:last_fault].tolist()
                ),
            )
            first_reading, first_fault = last_reading, last_fault


Record = (
    TelemetryRecord
    | Tick
    | tuple[Command, ...]
    | tuple[RegistryEntry, ...]
    | tuple[Refused, ...]
    | tuple[Notice, ...]
)

_encoder = msgspec.msgpack.Encoder()
_strings_decoder = msgspec.msgpack.Decoder(tuple[str, ...])
_tick_decoder = msgspec.msgpack.Decoder(Tick)
_commands_decoder = msgspec.msgpack.Decoder(tuple[Command, ...])
_registry_decoder = msgspec.msgpack.Decoder(tuple[RegistryEntry, ...])
_refused_decoder = msgspec.msgpack.Decoder(tuple[Refused, ...])
_notices_decoder = msgspec.msgpack.Decoder(tuple[Notice, ...])


class _Strings(dict[str, int]):
    """Numbers texts in the order in which they are asked for."""

    def __missing__(self, text: str) -> int:
        number = self[text] = len(self)
        return number


def encode_telemetry(messages: Sequence[Message], *, source: str, receive_ms: int) -> bytes:
    """Encode whole messages in the order given; `receive_ms` is that of the newest."""
    strings = _Strings()
    message_rows = [
        (
            strings[m.device_id],
            MESSAGE_KINDS.index(m.kind),
            m.boot,
            m.seq,
            m.sent_ms,
            m.receive_ms,
            len(m.readings),
            len(m.faults),
        )
        for m in messages
    ]
    readings = _reading_rows([m.readings for m in messages], strings)
    faults = np.array(
        [
            (f.ts_ms, strings[f.code], strings[f.severity], strings[f.subsystem], strings[f.text])
            for m in messages
            for f in m.faults
        ],
        FAULT_DTYPE,
    )
    text = _encoder.encode(tuple(strings))
    times = [column["ts_ms"] for column in (readings, faults) if len(column)]
    return _frame(
        "telemetry",
        source,
        text + np.array(message_rows, MESSAGE_DTYPE).tobytes() + readings.tobytes() + faults.tobytes(),
        receive_ms=receive_ms,
        messages=len(messages),
        readings=len(readings),
        faults=len(faults),
        strings_bytes=len(text),
        min_ms=int(min((t.min() for t in times), default=receive_ms)),
        max_ms=int(max((t.max() for t in times), default=receive_ms)),
    )


def _reading_rows(
    of_messages: Sequence[tuple[Reading, ...] | Readings], strings: dict[str, int]
) -> npt.NDArray[np.void]:
    """Put the readings of messages into one array of READING_DTYPE, metrics as numbers in `strings`."""
    parts = [each if isinstance(each, Readings) else Readings.of(each) for each in of_messages]  # type: ignore[arg-type]
    begin: dict[tuple[str, ...], int] = {}
    names: list[str] = []
    for part in parts:
        if part.names not in begin:
            begin[part.names] = len(names)
            names += part.names
    rows = np.concatenate([np.empty((0, 3), np.int64), *(part.rows for part in parts)])
    first = np.array([begin[part.names] for part in parts], np.int64)
    named = rows[:, 1] + np.repeat(first, [len(part) for part in parts])
    number = np.zeros(len(names), np.uint32)
    for each in np.flatnonzero(np.bincount(named)).tolist():
        number[each] = strings[names[each]]
    readings = np.empty(len(rows), READING_DTYPE)
    readings["ts_ms"], readings["n"], readings["metric"] = rows[:, 0], rows[:, 2], number[named]
    return readings


def encode_tick(tick: Tick) -> bytes:
    """Encode one tick of time."""
    return _frame("tick", tick.source, _encoder.encode(tick), receive_ms=tick.at_ms)


def encode_commands(commands: Iterable[Command], *, source: str, receive_ms: int) -> bytes:
    """Encode commands; they are applied in this order, at the partition's time."""
    return _frame("command", source, _encoder.encode(tuple(commands)), receive_ms=receive_ms)


def encode_registry(entries: Iterable[RegistryEntry], *, source: str, receive_ms: int) -> bytes:
    """Encode registry entries and calendars; later entries replace earlier ones of the same key."""
    return _frame("registry", source, _encoder.encode(tuple(entries)), receive_ms=receive_ms)


def encode_refused(refused: Iterable[Refused], *, source: str, receive_ms: int) -> bytes:
    """Encode refused messages, for the topic of their own."""
    return _frame("refused", source, _encoder.encode(tuple(refused)), receive_ms=receive_ms)


def encode_notices(notices: Iterable[Notice], *, source: str, receive_ms: int) -> bytes:
    """Encode what a bridge has noticed."""
    return _frame("notice", source, _encoder.encode(tuple(notices)), receive_ms=receive_ms)


def received_anew(value: bytes, receive_ms: int) -> bytes:
    """Return a telemetry record as if it had been received at `receive_ms`.

    Raises:
        CorruptRecordError: it is no telemetry record, or damaged.
    """
    header, source, body = _open(value)
    if KINDS[header["kind"]] != "telemetry":
        raise CorruptRecordError("no telemetry record")
    changed = bytearray(body)
    messages = np.frombuffer(changed, MESSAGE_DTYPE, int(header["messages"]), int(header["strings_bytes"]))
    messages["receive_ms"] = receive_ms
    counts = {name: int(header[name]) for name in ("messages", "readings", "faults", "strings_bytes")}
    times = {name: int(header[name]) for name in ("min_ms", "max_ms")}
    return _frame("telemetry", source, bytes(changed), receive_ms=receive_ms, **counts, **times)


def is_tick(value: bytes) -> bool:
    """Tell whether a record is a tick, by its header alone."""
    return value[:2] == MAGIC and len(value) > 3 and value[3] == KINDS.index("tick")


def decode(value: bytes) -> Record:
    """Decode one record.

    Raises:
        CorruptRecordError: not a record, another version, damaged, or a body that does not fit its header.
    """
    header, source, body = _open(value)
    try:
        match KINDS[header["kind"]]:
            case "telemetry":
                return _decode_telemetry(header, source, body)
            case "tick":
                return _tick_decoder.decode(body)
            case "command":
                return _commands_decoder.decode(body)
            case "registry":
                return _registry_decoder.decode(body)
            case "refused":
                return _refused_decoder.decode(body)
            case _:
                return _notices_decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, IndexError, UnicodeDecodeError) as error:
        raise CorruptRecordError(f"the body does not fit its header: {error}") from error


def _decode_telemetry(header: np.void, source: str, body: memoryview) -> TelemetryRecord:
    text_end = int(header["strings_bytes"])
    messages_end = text_end + int(header["messages"]) * MESSAGE_DTYPE.itemsize
    readings_end = messages_end + int(header["readings"]) * READING_DTYPE.itemsize
    if len(body) != readings_end + int(header["faults"]) * FAULT_DTYPE.itemsize:
        raise CorruptRecordError("the body does not have the length that its header says")
    return TelemetryRecord(
        source=source,
        receive_ms=int(header["receive_ms"]),
        strings=_strings_decoder.decode(body[:text_end]),
        messages=np.frombuffer(body[text_end:messages_end], MESSAGE_DTYPE),
        readings=np.frombuffer(body[messages_end:readings_end], READING_DTYPE),
        faults=np.frombuffer(body[readings_end:], FAULT_DTYPE),
    )


def _frame(kind: str, source: str, body: bytes, **fields: int) -> bytes:
    name = source.encode()
    header = np.zeros((), HEADER_DTYPE)
    header["magic"], header["version"], header["kind"] = MAGIC, VERSION, KINDS.index(kind)
    header["source_bytes"] = len(name)
    for field, number in fields.items():
        header[field] = number
    checked = header.tobytes()[_CHECKED_FROM:]
    header["checksum"] = zlib.crc32(body, zlib.crc32(name, zlib.crc32(checked)))
    return header.tobytes() + name + body


def _open(value: bytes) -> tuple[np.void, str, memoryview]:
    if len(value) < HEADER_DTYPE.itemsize:
        raise CorruptRecordError(f"{len(value)} bytes are too few for a header")
    header = np.frombuffer(value, HEADER_DTYPE, 1)[0]
    if header["magic"] != MAGIC or header["version"] != VERSION or header["kind"] >= len(KINDS):
        raise CorruptRecordError("no record of a known version and kind")
    if zlib.crc32(memoryview(value)[_CHECKED_FROM:]) != header["checksum"]:
        raise CorruptRecordError("the checksum does not fit")
    body_start = HEADER_DTYPE.itemsize + int(header["source_bytes"])
    source = bytes(value[HEADER_DTYPE.itemsize : body_start]).decode()
    return header, source, memoryview(value)[body_start:]
