"""End-to-end confirmation: what of a device's boot is in the log (or in the quarantine) for good.

`wardwatch/v1/{device_id}/confirmed` carries `{"boot", "from", "seq"}`: every message of this boot numbered from `from`
to `seq`, both included, has been written. `from` is the first number of that boot that the bridges have seen without a
gap since, so it is 1 unless they were started later than the device. Of several stretches the lowest is told, so `seq`
does not pass a gap: a sender that ignores `from` and forgets everything up to `seq` loses nothing that the bridges have
missed. A confirmation may be lost or come twice; the next one says it again.

Where several bridges share the devices' messages, none of them sees a stretch without gaps. So they tell each other
what they have written (`WRITTEN_TOPIC`), before they acknowledge it: what a dying bridge did not tell is delivered
again. To one that has just come they tell everything that they know. A device hears from one of them only.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice

import msgspec

BOOTS_KEPT = 8
"""Of a device, besides those that it is still to be told: the ones written last."""
BOOTS_OF_OTHERS_KEPT = 64
"""Of a device that another bridge tells: that one may die first."""
STRETCHES_KEPT = 1000
TOLD_AT_ONCE = 1000
"""Boots in one message between bridges."""

Place = tuple[str, int, int]
"""Device, boot and number of a message."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Messages `first` to `last` of a device's boot are written."""

    device_id: str
    boot: int
    first: int
    last: int


@dataclass(slots=True)
class _Boot:
    """Numbers written, as sorted disjoint stretches [first, last]; beyond `STRETCHES_KEPT` the lowest is given up."""

    stretches: list[list[int]] = field(default_factory=list)

    def add(self, first: int, last: int) -> bool:
        """Take the numbers from `first` to `last`, both included; False if all of them are there already."""
        stretches = self.stretches
        i = len(stretches)
        while i and stretches[i - 1][0] > first:
            i -= 1
        if i and first <= stretches[i - 1][1] + 1:
            i -= 1
            if last <= stretches[i][1]:
                return False
            stretches[i][1] = last
        else:
            stretches.insert(i, [first, last])
        while i + 1 < len(stretches) and stretches[i + 1][0] <= stretches[i][1] + 1:
            stretches[i][1] = max(stretches[i][1], stretches.pop(i + 1)[1])
        if len(stretches) > STRETCHES_KEPT:
            del stretches[0]
        return True


class Confirmations:
    """Collects what was written and tells it device by device, at most once an interval."""

    def __init__(self, *, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._told_ms: int | None = None
        self._boots: dict[str, dict[int, _Boot]] = {}
        self._news: dict[tuple[str, int], None] = {}

    def written(self, device_id: str, boot: int, first: int, last: int | None = None) -> bool:
        """Note that `first` to `last`, or one message, are in the log; False if all of them were known.

        What came again is news again, for its sender has not been told.
        """
        boots = self._boots.setdefault(device_id, {})
        boots[boot] = of_boot = boots.pop(boot, None) or _Boot()
        self._news[device_id, boot] = None
        return of_boot.add(first, first if last is None else last)

    def due(self, now_ms: int) -> bool:
        """Tell whether there is news and the interval since the last is over."""
        return bool(self._news) and (self._told_ms is None or now_ms - self._told_ms >= self._interval_ms)

    def tell(self, now_ms: int, is_ours: Callable[[str], bool] = lambda _: True) -> list[Confirmation]:
        """Return the news of the devices that are ours to tell, and forget that they are news."""
        self._told_ms = now_ms
        devices = {device_id: is_ours(device_id) for device_id, _ in self._news}
        ours = [(device_id, boot) for device_id, boot in self._news if devices[device_id]]
        for each in ours:
            del self._news[each]
        told = [Confirmation(device_id, boot, *self._boots[device_id][boot].stretches[0]) for device_id, boot in ours]
        for device_id, is_told in devices.items():
            self._forget(device_id, BOOTS_KEPT if is_told else BOOTS_OF_OTHERS_KEPT)
        return told

    def _forget(self, device_id: str, kept: int) -> None:
        boots = self._boots[device_id]
        for boot in list(boots)[:-kept] if len(boots) > kept else ():
            del boots[boot]
            self._news.pop((device_id, boot), None)

    def known(self) -> Iterator[bytes]:
        """Everything that is known, as messages for another bridge."""
        everything = (
            (device_id, number, [each for stretch in boot.stretches for each in stretch])
            for device_id, boots in self._boots.items()
            for number, boot in boots.items()
        )
        while some := list(islice(everything, TOLD_AT_ONCE)):
            yield _encoder.encode(some)

    def merge(self, payload: bytes) -> None:
        """Take what another bridge has written; what is no such message is left out."""
        try:
            told = _decoder.decode(payload)
        except msgspec.MsgspecError:
            return
        for device_id, boot, stretches in told:
            for first, last in zip(stretches[::2], stretches[1::2], strict=False):
                if first <= last:
                    self.written(device_id, boot, first, last)


def told_to_bridges(places: Iterable[Place]) -> Iterator[bytes]:
    """What was written, as messages for the other bridges."""
    boots = (
        (device_id, boot, [each for seq in dict.fromkeys(seq for _, _, seq in group) for each in (seq, seq)])
        for (device_id, boot), group in groupby(sorted(places), key=lambda place: place[:2])
    )
    while some := list(islice(boots, TOLD_AT_ONCE)):
        yield _encoder.encode(some)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[tuple[str, int, list[int]]])
