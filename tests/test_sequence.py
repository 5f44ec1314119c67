"""The order in which a device's messages are applied."""

from hypothesis import given
from hypothesis import strategies as st

from streams.sequence import Seen, Sequencer


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
