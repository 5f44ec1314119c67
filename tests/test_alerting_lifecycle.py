"""The life of an alert as a pure function: thresholds, durations, flaps, and what can never happen."""

import pytest
from alerting_help import HOUR, MINUTE, finding
from hypothesis import given
from hypothesis import strategies as st

from alerting.lifecycle import (
    Acknowledged,
    Alert,
    Closed,
    Elapsed,
    Judged,
    Signal,
    Transition,
    decide,
    duration,
    raised,
)
from alerting.policy import Policy

PATIENT = Policy(for_ms=2 * HOUR, keep_ms=3 * HOUR)
ONWARD = {
    "": {"pending"},
    "pending": {"firing", "resolved"},
    "firing": {"firing", "acknowledged", "resolved"},
    "acknowledged": {"acknowledged", "resolved"},
    "resolved": {"resolved"},
}


def begin(policy: Policy = PATIENT, flaps: int = 0) -> Alert:
    alert, _ = raised(finding("x", 0, 0.9), after_ms=None, flaps=flaps)
    return decide(alert, judged(0, 0.9), policy)[0]


def judged(at_ms: int, score: float) -> Judged:
    return Judged(at_ms, score, "warning", {})


def play(alert: Alert, policy: Policy, *signals: Signal) -> tuple[Alert, list[Transition]]:
    history = []
    for signal in signals:
        alert, transition = decide(alert, signal, policy)
        if transition is not None:
            history.append(transition)
    return alert, history


def states(history: list[Transition]) -> list[tuple[int, str]]:
    return [(each.at_ms // HOUR, each.to_state) for each in history]


def test_an_alert_fires_only_after_the_condition_has_held_long_enough() -> None:
    #  0h     1h     2h
    #  0.9    0.9    0.9
    #  pending ----- firing
    _, history = play(begin(), PATIENT, judged(HOUR, 0.9), judged(2 * HOUR, 0.9))
    assert states(history) == [(2, "firing")]


def test_a_condition_that_passes_early_never_fires() -> None:
    alert, history = play(begin(), PATIENT, judged(HOUR, 0.1))
    assert states(history) == [(1, "resolved")]
    assert alert.fired_ms is None


def test_a_score_between_the_thresholds_changes_nothing() -> None:
    fired, _ = play(begin(), PATIENT, judged(2 * HOUR, 0.9))
    after, history = play(fired, PATIENT, *[judged(hour * HOUR, 0.4) for hour in range(3, 40)])
    assert history == []
    assert after.state == "firing"


def test_an_alert_resolves_only_after_the_keep_time_below_the_lower_threshold() -> None:
    #  2h      3h     4h     5h     6h
    #  firing  0.1    0.1    0.1    0.1 -> resolved
    fired, _ = play(begin(), PATIENT, judged(2 * HOUR, 0.9))
    _, history = play(fired, PATIENT, *[judged(hour * HOUR, 0.1) for hour in range(3, 7)])
    assert states(history) == [(6, "resolved")]


def test_a_dip_within_the_keep_time_is_a_flap_and_doubles_the_keep_time() -> None:
    fired, _ = play(begin(), PATIENT, judged(2 * HOUR, 0.9))
    flapped, history = play(fired, PATIENT, judged(3 * HOUR, 0.1), judged(4 * HOUR, 0.9))
    assert (history, flapped.flaps) == ([], 1)
    _, history = play(flapped, PATIENT, *[judged(hour * HOUR, 0.1) for hour in range(5, 12)])
    assert states(history) == [(11, "resolved")]


def test_vanished_data_neither_fires_nor_resolves() -> None:
    pending, history = play(begin(), PATIENT, Elapsed(1000 * HOUR))
    assert (pending.state, history) == ("pending", [])
    low, _ = play(pending, PATIENT, judged(2 * HOUR, 0.9), judged(3 * HOUR, 0.1))
    assert play(low, PATIENT, Elapsed(1000 * HOUR)) == (low, [])


def test_severity_rises_and_falls_with_a_reason() -> None:
    fired, _ = play(begin(), PATIENT, judged(2 * HOUR, 0.9))
    after, history = play(fired, PATIENT, Judged(3 * HOUR, 0.9, "critical", {}), Judged(4 * HOUR, 0.9, "info", {}))
    assert [each.reason for each in history] == ["severity rose to critical", "severity fell to info"]
    assert (after.state, after.severity) == ("firing", "info")


def test_an_alert_begins_after_the_end_of_its_predecessor_and_has_another_id() -> None:
    first, _ = raised(finding("x", 5 * HOUR, onset_ms=HOUR), after_ms=None, flaps=0)
    second, _ = raised(finding("x", 9 * HOUR, onset_ms=HOUR), after_ms=8 * HOUR, flaps=0)
    assert second.onset_ms == 8 * HOUR + 1
    assert second.alert_id != first.alert_id


def test_what_is_over_can_still_be_judged_once() -> None:
    over, _ = play(begin(), PATIENT, Closed(HOUR, "repaired"))
    judged_once, history = play(over, PATIENT, Closed(2 * HOUR, "looked at", "ann", "confirmed"))
    assert [(each.from_state, each.to_state) for each in history] == [("resolved", "resolved")]
    assert play(judged_once, PATIENT, Closed(3 * HOUR, "again", "bob", "false")) == (judged_once, [])


@pytest.mark.parametrize(("length_ms", "words"), [(15 * MINUTE, "15 min"), (2 * HOUR, "2 h"), (48 * HOUR, "2 d")])
def test_durations_read_well(length_ms: int, words: str) -> None:
    assert duration(length_ms) == words


scores = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
severities = st.sampled_from(["info", "warning", "error", "critical"])
times = st.integers(-5 * HOUR, 40 * HOUR)
signals = st.one_of(
    st.builds(Judged, times, scores, severities, st.just({})),
    st.builds(Elapsed, times),
    st.builds(Acknowledged, times, st.just("ann")),
    st.builds(Closed, times, st.just("closed"), st.just("ann"), st.sampled_from(["", "confirmed", "false"])),
)
policies = st.builds(
    Policy,
    for_ms=st.sampled_from([0, HOUR]),
    keep_ms=st.sampled_from([0, 2 * HOUR]),
    by_ticks=st.booleans(),
)


@given(policies, st.lists(signals, max_size=30))
def test_every_transition_is_a_step_onward_with_a_reason_and_no_time_goes_back(
    policy: Policy, course: list[Signal]
) -> None:
    alert, first = raised(finding("x", 0), after_ms=None, flaps=0)
    _, rest = play(alert, policy, *course)
    history = [first, *rest]
    for before, after in zip([None, *history], history, strict=False):
        assert after.from_state == (before.to_state if before else "")
        assert after.to_state in ONWARD[after.from_state]
        assert after.reason
        assert before is None or after.at_ms >= before.at_ms


@given(policies, st.lists(signals, max_size=20))
def test_a_resolved_alert_is_never_acknowledged(policy: Policy, course: list[Signal]) -> None:
    over, _ = play(begin(policy), policy, Closed(HOUR, "closed", "ann", "false"))
    after, history = play(over, policy, *course)
    assert after.state == "resolved"
    assert all(each.to_state == "resolved" for each in history)


@given(policies, st.lists(signals, max_size=20), st.builds(Judged, times, scores, severities, st.just({})))
def test_the_same_judgement_twice_is_the_same_as_once(policy: Policy, course: list[Signal], again: Judged) -> None:
    once, _ = play(begin(policy), policy, *course, again)
    twice, history = play(once, policy, again)
    assert history == []
    assert twice == once
