"""Whole messages into records, a partition each; where a record is cut carries no meaning."""

from collections import defaultdict

from schema.messages import Message, Refused
from schema.record import encode_refused, encode_telemetry
from schema.topics import REFUSED, TELEMETRY

Entry = tuple[str, int, bytes]
"""Log topic, partition and record: what `append` takes."""

READING_BYTES = 24
MESSAGE_BYTES = 64
REFUSED_RECORD_BYTES = 512 * 1024


class Batch:
    """What waits to be appended: messages by partition, in order of arrival, and refusals.

    A record holds at most `max_readings` readings and faults (a message without any counts as one); a message larger
    than that is a record of its own.
    """

    def __init__(self, *, source: str, max_readings: int) -> None:
        self.approximate_bytes = 0
        self._source = source
        self._max_readings = max_readings
        self._open: defaultdict[int, list[Message]] = defaultdict(list)
        self._sizes: defaultdict[int, int] = defaultdict(int)
        self._refused: list[Refused] = []
        self._refused_bytes = 0
        self._entries: list[Entry] = []

    def add(self, partition: int, message: Message) -> None:
        """Take a message; a record that has no room for it is cut."""
        size = (len(message.readings) + len(message.faults)) or 1
        if self._open[partition] and self._sizes[partition] + size > self._max_readings:
            self._cut(partition)
        self._open[partition].append(message)
        self._sizes[partition] += size
        self.approximate_bytes += size * READING_BYTES + MESSAGE_BYTES

    def refuse(self, refused: Refused) -> None:
        """Take a refusal."""
        self._refused.append(refused)
        size = len(refused.payload) + len(refused.detail) + MESSAGE_BYTES
        self._refused_bytes += size
        self.approximate_bytes += size
        if self._refused_bytes >= REFUSED_RECORD_BYTES:
            self._cut_refused()

    def drain(self) -> list[Entry]:
        """Cut everything and give it away, in an order that keeps that of each partition."""
        for partition in sorted(self._open):
            self._cut(partition)
        self._cut_refused()
        entries, self._entries, self.approximate_bytes = self._entries, [], 0
        return entries

    def _cut(self, partition: int) -> None:
        messages = self._open.pop(partition)
        self._sizes.pop(partition)
        newest_ms = max(message.receive_ms for message in messages)
        value = encode_telemetry(messages, source=self._source, receive_ms=newest_ms)
        self._entries.append((TELEMETRY, partition, value))

    def _cut_refused(self) -> None:
        if self._refused:
            newest_ms = max(refused.received_ms for refused in self._refused)
            self._entries.append((REFUSED, 0, encode_refused(self._refused, source=self._source, receive_ms=newest_ms)))
            self._refused, self._refused_bytes = [], 0
