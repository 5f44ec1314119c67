"""Which other bridges there are, by their heartbeats; time is the process's own, in seconds, and an argument.

A bridge that was not heard for `timeout_s` is given up: another one says `left` for it, so that time goes on. If it was
alive after all, its next tick makes it count again. A record of the dead one may still come after the `left`, so that
is said again, ever more rarely, until the bridge is back.
"""

from dataclasses import dataclass
from zlib import crc32


@dataclass(slots=True)
class _Peer:
    heard_s: float
    life: int
    """Number that a bridge chooses anew whenever it has begun to listen."""
    stopped: bool = False
    """It has left in order."""
    give_up_s: float = 0.0
    """When to say `left` for it, 0 for when its time is over."""


class Peers:
    """The other bridges, as one of them sees them."""

    def __init__(self, source: str, *, timeout_s: float) -> None:
        self._source = source
        self._timeout_s = timeout_s
        self._peers: dict[str, _Peer] = {}

    def know(self, source: str, now_s: float) -> None:
        """Take for alive, until its time is over, a bridge that somebody else has told of."""
        if source != self._source:
            self._peers.setdefault(source, _Peer(now_s, 0))

    def heard(self, source: str, life: int, now_s: float, *, stopped: bool = False) -> bool:
        """Note a heartbeat; True if the bridge has begun to listen since the last one, and must be told everything."""
        if source == self._source:
            return False
        before = self._peers.get(source)
        heard_s = before.heard_s if before is not None and stopped and before.stopped else now_s
        self._peers[source] = _Peer(heard_s, life, stopped)
        return not stopped and (before is None or before.stopped or before.life != life)

    def forget(self, source: str) -> None:
        """A bridge is gone for good."""
        self._peers.pop(source, None)

    def resume(self, now_s: float) -> None:
        """This bridge has not listened for a while: what it did not hear says nothing."""
        for peer in self._peers.values():
            peer.heard_s = now_s

    def alive(self, now_s: float) -> list[str]:
        """Return the bridges that are alive, sorted, this one among them."""
        others = [name for name, peer in self._peers.items() if not peer.stopped and not self._is_over(peer, now_s)]
        return sorted([self._source, *others])

    def absent(self, now_s: float) -> list[str]:
        """Return the bridges that have not been there for `timeout_s`, dead or stopped."""
        return sorted(name for name, peer in self._peers.items() if self._is_over(peer, now_s))

    def given_up(self, now_s: float) -> list[str]:
        """Return the bridges for which `left` is to be said now; each comes again when twice the time has passed."""
        due = [
            name
            for name, peer in self._peers.items()
            if not peer.stopped and self._is_over(peer, now_s) and now_s >= peer.give_up_s
        ]
        for name in due:
            self._peers[name].give_up_s = now_s + (now_s - self._peers[name].heard_s)
        return sorted(due)

    def is_ours(self, device_id: str, alive: list[str]) -> bool:
        """Tell whether it is this one of the bridges alive that tells a device what is written."""
        return len(alive) == 1 or alive[crc32(device_id.encode()) % len(alive)] == self._source

    def _is_over(self, peer: _Peer, now_s: float) -> bool:
        return now_s - peer.heard_s >= self._timeout_s
