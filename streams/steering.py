"""What every driver changes in Faust's consumer: it reads where the lanes are, drops nothing, and never sleeps."""

from __future__ import annotations

from typing import Any

from faust.types import TP


class _NothingRead(dict[TP, int]):
    """Faust's memory of read offsets, by which it drops what it takes for old: lanes decide that themselves."""

    def __getitem__(self, tp: TP) -> None:  # type: ignore[override]
        return None

    def __setitem__(self, tp: TP, offset: int | None) -> None:
        return None


class Steered:
    """Goes before Faust's consumer among a driver's base classes; `app.owned` says what is to be read."""

    app: Any
    can_rejoin = False
    """Whether the driver has a `rejoin`, which has partitions handed out anew; where not, a fenced worker ends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset = _NothingRead()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Tell the owner first: it takes over only what is assigned now, however late Faust asks it to."""
        self.app.owned.assigned = frozenset(assigned)
        await super().on_partitions_assigned(assigned, generation_id)  # type: ignore[misc]

    async def perform_seek(self) -> None:
        """Seek each partition to its lane's next offset. Faust calls this after a rebalance, and again as it likes."""
        await self.seek_wait({tp: lane.expected for tp, lane in self.app.owned.lanes.items()})  # type: ignore[attr-defined]

    async def check(self) -> None:
        """Raise what has ended our part in the handing out of partitions; a driver without one has nothing to raise."""

    def on_buffer_full(self, tp: TP) -> None:
        """Do nothing: `put` waits, and Faust's own way of slowing down sleeps for a second."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Do nothing, as nothing was taken out of fetching."""
