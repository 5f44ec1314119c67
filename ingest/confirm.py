"""End-to-end confirmation: what of a device's boot is in the log (or in the quarantine) for good.

`wardwatch/v1/{device_id}/confirmed` carries `{"boot", "from", "seq"}`: every message of this boot numbered from `from`
to `seq`, both included, has been written. `from` is the first number of that boot that this bridge has seen without a
gap since, so it is 1 unless the bridge was started later than the device. Of several stretches the lowest is told, so
`seq` does not pass a gap: a sender that ignores `from` and forgets everything up to `seq` loses nothing that this
bridge has missed. A confirmation may be lost or come twice; the next one says it again.
"""

from dataclasses import dataclass, field

BOOTS_KEPT = 4
STRETCHES_KEPT = 64


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

    def add(self, seq: int) -> None:
        stretches = self.stretches
        i = len(stretches)
        while i and stretches[i - 1][0] > seq:
            i -= 1
        if i and seq <= stretches[i - 1][1] + 1:
            i -= 1
            stretches[i][1] = max(stretches[i][1], seq)
        else:
            stretches.insert(i, [seq, seq])
        if i + 1 < len(stretches) and stretches[i + 1][0] == stretches[i][1] + 1:
            stretches[i][1] = stretches.pop(i + 1)[1]
        if len(stretches) > STRETCHES_KEPT:
            del stretches[0]


class Confirmations:
    """Collects what was written and tells it device by device, at most once an interval."""

    def __init__(self, *, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._told_ms: int | None = None
        self._boots: dict[str, dict[int, _Boot]] = {}
        self._news: dict[tuple[str, int], None] = {}

    def written(self, device_id: str, boot: int, seq: int) -> None:
        """Note a message that is in the log; again for one that came again, for its sender has not been told."""
        boots = self._boots.setdefault(device_id, {})
        if boot not in boots:
            boots[boot] = _Boot()
            if len(boots) > BOOTS_KEPT:
                oldest = min(boots)
                del boots[oldest]
                self._news.pop((device_id, oldest), None)
                if boot == oldest:
                    return
        boots[boot].add(seq)
        self._news[device_id, boot] = None

    def due(self, now_ms: int) -> bool:
        """Tell whether there is news and the interval since the last is over."""
        return bool(self._news) and (self._told_ms is None or now_ms - self._told_ms >= self._interval_ms)

    def tell(self, now_ms: int) -> list[Confirmation]:
        """Return the news and forget that they are."""
        news, self._news, self._told_ms = self._news, {}, now_ms
        return [Confirmation(device_id, boot, *self._boots[device_id][boot].stretches[0]) for device_id, boot in news]
