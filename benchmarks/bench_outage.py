"""(d) again, while the database is stopped: memory stays bounded, senders wait, nothing is lost, and it is caught up.

The publisher follows what the pipeline confirms, as the simulator does: with the database away it goes on until its
bound and waits. Readings are counted afterwards, in the table.
"""

import argparse
import sys
import threading
import time

import psycopg

from benchmarks.pipeline import Load, drive, memory_mb, say, stack
from benchmarks.report import report
from wardwatch.stack import Stack

WARM_ROUNDS = 6
STOPPED_AFTER_S = 3.0
OURS = ("ingest", "worker")


class Outage:
    """Stops the database for a while, and looks at what our processes hold meanwhile."""

    def __init__(self, started: Stack, seconds: float) -> None:
        self._stack, self._seconds = started, seconds
        self.most_mb = 0.0
        """The most that they held together."""
        self.stood_s = 0.0
        """How long it stood still."""
        self.back_s = 0.0
        """When it was back, on the monotonic clock."""
        self.stored = 0
        """Readings in the database then."""

    def run(self) -> None:
        time.sleep(STOPPED_AFTER_S)
        self._stack.parts.stop_database()
        stopped_s = time.monotonic()
        while time.monotonic() < stopped_s + self._seconds:
            self.most_mb = max(self.most_mb, held_mb())
            time.sleep(0.5)
        self._stack.parts.start_database()
        self.back_s = time.monotonic()
        self.stood_s = self.back_s - stopped_s
        self.stored = stored(self._stack)
        say(f"the database stood for {self.stood_s:.0f} s; the most that our processes held was {self.most_mb:.0f} MB")


def held_mb() -> float:
    """Resident memory of our own processes, in MB."""
    held = memory_mb()
    return sum(held[kind] for kind in OURS)


def stored(started: Stack) -> int:
    """Raw readings in the database."""
    with psycopg.connect(started.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM readings").fetchone()
    assert row is not None
    return int(row[0])


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short stop, fewer readings")
    given = parser.parse_args()
    rounds, stop_s = (24, 10.0) if given.quick else (60, 60.0)
    load = Load()
    with stack(load.devices) as started:
        drive(started, load, WARM_ROUNDS)
        undisturbed = drive(started, load, rounds, WARM_ROUNDS)
        say(f"undisturbed: {undisturbed.per_second:,.0f} readings/s")
        outage, before_mb, done = Outage(started, stop_s), held_mb(), WARM_ROUNDS + rounds
        happening = threading.Thread(target=outage.run, daemon=True)
        happening.start()
        disturbed = drive(started, load, rounds, done)
        ended_s = time.monotonic()
        happening.join()
        lost = (done + rounds) * load.round_readings - stored(started)
    left = (done + rounds) * load.round_readings - outage.stored
    report("outage_readings_lost", lost, "readings", at_most=0, note=f"of {disturbed.readings:,} published around it")
    note = f"ingest and worker, while the database stood for {outage.stood_s:.0f} s; {before_mb:.0f} MB before"
    report("outage_memory_mb", outage.most_mb - before_mb, "MB", at_most=512, note=note)
    catch_up = left / (ended_s - outage.back_s) / undisturbed.per_second
    report("outage_catch_up", catch_up, "x", at_least=0.8, note="readings/s from its return on, over undisturbed ones")
    return 0


if __name__ == "__main__":
    sys.exit(main())
