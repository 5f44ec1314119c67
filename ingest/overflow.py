"""What exceeds the quotas: kept in a log topic of its own, admitted again device by device, in order.

Once a device has something waiting, all that it sends waits behind it, so its messages stay in order; its faults wait
with the rest, for what a flood says is worth little and nobody else's order may depend on looking into it. The unit is
a record: a few messages of one device, no more than its quota allows in one interval, so it is not taken for silent
while it floods. How far records are admitted again is noted in the log from
time to time; after a crash some come twice, which the partition finds by their numbers.

In memory are the offsets of at most `INDEXED` records a device; what lies beyond is looked for in the log when its turn
comes. A record that is none any more, as a disk has spoilt it, goes to the quarantine, and the next one follows.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from ingest.batch import Entry
from ingest.refusal import Problems, refused
from ingest.settings import BridgeConfig, BridgeStats
from schema.messages import Message, Refused
from schema.record import CorruptRecordError, TelemetryRecord, decode, encode_telemetry
from schema.topics import OVERFLOW

RECORD_MESSAGES = 50
RECORD_READINGS = 2000
INDEXED = 1000
SCANNED = 200

_log = structlog.get_logger("ingest")


class OverflowStore(Protocol):
    """The overflow topic, as a bridge reads it; any call may raise what the log raises."""

    def read(self, offset: int, count: int) -> Sequence[tuple[int, bytes]]:
        """Return at most `count` (offset, record)s from `offset` on, or from the oldest kept; none at the end."""

    def position(self, source: str) -> int:
        """Return the offset before which nothing of a bridge waits."""

    def note(self, source: str, offset: int) -> None:
        """Note that nothing of a bridge waits before `offset`."""


@dataclass(slots=True)
class _Waiting:
    """Records of one device: `offsets` in the log, the older first, then `open` ones that no append has taken yet."""

    since_ms: int
    offsets: deque[int] = field(default_factory=deque)
    beyond: int | None = None
    """From here on there are records that `offsets` does not have."""
    staged: int = 0
    """Records that are on their way into the log."""
    open: list[Message] = field(default_factory=list)
    messages: int = 0

    @property
    def empty(self) -> bool:
        return not (self.offsets or self.staged or self.open) and self.beyond is None


class Overflow:
    """The devices that flood: all that have something waiting, and others until they are forgotten.

    `in` tells whether something of a device waits.
    """

    def __init__(self, config: BridgeConfig, store: OverflowStore, stats: BridgeStats) -> None:
        self._source = config.source
        self._record_messages = min(max(1, int(config.quota_factor)), RECORD_MESSAGES)
        self._store = store
        self._stats = stats
        self._devices: dict[str, _Waiting] = {}
        self.others: frozenset[str] = frozenset()
        """Other bridges that had something waiting when the topic was read last, and were not taken over."""
        self._taken_over: dict[str, int] = {}
        """Other bridges, and the offset at or beyond which nothing was found of each."""
        self._staged: deque[str] = deque()
        self._end = 0
        """Nothing of ours lies at or beyond it, except what is waiting."""
        self._spoilt: set[int] = set()
        self._refused: list[Refused] = []

    def __len__(self) -> int:
        return len(self._devices)

    def __contains__(self, device_id: str) -> bool:
        waiting = self._devices.get(device_id)
        return waiting is not None and not waiting.empty

    def restore(self, now_ms: int) -> None:
        """Find what an earlier run of this bridge has left waiting."""
        self._find(self._source, now_ms)

    def take_over(self, source: str, now_ms: int) -> None:
        """Admit again what another bridge, which is gone, has left waiting."""
        if source not in self._taken_over:
            self._taken_over[source] = self._find(source, now_ms)

    def release(self, source: str) -> None:
        """Leave the rest to another bridge, which is back; what is known here is admitted all the same."""
        self._taken_over.pop(source, None)

    def add(self, message: Message) -> bool:
        """Let a message wait; True if its device did not flood before."""
        waiting = self._devices.get(message.device_id)
        first = waiting is None
        if waiting is None:
            waiting = self._devices[message.device_id] = _Waiting(message.receive_ms)
        waiting.open.append(message)
        waiting.messages += 1
        self._stats.flooding = len(self._devices)
        self._stats.over_quota += 1
        self._stats.overflow_waiting += 1
        return first

    def drain(self) -> list[Entry]:
        """Give away, as records, what has come since the last call; `appended` must follow with their offsets."""
        entries: list[Entry] = []
        for device_id, waiting in self._devices.items():
            for part in _parts(waiting.open, self._record_messages):
                value = encode_telemetry(part, source=self._source, receive_ms=part[-1].receive_ms)
                entries.append((OVERFLOW, 0, value))
                waiting.staged += 1
                self._staged.append(device_id)
            waiting.open = []
        return entries

    def appended(self, offsets: Iterable[int]) -> None:
        """Take the offsets of the records that `drain` has given away, in that order."""
        for offset in offsets:
            waiting = self._devices[self._staged.popleft()]
            waiting.staged -= 1
            _index(waiting, offset)
            self._end = max(self._end, offset + 1)

    def devices(self) -> list[str]:
        """Devices that flood, sorted."""
        return sorted(self._devices)

    def facts(self, device_id: str) -> tuple[int, int]:
        """Return since when a device has flooded, and how many messages wait."""
        waiting = self._devices[device_id]
        return waiting.since_ms, waiting.messages

    def next(self, device_id: str) -> tuple[bytes, int, int] | None:
        """Take a device's oldest record in the log, with its numbers of messages and readings; None if it has none."""
        waiting = self._devices[device_id]
        while True:
            if not waiting.offsets and waiting.beyond is not None:
                self._look_beyond(device_id, waiting)
            if not waiting.offsets:
                return None
            wanted = waiting.offsets[0]
            offset, value = next(iter(self._store.read(wanted, 1)), (-1, b""))
            record = self._decoded(offset, value) if offset == wanted else None
            waiting.offsets.popleft()
            if record is None:
                continue
            messages = len(record.messages)
            waiting.messages -= messages
            self._stats.overflow_waiting -= messages
            self._stats.readmitted += messages
            return value, messages, len(record.readings)

    def refused(self) -> list[Refused]:
        """Give away what is for the quarantine: records that cannot be read, each once."""
        found, self._refused = self._refused, []
        return found

    def forget(self, device_id: str) -> None:
        """A device of which nothing waits floods no more."""
        waiting = self._devices.pop(device_id)
        self._stats.overflow_waiting -= waiting.messages  # of records that could not be read
        self._stats.flooding = len(self._devices)

    def note(self) -> None:
        """Note in the log how far everything is admitted again; to be called when that is in the log."""
        oldest = min((_oldest(waiting, self._end) for waiting in self._devices.values()), default=self._end)
        self._store.note(self._source, oldest)
        for source, end in self._taken_over.items():
            self._store.note(source, min(oldest, end))

    def _look_beyond(self, device_id: str, waiting: _Waiting) -> None:
        assert waiting.beyond is not None
        found: list[int] = []
        beyond = None
        for offset, record in self._scan(waiting.beyond):
            if (record.source == self._source or record.source in self._taken_over) and _device_of(record) == device_id:
                if len(found) == INDEXED:
                    beyond = offset
                    break
                found.append(offset)
        waiting.offsets.extend(found)
        waiting.beyond = beyond

    def _find(self, source: str, now_ms: int) -> int:
        """Find what waits of a bridge, and which others have something waiting; return the end of what was found.

        Nothing has changed if the log raises, so that it may be called again.
        """
        positions = {source: self._store.position(source)}
        found: dict[str, _Waiting] = {}
        others: set[str] = set()
        end = positions[source]
        for offset, record in self._scan(0):
            if record.source not in positions:
                positions[record.source] = self._store.position(record.source)
            if offset < positions[record.source]:
                continue
            if record.source != source:
                others.add(record.source)
                continue
            waiting = found.setdefault(_device_of(record), _Waiting(now_ms))
            _index(waiting, offset)
            waiting.messages += len(record.messages)
            end = offset + 1
        for device_id, waiting in found.items():
            _merge(self._devices.setdefault(device_id, _Waiting(now_ms)), waiting)
            self._stats.overflow_waiting += waiting.messages
        self._stats.flooding = len(self._devices)
        self.others = frozenset(others - {self._source, *self._taken_over})
        return end

    def _scan(self, offset: int) -> Iterator[tuple[int, TelemetryRecord]]:
        while records := self._store.read(offset, SCANNED):
            for at, value in records:
                record = self._decoded(at, value)
                if record is not None:
                    yield at, record
            offset = records[-1][0] + 1
            self._end = max(self._end, offset)

    def _decoded(self, offset: int, value: bytes) -> TelemetryRecord | None:
        """The record at an offset; None if it is none, which is told once."""
        try:
            record = decode(value)
        except CorruptRecordError as error:
            if offset not in self._spoilt:
                self._spoilt.add(offset)
                _log.warning("a record of the overflow cannot be read", offset=offset, error=str(error))
                problems = Problems()
                problems.add("corrupt_record", str(error))
                self._refused.append(refused(f"log/{OVERFLOW}/{offset}", value, problems, received_ms=0))
            return None
        return record if isinstance(record, TelemetryRecord) else None


