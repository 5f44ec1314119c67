"""The embedded log's own: offsets, durability, retention, and the lease of its one worker."""

from __future__ import annotations

import itertools
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.logs.embedded import EmbeddedLog
from streams.logs.file import (
    LeaseHeld,
    LeaseLost,
    LogBusy,
    LogFull,
    LogUnusable,
    UnknownPartition,
)
from streams.logs.lease import Lease

FOREVER_MS = 10**12
ANY_SIZE = 10**12


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"


@pytest.fixture
def log(path: Path) -> Iterator[EmbeddedLog]:
    with EmbeddedLog(path) as log:
        log.create_topic("telemetry", 2)
        yield log


def values(log: EmbeddedLog, partition: int = 0, offset: int = 0) -> list[bytes]:
    found: list[bytes] = []
    while records := log.read("telemetry", partition, offset + len(found)):
        assert [record.offset for record in records] == [
            *range(offset + len(found), offset + len(found) + len(records))
        ], "offsets are dense"
        found += [record.value for record in records]
    return found


def other_process(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


# --- appending and reading: tests/test_logs.py has what both logs promise ---


def test_an_append_to_an_unknown_partition_writes_nothing(log: EmbeddedLog) -> None:
    with pytest.raises(UnknownPartition, match="telemetry/7"):
        log.append([("telemetry", 0, b"a"), ("telemetry", 7, b"b")])
    assert values(log) == []


def test_a_full_disk_is_named_and_leaves_nothing_half_written(log: EmbeddedLog) -> None:
    log.append([("telemetry", 0, b"before")])
    pages = log._db.execute("PRAGMA page_count").fetchone()[0]
    log._db.execute(f"PRAGMA max_page_count = {pages + 4}")
    with pytest.raises(LogFull, match="nothing was written"):
        log.append([("telemetry", number % 2, bytes(20_000)) for number in range(10)])
    assert (values(log, 0), values(log, 1)) == ([b"before"], [])
    log._db.execute("PRAGMA max_page_count = 1000000")
    assert log.append([("telemetry", 0, b"after")]) == [1]


def test_threads_that_wait_for_each_other_share_one_transaction(path: Path) -> None:
    with EmbeddedLog(path, clock_ms=itertools.count(1).__next__) as log:  # asked once in each transaction
        log.create_topic("telemetry", 2)
        offsets = log.append([("telemetry", 0, b"first")])
        threads = [
            threading.Thread(target=lambda: offsets.extend(log.append([("telemetry", 0, b"x")] * 3))) for _ in range(8)
        ]
        with log.transaction():
            for thread in threads:
                thread.start()
            while len(log._waiting) < len(threads):
                time.sleep(0.001)
        for thread in threads:
            thread.join()
        assert sorted(offsets) == [*range(25)]
        assert {record.appended_ms for record in log.read("telemetry", 0, 1)} == {2}


def test_a_reader_notices_the_appends_of_others(log: EmbeddedLog, path: Path) -> None:
    with EmbeddedLog(path) as reader:
        assert reader.changed()
        assert not reader.changed()
        log.append([("telemetry", 0, b"a")])
        assert reader.changed()
        assert not reader.changed()


# --- several processes, and the end of some ---

APPEND_MANY = """
import sys
from pathlib import Path
from streams.logs.embedded import EmbeddedLog
path, name, groups = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with EmbeddedLog(path) as log:
    log.create_topic("telemetry", 2)
    for group in range(groups):
        entries = [("telemetry", n % 2, b"%s %d %d " % (name.encode(), group, n) + bytes(1000)) for n in range(6)]
        log.append(entries)
        print(group, flush=True)
"""


def test_offsets_stay_dense_when_four_processes_create_the_log_and_append_at_once(path: Path) -> None:
    processes = [other_process(APPEND_MANY, path, name, 40) for name in "abcd"]
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    with EmbeddedLog(path) as log:
        for partition in (0, 1):
            heads = [value.split(b" ")[:3] for value in values(log, partition)]
            for name in (b"a", b"b", b"c", b"d"):
                mine = [(int(group), int(number)) for who, group, number in heads if who == name]
                assert mine == [(group, number) for group in range(40) for number in range(partition, 6, 2)]


@pytest.mark.parametrize("confirmed_groups", [1, 13, 40])
def test_a_killed_appender_loses_nothing_confirmed_and_leaves_nothing_torn(path: Path, confirmed_groups: int) -> None:
    process = other_process(APPEND_MANY, path, "a", 1_000_000)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(confirmed_groups)]
    process.kill()
    lines += process.communicate()[0].splitlines(keepends=True)
    confirmed = int([line for line in lines if line.endswith("\n")][-1])
    with EmbeddedLog(path) as log:
        even, odd = ([int(value.split(b" ")[1]) for value in values(log, partition)] for partition in (0, 1))
        assert even == odd, "an append is there in all its partitions or in none"
        assert even == [group for group in range(even[-1] + 1) for _ in range(3)]
        assert even[-1] >= confirmed
        assert log.append([("telemetry", 0, b"next")]) == [len(even)]


