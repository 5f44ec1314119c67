"""What a gateway has published and nobody has confirmed: kept, within bounds, to be sent again after a reconnect."""

from dataclasses import dataclass, field
from typing import NamedTuple

KEPT_MESSAGES = 5000


class Sent(NamedTuple):
    """A message as it was published; `seq` is 0 for what stands outside the sequence of its device."""

    topic: str
    payload: bytes
    retain: bool
    device_id: str = ""
    boot: int = 0
    seq: int = 0


@dataclass(slots=True)
class Unconfirmed:
    """Messages of one connection in the order of publishing; beyond `KEPT_MESSAGES` the oldest are given up."""

    given_up: int = 0
    _kept: dict[int, Sent] = field(default_factory=dict)
    _numbers: dict[tuple[str, int], dict[int, int]] = field(default_factory=dict)
    """By device and boot: sequence number to number here."""
    _next: int = 0

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, sent: Sent) -> None:
        """Keep a message that is about to be published."""
        self._kept[self._next] = sent
        if sent.seq:
            self._numbers.setdefault((sent.device_id, sent.boot), {})[sent.seq] = self._next
        self._next += 1
        if len(self._kept) > KEPT_MESSAGES:
            self._forget(next(iter(self._kept)))
            self.given_up += 1

    def confirmed(self, device_id: str, boot: int, first: int, last: int) -> None:
        """Forget the messages of a device's boot numbered from `first` to `last`, both included."""
        numbers = self._numbers.get((device_id, boot), {})
        for number in [number for seq, number in numbers.items() if first <= seq <= last]:
            self._forget(number)

    def mark(self) -> int:
        """A place in the order: everything added so far is before it."""
        return self._next

    def confirmed_before(self, mark: int) -> None:
        """Forget everything before a mark: a clock that came after it was confirmed by every bridge."""
        while self._kept and (oldest := next(iter(self._kept))) < mark:
            self._forget(oldest)

    def messages(self) -> list[Sent]:
        """What is kept, oldest first."""
        return list(self._kept.values())

    def before(self, mark: int | None, *, since: int = 0) -> list[Sent]:
        """What is kept of [since, mark), places in the order as `mark` told them; without a mark all since."""
        return [sent for number, sent in self._kept.items() if since <= number and (mark is None or number < mark)]

    def _forget(self, number: int) -> None:
        sent = self._kept.pop(number, None)
        if sent is not None and sent.seq:
            numbers = self._numbers.get((sent.device_id, sent.boot), {})
            if numbers.get(sent.seq) == number:
                del numbers[sent.seq]
            if not numbers:
                self._numbers.pop((sent.device_id, sent.boot), None)
