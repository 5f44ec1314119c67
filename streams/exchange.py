"""Gets for a partition what the others have contributed (`streams.fleet`), from the table where they leave it.

A row is read before the tick that takes it in is applied, outside of any transaction, when everything before that tick
is committed. If it is not there yet, the partition waits with that tick (`streams.processor.Waits`).

That ends. Let c(p) be the last day that partition p has closed, in the database. With the tick that closes a later day
p asks for rows of days up to c(p), no more. Of all that wait take the one with the least c, and any other q. If q has
closed a day c(q) >= c(p), its row was committed with that tick, and p does not wait for q. If c(q) < c(p), q does not
wait itself, for p was the least of those, so q goes on and closes its next day. So does a partition that has just
begun: with its first day it asks for nothing that is not there. Nothing else may hold q up because p waits:

- one worker with all partitions: a lane that waits holds no transaction, takes no room from others and lets records
  pass by, which it reads again later (`streams.lane`), so Faust's one stream brings what the others need;
- ticks: the bridges write each to every partition, so a log that has a partition's next day has everybody's;
- the simulator: the bridge confirms a clock when the log has its ticks, whoever waits behind the log;
- a rebalance or a stop: the state is whole between two records, so a lane that waits is suspended at once, like an
  idle one, and whoever comes next asks again;
- a partition that runs days ahead in simulated time, or recomputes: what it asks for is as old as its own last day.

In simulated time a partition waits as long as it takes. In real time the others' alerts must not hang on one that
stands still: it had a whole day, now it gets `wait_s` more, then it is gone without, and what it contributed is taken
in a day later. That a clock decided so is written into the row that closes the day, in the same transaction; whoever
recomputes reads it there. Rows that were decided upon cannot be lost without what followed from them: the database's
log is in order.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from psycopg import Connection

from streams.fleet import Contribution, Fleet, Given
from streams.guarded import Guarded

WAIT_S = 60.0
"""In real time, how long rows that are a day late are waited for: some time more than a hand-over takes."""
TELL_AFTER_S = 5.0

log = structlog.get_logger()


class ContributionsGoneError(RuntimeError):
    """What a partition took in before is not there when it is recomputed: the database is not the one it was."""


class Exchange:
    """One owned partition's way to the contributions of the `partitions - 1` others.

    `wait_s` is how long they are waited for, None for as long as it takes.
    """

    def __init__(
        self, guarded: Guarded, partitions: int, wait_s: float | None, monotonic: Callable[[], float]
    ) -> None:
        self._guarded = guarded
        self._others = [number for number in range(partitions) if number != guarded.partition]
        self._wait_s = wait_s
        self._monotonic = monotonic
        self._since_s: float | None = None
        self._told = False

    async def ask(self, fleet: Fleet, day: int, *, again: bool) -> Given | None:
        """Return what the tick that closes `day` takes in; None if that must wait.

        `again` says that the tick is recomputed: then it is what it was.

        Raises:
            ContributionsGoneError: see the class.
            Fenced, CommitsLost: as `Guarded.look`.
        """
        if not self._others:
            return Given((), {})
        until = await (self._decided(fleet, day) if again else self._decide(fleet))
        if until is None:
            return None
        rows = await self._guarded.read(
            "SELECT day, partition, contribution FROM fleet_contributions"
            " WHERE day > %s AND day <= %s AND partition = ANY(%s)",
            (min(fleet.taken_of(other) for other in self._others), fleet.closed, self._others),
        )
        if rows is None:
            return None
        found = tuple(Contribution(*row) for row in rows if fleet.taken_of(row[1]) < row[0] <= until[row[1]])
        return Given(found, until)

    async def _decide(self, fleet: Fleet) -> dict[int, int] | None:
        until = await self._reach(fleet)
        if until is None:
            return None
        behind = [other for other, day in until.items() if day < fleet.closed]
        if behind and not self._patience_is_over(behind, fleet.closed):
            return None
        self._since_s, self._told = None, False
        return until

    async def _reach(self, fleet: Fleet) -> dict[int, int] | None:
        """The last day there is of each of the others, at most the last closed here; None if the database is away."""
        rows = await self._guarded.read("SELECT partition, max(day) FROM fleet_contributions GROUP BY partition", ())
        if rows is None:
            return None
        newest: Mapping[int, int] = dict(rows)
        return {
            other: min(fleet.closed, max(newest.get(other, 0), fleet.taken_of(other))) for other in self._others
        }

    def _patience_is_over(self, behind: Sequence[int], day: int) -> bool:
        now_s = self._monotonic()
        if self._since_s is None:
            self._since_s = now_s
        waited_s = now_s - self._since_s
        about = log.bind(partition=self._guarded.partition, behind=behind, day=day, waited_s=round(waited_s, 1))
        if self._wait_s is not None and waited_s >= self._wait_s:
            about.warning("goes without what other partitions have learnt")
            return True
        if waited_s >= TELL_AFTER_S and not self._told:
            self._told = True
            about.info("waits for what other partitions have learnt")
        return False

    async def _decided(self, fleet: Fleet, day: int) -> dict[int, int] | None:
        """What was taken in when the day was closed for the first time."""
        reach = await self._reach(fleet)
        rows = await self._guarded.read(
            "SELECT missed FROM fleet_contributions WHERE partition = %s AND day = %s", (self._guarded.partition, day)
        )
        if reach is None or rows is None:
            return None
        missed: dict[str, int] = rows[0][0] if rows else {}
        until = {other: missed.get(str(other), fleet.closed) for other in self._others}
        gone = [other for other in self._others if reach[other] < until[other]]
        if gone or not rows:
            raise ContributionsGoneError(
                f"partition {self._guarded.partition} cannot take in again what partitions {gone} had contributed"
                f" up to day {fleet.closed}, when it closed day {day}"
            )
        return until


def forget(connection: Connection[Any], partitions: int, settled: int | None) -> int | None:
    """Delete contributions of days before `settled`; return the first day that a newest cut may ask for now.

    That is to be handed in the next time, when a crash of the database cannot take those cuts back any more. None if
    some partition has no cut that says so.
    """
    if settled is not None:
        connection.execute("DELETE FROM fleet_contributions WHERE day < %s", (settled,))
    row = connection.execute("SELECT count(fleet_since), min(fleet_since) FROM partition_progress").fetchone()
    assert row is not None
    return row[1] if row[0] >= partitions else None