def test_a_writer_gives_up_when_another_holds_the_lock_for_too_long(log: EmbeddedLog, path: Path) -> None:
    with EmbeddedLog(path, busy_timeout_ms=20) as hasty, log.transaction(), pytest.raises(LogBusy):
        hasty.append([("telemetry", 0, b"a")])


def make_text(path: Path) -> None:
    path.write_text("a text that is long enough to hold what could be a header " * 20)


def make_other_database(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE other (x)")
    db.close()


def make_newer_log(path: Path) -> None:
    with EmbeddedLog(path) as log:
        log._db.execute("PRAGMA user_version = 9")


def make_damaged_log(path: Path) -> None:
    EmbeddedLog(path).close()
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 8092 + path.read_bytes()[8192:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_text, "not a log file"),
        (make_other_database, "not a log"),
        (make_newer_log, "format 9"),
        (make_damaged_log, "damaged"),
    ],
)
def test_a_file_that_is_no_log_is_refused(path: Path, make: Callable[[Path], None], message: str) -> None:
    make(path)
    before = path.read_bytes()
    with pytest.raises(LogUnusable, match=message):
        EmbeddedLog(path)
    assert path.read_bytes() == before


# --- retention ---


def test_retention_by_size_takes_the_oldest_over_all_partitions(path: Path) -> None:
    # appended at   1   2   3   4   5   6
    # partition     0   1   0   1   0   1
    # size         10  10  10  10  10  10     at most 30 bytes: the first three go
    with EmbeddedLog(path, clock_ms=itertools.count(1).__next__) as log:
        log.create_topic("telemetry", 2)
        for number in range(6):
            log.append([("telemetry", number % 2, bytes(10))])
        floor = {("telemetry", 0): 3, ("telemetry", 1): 3}
        assert log.retain(max_bytes=30, max_age_ms=FOREVER_MS, floor=floor) == 3
        assert [log.start_offset("telemetry", partition) for partition in (0, 1)] == [2, 1]
        assert log.retain(max_bytes=30, max_age_ms=FOREVER_MS, floor=floor) == 0


# --- the lease ---

HOLD_LEASE = """
import sys
from pathlib import Path
from streams.logs.lease import Lease
from streams.logs.embedded import EmbeddedLog
lease = Lease.acquire(EmbeddedLog(Path(sys.argv[1])), "other")
print(lease.epoch, flush=True)
for _ in sys.stdin: pass
"""


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    EmbeddedLog(path).close()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_LEASE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"1\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.usefixtures("holder")
def test_a_live_worker_keeps_others_out(log: EmbeddedLog) -> None:
    with pytest.raises(LeaseHeld, match="other"):
        Lease.acquire(log, "me")


def test_the_lease_of_a_killed_worker_is_free_at_once(log: EmbeddedLog, holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    holder.wait()
    lease = Lease.acquire(log, "me")
    assert lease.epoch == 2
    lease.release()


def test_a_stopped_worker_can_be_replaced_by_force_and_the_path_then_means_the_new_one(
    log: EmbeddedLog, holder: subprocess.Popen[bytes]
) -> None:
    holder.send_signal(signal.SIGSTOP)
    lease = Lease.acquire(log, "me", force=True)
    lease.check()
    holder.kill()  # its lock on the old file goes with it; ours is on the new one
    holder.wait()
    with pytest.raises(LeaseHeld, match="me"):
        Lease.acquire(log, "third")
    lease.release()
    Lease.acquire(log, "third").release()


def test_a_worker_that_lost_its_lease_is_fenced(log: EmbeddedLog) -> None:
    old = Lease.acquire(log, "old")
    new = Lease.acquire(log, "new", force=True)
    assert (old.epoch, new.epoch) == (1, 2)
    with pytest.raises(LeaseLost, match="new"):
        old.check()
    with pytest.raises(LeaseLost, match="new"):
        old.renew()
    old.release()
    new.renew()
    new.release()


def test_a_lease_that_is_not_renewed_runs_out(log: EmbeddedLog) -> None:
    now = [0]

    def acquire(holder: str) -> Lease:
        return Lease.acquire(log, holder, ttl_ms=100, clock_ms=lambda: now[0])

    first = acquire("first")
    now[0] = 90
    first.renew()
    now[0] = 189
    with pytest.raises(LeaseHeld):
        acquire("second")
    now[0] = 190
    second = acquire("second")
    with pytest.raises(LeaseLost):
        first.renew()
    first.release()
    second.release()


def test_a_released_lease_is_free_and_no_descriptor_is_left(log: EmbeddedLog) -> None:
    before = [*Path("/proc/self/fd").iterdir()]
    for epoch in (1, 2):
        lease = Lease.acquire(log, "me")
        assert lease.epoch == epoch
        lease.release()
    assert [*Path("/proc/self/fd").iterdir()] == before
