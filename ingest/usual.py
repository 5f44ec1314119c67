"""The usual message in one go: JSON in which nothing is wrong, nothing even unusual, and no fault is reported.

Most messages are like that. The series, most of its bytes, are read where they stand (`ingest.series`); what is left of
the message with a zero in their place is small, and is decoded and screened as ever. Whatever does not fit, be it wrong
or not, goes the general way (`ingest.decode`), which names what is refused. Both ways say the same.
"""

from ingest import screen
from ingest.directory import KnownDevice
from ingest.place import MAX_NUMBER
from ingest.series import SeriesReader
from ingest.wire import DECODING_ERRORS, Format
from schema.catalogue import Catalogue
from schema.messages import Message

AHEAD_LIMIT_MS = 600_000
EARLIEST_MS = 946_684_800_000
"""2000-01-01: a device that says less has not had its clock set."""

_SERIES = b'"series"'


class UsualMessages:
    """Reads usual messages by a catalogue; keeps nothing of them but the memory that their readings lie in."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._readers = {name: SeriesReader(model) for name, model in catalogue.items()}
        for reader in self._readers.values():
            reader.read(b":{}", 0, earliest_ms=0, latest_ms=0)  # not with the first message: loading takes a while

    def read(self, form: Format, payload: bytes, device: KnownDevice, receive_ms: int) -> Message | None:
        """Return a telemetry message of `device`, received at `receive_ms`; None if it must go the general way."""
        reader = self._readers.get(device.model)
        begin = payload.find(_SERIES) + len(_SERIES)
        if reader is None or form.envelope is None or begin < len(_SERIES) or payload.find(_SERIES, begin) > 0:
            return None
        latest_ms = receive_ms + AHEAD_LIMIT_MS
        found = reader.read(payload, begin, earliest_ms=EARLIEST_MS, latest_ms=latest_ms)
        if found is None:
            return None
        readings, end = found
        words = payload[:begin] + b":0" + payload[end:]
        try:
            wire = form.envelope(words)
        except DECODING_ERRORS:
            return None
        if (
            wire.series is None  # they were those of something inside
            or wire.faults
            or wire.device != device.device_id
            or not EARLIEST_MS <= wire.boot <= latest_ms
            or not EARLIEST_MS <= wire.sent <= latest_ms
            or not 1 <= wire.seq <= MAX_NUMBER
            or screen.suspicious(words)  # an escape is, too: the series could stand there once more, written otherwise
        ):
            return None
        return Message(device.device_id, "telemetry", wire.boot, wire.seq, wire.sent, receive_ms, readings)
