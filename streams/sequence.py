"""In which order a device's messages are applied, and which of them were seen before."""

from dataclasses import dataclass, field
from typing import Literal

Admission = Literal["apply", "hold", "duplicate"]

BOOTS_KEPT = 16
INTERVALS_KEPT = 256


@dataclass(slots=True)
class Seen:
    """Sequence numbers seen in one boot, as sorted disjoint half-open intervals.

    A backlog may follow live data, so the highest number alone does not tell. At most `INTERVALS_KEPT`: then the two
    intervals at the low end are joined, which takes the numbers between them as seen.
    """

    intervals: list[tuple[int, int]] = field(default_factory=list)

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
        if len(self.intervals) > INTERVALS_KEPT:
            self.intervals[:2] = [(self.intervals[0][0], self.intervals[1][1])]
        return True


@dataclass(slots=True)
class Sequencer:
    """Admits the messages of one device in (boot, seq) order.

    Only the message that follows the last applied one is applied as it comes. Everything else (a gap before it, another
    boot, a number from before) is held until the next tick and then taken in order: so the order of application does
    not depend on how messages were interleaved between two ticks.
    """

    boot: int = 0
    next_seq: int = 0
    seen: dict[int, Seen] = field(default_factory=dict)

    def admit(self, boot: int, seq: int) -> Admission:
        """Say what is to be done with a message that arrives; its number counts as seen from now on."""
        if not self.seen.setdefault(boot, Seen()).add(seq):
            return "duplicate"
        if len(self.seen) > BOOTS_KEPT:
            del self.seen[min(self.seen)]
        return "apply" if boot == self.boot and seq == self.next_seq else "hold"

    def applied(self, boot: int, seq: int) -> None:
        """Note that a message was applied; older ones than the newest leave the expectation as it is."""
        if (boot, seq) >= (self.boot, self.next_seq):
            self.boot, self.next_seq = boot, seq + 1

    def boot_after(self, boot: int) -> int:
        """The first known boot after an older one."""
        return min((each for each in self.seen if each > boot), default=self.boot)

    def follows(self, boot: int, seq: int) -> bool:
        """Tell whether a held message is now the next one."""
        return boot == self.boot and seq == self.next_seq
