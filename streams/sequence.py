"""In which order a device's messages are applied, and which of them were seen before."""

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

Admission = Literal["apply", "hold", "duplicate", "forgotten"]
Opening = tuple[int, int, int]
"""A message's earliest reading (or fault): time in ms, slot, value. It tells two messages under one number apart."""
Count = Callable[[str], None]
"""Counts what was noticed, by name."""
Packed = tuple[int, int, int, list[tuple[int, list[tuple[int, int]], bytes]]]
"""`Sequencer.boot`, `next_seq`, `forgotten`; of each boot its number, intervals and openings."""

BOOTS_KEPT = 64
"""The newest of a device: an infusion pump that is switched on five times a day has them in two weeks."""
INTERVALS_KEPT = 256
OPENINGS_OF = range(1, 5)
"""Numbers of a boot's messages whose openings are kept: the first ones, for a restart begins with them."""
OPENINGS_KEPT = 32


@dataclass(slots=True)
class Seen:
    """Sequence numbers seen in one boot, as sorted disjoint half-open intervals.

    A backlog may follow live data, so the highest number alone does not tell. At most `INTERVALS_KEPT`: then the two
    intervals at the low end are joined, which takes the numbers between them as seen.
    """

    intervals: list[tuple[int, int]] = field(default_factory=list)
    openings: "array[int]" = field(default_factory=lambda: array("q"))
    """Four numbers each, oldest first: sequence number and `Opening`."""

    def add(self, seq: int) -> bool:
        """Note a number; False if it was seen before."""
        for i in range(len(self.intervals) - 1, -1, -1):
            first, stop = self.intervals[i]
            if seq > stop:
                self.intervals.insert(i + 1, (seq, seq + 1))
                break
            if seq >= first and seq < stop:
                return False
            if seq == stop:
                follows = self.intervals[i + 1][0] if i + 1 < len(self.intervals) else None
                if follows == seq + 1:
                    self.intervals[i : i + 2] = [(first, self.intervals[i + 1][1])]
                else:
                    self.intervals[i] = (first, seq + 1)
                break
            if seq == first - 1 and (i == 0 or self.intervals[i - 1][1] < seq):
                self.intervals[i] = (seq, stop)
                break
        else:
            self.intervals.insert(0, (seq, seq + 1))
        return True

    def shorten(self) -> bool:
        """Join intervals if there are too many; True if so."""
        if len(self.intervals) <= INTERVALS_KEPT:
            return False
        self.intervals[:2] = [(self.intervals[0][0], self.intervals[1][1])]
        return True

    def contradicts(self, seq: int, opening: Opening) -> bool:
        """Tell whether messages with this number are known, and none of them was this one."""
        ts_ms, slot, n = opening
        of_seq = [i for i in range(0, len(self.openings), 4) if self.openings[i] == seq]
        return bool(of_seq) and not any(
            ts_ms == self.openings[i + 1] and (slot != self.openings[i + 2] or n == self.openings[i + 3])
            for i in of_seq
        )

    def opened(self, seq: int, opening: Opening) -> None:
        """Remember how a message begins."""
        self.openings.extend((seq, *opening))
        if len(self.openings) > 4 * OPENINGS_KEPT:
            del self.openings[:4]
        elif len(self.openings) > 4 and self.openings[-8] > seq:  # one form, whatever the order of arrival
            rows = sorted(tuple(self.openings[i : i + 4]) for i in range(0, len(self.openings), 4))
            self.openings = array("q", [number for row in rows for number in row])


@dataclass(slots=True)
class Sequencer:
    """Admits the messages of one device in (boot, seq) order.

    Only the message that follows the last applied one is applied as it comes. Everything else (a gap before it, another
    boot, a number from before) is held until the next tick and then taken in order: so the order of application does
    not depend on how messages were interleaved between two ticks.

    A device whose clock does not survive a power cut may begin twice with the same boot and number one. It is told from
    a message that comes again by how the first messages of a boot begin (`Opening`): its numbers then count anew.

    Of a boot older than those that are kept nobody can tell whether a message was seen: it is for the quarantine.
    """

    boot: int = 0
    next_seq: int = 0
    seen: dict[int, Seen] = field(default_factory=dict)
    forgotten: int = -1
    """The newest boot that was forgotten."""

    def admit(self, boot: int, seq: int, opening: Opening | None, count: Count) -> Admission:
        """Say what is to be done with a message that arrives; its number counts as seen from now on."""
        seen = self.seen.get(boot)
        if seen is None:
            if boot <= self.forgotten:
                return "duplicate" if opening is None else "forgotten"
            seen = self.seen[boot] = Seen()
        if not seen.add(seq):
            if opening is None or seq not in OPENINGS_OF or not seen.contradicts(seq, opening):
                return "duplicate"
            count("boot_reused")
            seen.intervals = [(seq, seq + 1)]
            if boot == self.boot:
                self.next_seq = seq
        if opening is not None and seq in OPENINGS_OF:
            seen.opened(seq, opening)
        if seen.shorten():
            count("numbers_forgotten")
        return "apply" if boot == self.boot and seq == self.next_seq else "hold"

    def forget(self, count: Count) -> None:
        """Forget the oldest boots if there are too many; at a tick only, so that the order of arrival does not show."""
        for boot in sorted(self.seen)[:-BOOTS_KEPT] if len(self.seen) > BOOTS_KEPT else ():
            del self.seen[boot]
            self.forgotten = boot
            count("boot_forgotten")

    def missing(self, boot: int, seq: int) -> int:
        """How many messages are given up when this one is applied now: those between it and the last of its boot."""
        return max(0, seq - self.next_seq) if boot == self.boot else 0

    def applied(self, boot: int, seq: int) -> None:
        """Note that a message was applied; older ones than the newest leave the expectation as it is."""
        if (boot, seq) >= (self.boot, self.next_seq):
            self.boot, self.next_seq = boot, seq + 1

    def packed(self) -> Packed:
        """Plain values, for a snapshot."""
        seen = [(boot, each.intervals, each.openings.tobytes()) for boot, each in self.seen.items()]
        return self.boot, self.next_seq, self.forgotten, seen

    @classmethod
    def unpacked(cls, packed: Packed) -> Self:
        """The sequencer that `packed` wrote."""
        boot, next_seq, forgotten, packed_seen = packed
        seen = {number: Seen(spans, array("q", openings)) for number, spans, openings in packed_seen}
        return cls(boot, next_seq, seen, forgotten)

    def boot_after(self, boot: int) -> int:
        """The first known boot after an older one."""
        return min((each for each in self.seen if each > boot), default=self.boot)

    def follows(self, boot: int, seq: int) -> bool:
        """Tell whether a held message is now the next one."""
        return boot == self.boot and seq == self.next_seq
