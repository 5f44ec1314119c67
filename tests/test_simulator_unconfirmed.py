"""What a gateway keeps until it is confirmed, and when a clock is."""

from simulator.clocks import Clocks
from simulator.unconfirmed import KEPT_MESSAGES, Sent, Unconfirmed


def sent(seq: int, boot: int = 1) -> Sent:
    return Sent("topic", b"%d" % seq, False, "mri-7", boot, seq)


def kept_numbers(kept: Unconfirmed) -> list[int]:
    return [each.seq for each in kept.messages()]


def test_a_confirmation_clears_its_own_stretch_only() -> None:
    # sent      1 2 3 4 5    of boot 1, and 2 of boot 9
    # confirmed   [---]
    kept = Unconfirmed()
    for seq in (1, 2, 3, 4, 5):
        kept.add(sent(seq))
    kept.add(sent(2, boot=9))
    kept.confirmed("mri-7", 1, 2, 4)
    assert kept_numbers(kept) == [1, 5, 2]


def test_a_backlog_that_follows_live_data_is_kept_until_its_own_confirmation() -> None:
    kept = Unconfirmed()
    for seq in (8, 9, 4, 5):
        kept.add(sent(seq))
    kept.confirmed("mri-7", 1, 8, 9)
    assert kept_numbers(kept) == [4, 5]


def test_a_confirmed_clock_clears_everything_before_it() -> None:
    kept = Unconfirmed()
    kept.add(sent(1))
    kept.add(Sent("topic", b"noise", False))
    mark = kept.mark()
    kept.add(sent(2))
    kept.confirmed_before(mark)
    assert kept_numbers(kept) == [2]


def test_a_message_sent_twice_leaves_nothing_behind() -> None:
    kept = Unconfirmed()
    kept.add(sent(1))
    kept.add(sent(1))
    mark = kept.mark()
    kept.confirmed("mri-7", 1, 1, 1)
    kept.confirmed_before(mark)
    assert len(kept) == 0


def test_beyond_its_bounds_the_oldest_are_given_up_and_counted() -> None:
    kept = Unconfirmed()
    for seq in range(1, KEPT_MESSAGES + 4):
        kept.add(sent(seq))
    assert len(kept) == KEPT_MESSAGES
    assert kept.given_up == 3
    assert kept_numbers(kept)[0] == 4


def test_a_confirmation_of_what_was_never_sent_changes_nothing() -> None:
    kept = Unconfirmed()
    kept.add(sent(1))
    kept.confirmed("ct-2", 1, 1, 9)
    assert kept_numbers(kept) == [1]


def test_a_clock_is_confirmed_when_every_bridge_has_said_so() -> None:
    clocks = Clocks(bridges=2)
    clocks.published(5, {"gw": 1})
    clocks.published(10, {"gw": 4})
    assert clocks.confirmed(10, "a") is None
    assert clocks.confirmed(5, "b") == {"gw": 1}
    assert clocks.waiting() == [10]
    assert clocks.confirmed(10, "b") == {"gw": 4}
    assert len(clocks) == 0


def test_a_bridge_that_repeats_itself_is_no_second_bridge() -> None:
    clocks = Clocks(bridges=2)
    clocks.published(5, {})
    assert clocks.confirmed(5, "a") is None
    assert clocks.confirmed(5, "a") is None
    assert clocks.waiting() == [5]
