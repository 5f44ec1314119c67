"""What becomes of a message: the batch, the overflow, or the quarantine; and what is noticed on the way."""

import structlog

from ingest.batch import Batch, Entry
from ingest.confirm import Place
from ingest.decode import Decoder
from ingest.directory import DeviceDirectory, KnownDevice
from ingest.intake import Arrival
from ingest.overflow import Overflow
from ingest.quota import Quota
from ingest.settings import BridgeConfig, BridgeStats
from ingest.ticks import Ticks
from schema.catalogue import Catalogue
from schema.messages import Message, Refused
from schema.notices import Notice
from schema.record import encode_notices, received_anew
from schema.topics import TELEMETRY

SAY_AGAIN_MS = 3_600_000

_log = structlog.get_logger("ingest")


class Admission:
    """Decodes messages and puts them where they belong; `drain` gives away what is to be appended.

    A message's receive time is the last tick of its partition, or the wall clock (where one is given) if that is later;
    that of a message from the overflow is when it is admitted again.
    """

    def __init__(
        self,
        config: BridgeConfig,
        *,
        catalogue: Catalogue,
        directory: DeviceDirectory,
        ticks: Ticks,
        overflow: Overflow | None,
        stats: BridgeStats,
    ) -> None:
        self.places: list[Place] = []
        """Of what was drained or is about to be."""
        self.overflow = overflow
        self._source = config.source
        self._batch = Batch(source=config.source, max_readings=config.max_readings)
        self._decoder = Decoder(catalogue)
        self._directory = directory
        self._ticks = ticks
        self._stats = stats
        self._limited = config.quota_factor > 0 and overflow is not None
        intervals_ms = {name: model.message_interval_s * 1000 for name, model in catalogue.items()}
        self._quota = Quota(config.quota_factor or 1.0, intervals_ms)
        self._notices: list[tuple[int, Notice]] = []
        self._said_ms: dict[str, int] = {}
        """When it was last said of a device that it floods."""

    @property
    def approximate_bytes(self) -> int:
        """Size of what waits to be drained, but for the overflow."""
        return self._batch.approximate_bytes

    def take(self, arrival: Arrival, device: KnownDevice | None, *, wall_ms: int) -> None:
        """Decode a message of a device and put it where it belongs."""
        receive_ms = self._receive_ms(device, wall_ms)
        decoded = self._decoder.decode(
            arrival.topic, arrival.payload, device=device, receive_ms=receive_ms, content_type=arrival.content_type
        )
        message = decoded.message
        if message is not None and device is not None:
            self._stats.messages += 1
            self._stats.readings += len(message.readings)
            self._stats.ahead += decoded.ahead
            if self._limited and not self._is_admitted(message, device):
                self._overflows(message, device)
            else:
                self._batch.add(device.partition, message)
        if decoded.refused is not None:
            self.refuse(decoded.refused)
        if decoded.seq and device is not None:
            self.places.append((device.device_id, decoded.boot, decoded.seq))

    def refuse(self, entry: Refused) -> None:
        """Put something into the quarantine."""
        self._stats.refused[entry.reason] += 1
        self._batch.refuse(entry)
        _log.debug("refused", topic=entry.topic, reason=entry.reason, length=entry.length, sha256=entry.sha256)

    def notice(self, partition: int, notice: Notice) -> None:
        """Have a notice written."""
        self._notices.append((partition, notice))

    def drain(self) -> list[Entry]:
        """Give away what waits, in an order that keeps that of each partition."""
        for entry in self.overflow.refused() if self.overflow is not None else ():
            self.refuse(entry)
        entries = self._batch.drain()
        if self.overflow is not None:
            entries += self.overflow.drain()
        for partition, notice in self._notices:
            value = encode_notices([notice], source=self._source, receive_ms=notice.at_ms)
            entries.append((TELEMETRY, partition, value))
        self._notices = []
        return entries

    def remind(self) -> None:
        """Say of every device with something waiting that it floods: whoever overflowed it may not have come to it."""
        if self.overflow is not None:
            for device_id in self.overflow.devices():
                if (device := self._directory.known(device_id)) is not None:
                    self._note_flood(device)

    def due_again(self) -> list[KnownDevice]:
        """Return the devices that may have something admitted again now."""
        if self.overflow is None:
            return []
        known = [self._directory.known(device_id) for device_id in self.overflow.devices()]
        return [device for device in known if device is not None]

    def again(self, device: KnownDevice, wall_ms: int) -> Entry | None:
        """Admit the oldest record of a device again if its quota allows; None if not, or if none is in the log.

        What the log raises on reading it goes through; the call may be repeated.
        """
        assert self.overflow is not None
        now_ms = self._receive_ms(device, wall_ms)
        if self._limited and not self._quota.has_left(device.device_id, device.model, now_ms):
            return None
        found = self.overflow.next(device.device_id)
        if found is None:
            return None
        value, messages, readings = found
        if self._limited:
            self._quota.charge(device.device_id, messages, readings)
        return TELEMETRY, device.partition, received_anew(value, now_ms)

    def settle(self, device: KnownDevice, wall_ms: int) -> None:
        """Notice that a flood is over, if nothing waits and its quota has recovered; else say again that it lasts."""
        assert self.overflow is not None
        since_ms = self.overflow.facts(device.device_id)[0]
        now_ms = self._receive_ms(device, wall_ms)
        recovered = not self._limited or (
            self._quota.has_left(device.device_id, device.model, now_ms) and self._quota.is_calm(device.device_id)
        )
        if device.device_id in self.overflow or not recovered:
            if now_ms - self._said_ms.get(device.device_id, 0) >= SAY_AGAIN_MS:
                self._note_flood(device)
        else:
            self.overflow.forget(device.device_id)
            self._said_ms.pop(device.device_id, None)
            self.notice(device.partition, self._flood(device, False, now_ms, min(since_ms, now_ms), 0))
            _log.info("flood is over", device=device.device_id)

    def _is_admitted(self, message: Message, device: KnownDevice) -> bool:
        device_id = message.device_id
        if self.overflow is not None and device_id in self.overflow:
            return False
        return self._quota.spend(
            device_id,
            device.model,
            len(message.readings),
            receive_ms=message.receive_ms,
            sent_ms=message.sent_ms,
        )

    def _overflows(self, message: Message, device: KnownDevice) -> None:
        assert self.overflow is not None
        if self.overflow.add(message):
            self._note_flood(device)
            _log.warning("flood: messages beyond the quota wait", device=device.device_id)

    def _note_flood(self, device: KnownDevice) -> None:
        assert self.overflow is not None
        since_ms, waiting = self.overflow.facts(device.device_id)
        now_ms = max(since_ms, self._receive_ms(device, 0))
        self._said_ms[device.device_id] = now_ms
        self.notice(device.partition, self._flood(device, True, now_ms, since_ms, waiting))

    def _flood(self, device: KnownDevice, active: bool, at_ms: int, since_ms: int, waiting: int) -> Notice:
        return Notice(
            what="flood",
            source=self._source,
            active=active,
            at_ms=at_ms,
            since_ms=since_ms,
            device_id=device.device_id,
            facts={"quota_per_hour": round(self._quota.per_hour(device.model), 1), "waiting": waiting},
        )

    def _receive_ms(self, device: KnownDevice | None, wall_ms: int) -> int:
        last_ms = self._ticks.newest_ms() if device is None else self._ticks.last_ms(device.partition)
        return max(last_ms or 0, wall_ms) or self._ticks.newest_ms() or 0
