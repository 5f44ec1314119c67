"""Workers that share a Kafka's partitions come and go under load: each record once, and how long they stand still."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest
from streaming_world import World, assert_each_number_was_entered_once, entered, load, longest_stand, until

from streams.worker import REBALANCE_WITHIN_S

LOAD_S = 1.0


def shares(world: World, workers: int) -> bool:
    """Whether the newest records come from that many workers, each with as many partitions."""
    newest = [rows[-1][1] for rows in entered(world).values() if rows]
    return sorted(newest.count(worker) for worker in set(newest)) == [6 // workers] * workers


def test_each_record_is_entered_once_while_one_worker_becomes_three_and_then_two(
    shared: World, record_property: pytest.RecordProperty
) -> None:
    with load(shared) as said:
        first = shared.start(instance=None)
        until(lambda: shares(shared, 1))
        stands = {}

        grown_s = time.time()
        stay = [shared.start(instance=None, load_s=LOAD_S) for _ in range(2)]
        until(lambda: shares(shared, 3))
        stands["1 to 3"] = {number: longest_stand(rows, grown_s) for number, rows in entered(shared).items()}

        moving = {number for number, rows in entered(shared).items() if rows[-1][1] == str(first.pid)}
        given_up = [shared.said(worker).count("gave up") for worker in stay]
        shrunk_s = time.time()
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=8) == 0
        until(lambda: shares(shared, 2))
        assert [shared.said(worker).count("gave up") for worker in stay] == given_up
        stands["3 to 2"] = {number: longest_stand(rows, shrunk_s) for number, rows in entered(shared).items()}
    assert_each_number_was_entered_once(shared, said[0])
    for change, times in stands.items():
        shown = f"{change} workers: partitions stood still for {', '.join(f'{each:.2f}' for each in times.values())} s"
        print(shown)
        record_property(change, shown)
        assert max(times.values()) < 10
    shrunk = stands["3 to 2"]
    assert max(shrunk[number] for number in shrunk.keys() - moving) < min(shrunk[number] for number in moving)


def test_what_stays_goes_on_from_memory_and_a_named_worker_that_is_killed_and_comes_back_disturbs_nobody(
    shared: World,
) -> None:
    with load(shared) as said:
        stays = shared.start(instance="a")
        until(lambda: shares(shared, 1))
        goes = shared.start(instance="b")
        until(lambda: shares(shared, 2))
        assert shared.said(stays).count("kept") == 3
        assert shared.said(stays).count("gave up") == 3
        assert shared.said(goes).count("took") == 3
        before = shared.said(stays)
        goes.kill()
        goes.wait()
        again = shared.start(instance="b")
        until(lambda: str(again.pid) in {rows[-1][1] for rows in entered(shared).values()})
        assert shared.said(again).count("took") == 3
        assert shared.said(stays) == before
    assert_each_number_was_entered_once(shared, said[0])


def test_a_worker_that_joins_does_not_wait_for_one_that_loads_for_long(shared: World) -> None:
    def enters(worker: subprocess.Popen[str]) -> int:
        return [rows[-1][1] for rows in entered(shared).values() if rows].count(str(worker.pid))

    with load(shared) as said:
        loads = shared.start(wait=False, instance=None, load_s=3 * REBALANCE_WITHIN_S)
        until(lambda: "loads" in shared.said(loads))
        joins = shared.start(wait=False, instance=None)
        until(lambda: enters(joins) == 3, within_s=REBALANCE_WITHIN_S * 0.8)
        until(lambda: shared.said(loads).count("loads") > 1)
        loads.send_signal(signal.SIGTERM)
        assert loads.wait(timeout=8) == 0
        assert "took" not in shared.said(loads)
        until(lambda: enters(joins) == 6)
    assert_each_number_was_entered_once(shared, said[0])
