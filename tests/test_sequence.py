"""The order in which a device's messages are applied."""

import pickle
from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from test_order import START_MS, motor, partition, send

from schema.rows import QuarantineRow
from streams.partition import Partition
from streams.sequence import BOOTS_KEPT, Seen, Sequencer


def nothing(what: str) -> None:
    raise AssertionError(what)


@given(st.lists(st.integers(0, 60), max_size=120))
def test_a_number_is_new_exactly_once(numbers: list[int]) -> None:
    seen, before = Seen(), set[int]()
    for number in numbers:
        assert seen.add(number) == (number not in before)
        before.add(number)
    covered = {each for first, stop in seen.intervals for each in range(first, stop)}
    assert covered == before
    assert all(stop < following for (_, stop), (following, _) in zip(seen.intervals, seen.intervals[1:], strict=False))


def test_only_the_next_message_of_the_boot_is_applied_at_once() -> None:
    sequencer = Sequencer()
    assert sequencer.admit(1, 1, None, nothing) == "hold"
    sequencer.applied(1, 1)
    assert sequencer.admit(1, 2, None, nothing) == "apply"
    sequencer.applied(1, 2)
    assert sequencer.admit(1, 4, None, nothing) == "hold"
    assert sequencer.admit(2, 3, None, nothing) == "hold"
    assert sequencer.admit(1, 2, None, nothing) == "duplicate"


def test_a_late_message_does_not_move_the_expectation_back() -> None:
    sequencer = Sequencer(boot=1, next_seq=10)
    assert sequencer.admit(1, 4, None, nothing) == "hold"
    sequencer.applied(1, 4)
    assert sequencer.follows(1, 10)


def quarantined(known: Partition) -> set[bytes]:
    return {row.payload for row in known.effects.rows.values() if isinstance(row, QuarantineRow)}


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 2 * BOOTS_KEPT), st.data())
def test_however_many_boots_come_again_each_reading_is_stored_once(boots: int, data: st.DataObject) -> None:
    known, stored, refused = partition(), Counter[int](), set[bytes]()
    backlog = [motor(START_MS + boot, 1, boot) for boot in range(boots)]
    for _ in range(3):
        cuts = sorted(data.draw(st.sets(st.integers(0, boots), max_size=3)) | {0, boots})
        for begin, stop in pairwise(cuts):
            stored.update(send(known, *backlog[begin:stop]))
            refused |= quarantined(known)
        backlog = data.draw(st.permutations(backlog))
    assert stored == Counter(range(boots))
    assert len(refused) <= max(0, boots - BOOTS_KEPT)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(BOOTS_KEPT + 20)), st.integers(0, BOOTS_KEPT + 20))
def test_what_is_too_old_to_tell_is_quarantined_not_lost(order: list[int], cut: int) -> None:
    known = partition()
    backlog = [motor(START_MS + boot, 1, boot) for boot in order]
    stored = send(known, *backlog[:cut])
    stored += send(known, *backlog[cut:])
    assert len(stored) + len(quarantined(known)) == len(backlog)


def test_the_order_of_many_boots_between_two_ticks_does_not_show() -> None:
    known, other = partition(), partition()
    backlog = [motor(START_MS + boot, 1, boot) for boot in range(BOOTS_KEPT + 20)]
    assert send(known, *backlog) == send(other, *reversed(backlog))
    assert known.dump() == other.dump()
    assert known.devices["p"].sequencer.forgotten == START_MS + 19


def test_a_message_of_a_forgotten_boot_is_kept_as_the_device_has_said_it() -> None:
    known = partition()
    send(known, *(motor(START_MS + boot, 1, boot) for boot in range(1, BOOTS_KEPT + 2)))
    assert send(known, motor(START_MS, 1, 205)) == []
    (row,) = (row for row in known.effects.rows.values() if isinstance(row, QuarantineRow))
    assert (row.topic, row.reason) == ("log/0/messages", "boot_forgotten")
    assert b'"series":{"motor":[[%d,20.5]]}' % (START_MS + 60_000) in row.payload


def test_a_device_with_many_boots_stays_small() -> None:
    known = partition()
    for number in range(1, 5):
        send(known, *(motor(START_MS + boot, number, boot) for boot in range(BOOTS_KEPT)))
    assert len(pickle.dumps(known.devices["p"].sequencer.packed(), protocol=5)) < 12_000