def _index(waiting: _Waiting, offset: int) -> None:
    if waiting.beyond is None and len(waiting.offsets) < INDEXED:
        waiting.offsets.append(offset)
    elif waiting.beyond is None:
        waiting.beyond = offset


def _merge(waiting: _Waiting, found: _Waiting) -> None:
    """Put what was found in line with what waits, by offset; what lies behind an end of either is looked for again."""
    beyond = min((each for each in (waiting.beyond, found.beyond) if each is not None), default=None)
    offsets = sorted({*waiting.offsets, *found.offsets})
    offsets = offsets if beyond is None else [offset for offset in offsets if offset < beyond]
    if len(offsets) > INDEXED:
        beyond = offsets[INDEXED]
    waiting.offsets = deque(offsets[:INDEXED])
    waiting.beyond = beyond
    waiting.messages += found.messages


def _oldest(waiting: _Waiting, end: int) -> int:
    if waiting.offsets:
        return waiting.offsets[0]
    return end if waiting.beyond is None else waiting.beyond


def _device_of(record: TelemetryRecord) -> str:
    return record.strings[int(record.messages["device"][0])]


def _parts(messages: list[Message], most: int) -> Iterator[list[Message]]:
    part: list[Message] = []
    readings = 0
    for message in messages:
        if part and (len(part) == most or readings + len(message.readings) > RECORD_READINGS):
            yield part
            part, readings = [], 0
        part.append(message)
        readings += len(message.readings)
    if part:
        yield part
