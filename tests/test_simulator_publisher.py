"""Playing a scenario against a real broker: the clock's promises, last wills, back-pressure and what is sent again."""

import json
import threading
import time
from itertools import pairwise

import paho.mqtt.client as mqtt
import pytest
from fix_simulator import CLOCK, StandIn

from simulator.publisher import CLOCKS_UNCONFIRMED, play
from simulator.scenario import CLOCK_MS, Scenario
from simulator.tally import Progress
from simulator.truth import Totals
from simulator.wire import encode
from wardwatch.local import LocalParts


def clocks(bridge: StandIn) -> list[int]:
    return [json.loads(payload)["at"] for topic, payload in bridge.arrived if topic == CLOCK]


def played_aside(scenario: Scenario, url: str, stop: threading.Event, said: list[Progress]) -> threading.Thread:
    thread = threading.Thread(target=play, args=(scenario, url), kwargs={"stop": stop, "on_progress": said.append})
    thread.start()
    return thread


def test_a_whole_day_arrives_between_its_clocks(day_scenario: Scenario, mqtt_url: str, stand_in: StandIn) -> None:
    totals = play(day_scenario, mqtt_url)

    assert stand_in.wait(lambda: clocks(stand_in)[-1:] == [day_scenario.end_ms])
    at_ms = clocks(stand_in)
    assert at_ms == list(range(day_scenario.start_ms, day_scenario.end_ms + 1, CLOCK_MS))
    planned: dict[tuple[str, bytes], list[int]] = {}
    for each in day_scenario.publications():
        if each.kind != "join":
            planned.setdefault((each.topic, encode(each.body)), []).append(each.at_ms - each.at_ms % CLOCK_MS)
    now_ms = 0
    arrived: dict[tuple[str, bytes], list[int]] = {}
    for topic, payload in stand_in.arrived:
        if topic == CLOCK:
            now_ms = json.loads(payload)["at"]
        elif b'"offline"' not in payload:
            arrived.setdefault((topic, payload), []).append(now_ms)
    assert arrived == {key: when for key, when in planned.items() if b'"offline"' not in key[1]}
    assert totals == Totals(
        until_ms=day_scenario.end_ms,
        messages=totals.messages,
        readings_published_unique=sum(
            each.readings for each in day_scenario.publications() if each.kind == "telemetry"
        ),
        faults=totals.faults,
        births=totals.births,
        wills=len(day_scenario.course.outages),
        duplicates=totals.duplicates,
        malformed_sent=totals.malformed_sent,
        sent_again=0,
    )
    assert stand_in.most_waiting <= CLOCKS_UNCONFIRMED


def test_the_last_will_of_a_broken_gateway_comes_before_the_next_clock(
    day_scenario: Scenario, mqtt_url: str, stand_in: StandIn
) -> None:
    #  clock      cut         clock
    #  |-----------x--will------|
    play(day_scenario, mqtt_url)
    outage = day_scenario.course.outages[0]
    before_ms = 0
    wills = []
    for topic, payload in stand_in.arrived:
        if topic == CLOCK:
            before_ms = json.loads(payload)["at"]
        elif topic.endswith(f"/{outage.gateway_id}/state") and b'"offline"' in payload:
            wills.append(before_ms)
    assert wills == [outage.from_ms - outage.from_ms % CLOCK_MS]


def test_at_most_eight_clocks_run_ahead_of_the_bridge_and_the_wait_is_told(
    day_scenario: Scenario, mqtt_url: str, silent_stand_in: StandIn
) -> None:
    stop, said = threading.Event(), []
    thread = played_aside(day_scenario, mqtt_url, stop, said)
    assert silent_stand_in.wait(lambda: len(silent_stand_in.held) == CLOCKS_UNCONFIRMED)
    until_s = time.monotonic() + 10
    while not any("bridge" in each.waiting_for for each in said) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert any("bridge" in each.waiting_for and each.waiting_s >= 1 for each in said)
    assert len(silent_stand_in.held) == CLOCKS_UNCONFIRMED

    silent_stand_in.confirm()
    assert silent_stand_in.wait(lambda: len(clocks(silent_stand_in)) == 2 * CLOCKS_UNCONFIRMED)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_time_stands_still_while_staff_work(mqtt_url: str, stand_in: StandIn) -> None:
    scenario = Scenario(5, devices=4, customers=2, days=2)
    days: list[tuple[int, int]] = []

    def staff(at_ms: int) -> None:
        days.append((at_ms, len(stand_in.held)))
        assert clocks(stand_in)[-1] == at_ms

    play(scenario, mqtt_url, staff=staff)
    first_ms = scenario.start_ms + 8 * 3_600_000
    assert days == [(first_ms, 0), (first_ms + 86_400_000, 0)]


def test_speed_bounds_the_pace(mqtt_url: str, stand_in: StandIn) -> None:
    scenario = Scenario(5, devices=2, customers=1, days=1)
    began_s = time.monotonic()
    play(scenario, mqtt_url, speed=86_400 / 3)
    assert 3 <= time.monotonic() - began_s < 6
    assert all(later - earlier == CLOCK_MS for earlier, later in pairwise(clocks(stand_in)))


def test_what_nobody_confirmed_is_sent_again_over_a_new_connection(
    day_scenario: Scenario, mqtt_url: str, silent_stand_in: StandIn
) -> None:
    stop, said = threading.Event(), []
    thread = played_aside(day_scenario, mqtt_url, stop, said)
    assert silent_stand_in.wait(lambda: len(silent_stand_in.held) == CLOCKS_UNCONFIRMED)
    gateway_id = day_scenario.fleet.machines[0].gateway_id
    before = list(silent_stand_in.arrived)
    own = {machine.device_id for machine in day_scenario.fleet.machines if machine.gateway_id == gateway_id}
    sent = [payload for topic, payload in before if topic.split("/")[2] in own and topic.endswith("telemetry")]

    take_over(mqtt_url, gateway_id)

    def came_again() -> bool:
        later = [payload for _, payload in silent_stand_in.arrived[len(before) :]]
        return all(payload in later for payload in sent)

    assert sent
    assert silent_stand_in.wait(came_again)
    silent_stand_in.confirms = True
    silent_stand_in.confirm()
    thread.join(30)
    assert not thread.is_alive()
    assert clocks(silent_stand_in)[-1] == day_scenario.end_ms


def test_a_broker_that_has_forgotten_everything_gets_it_again(
    day_scenario: Scenario, parts: LocalParts, silent_stand_in: StandIn
) -> None:
    stop, said = threading.Event(), []
    thread = played_aside(day_scenario, parts.mqtt_url, stop, said)
    assert silent_stand_in.wait(lambda: len(silent_stand_in.held) == CLOCKS_UNCONFIRMED)
    silent_stand_in.held.clear()
    parts.kill_broker()
    silent_stand_in.confirms = True
    parts.start_broker()
    thread.join(60)
    assert not thread.is_alive()
    assert silent_stand_in.wait(lambda: clocks(silent_stand_in)[-1:] == [day_scenario.end_ms])


def test_what_a_broker_has_forgotten_comes_again_between_the_same_clocks(
    day_scenario: Scenario, parts: LocalParts, silent_stand_in: StandIn
) -> None:
    #  confirmed |  not confirmed                        |
    #  ----------|----|----x cut off ----|----|----|-----| killed
    bridge, outage = silent_stand_in, day_scenario.course.outages[0]
    stop_ms = outage.from_ms - outage.from_ms % CLOCK_MS - 6 * CLOCK_MS
    thread = played_aside(day_scenario, parts.mqtt_url, threading.Event(), [])
    while True:
        assert bridge.wait(lambda: len(bridge.held) == CLOCKS_UNCONFIRMED)
        if bridge.held[-1] >= stop_ms:
            break
        bridge.confirm()
    confirmed_ms = bridge.held[0] - CLOCK_MS
    parts.kill_broker()
    bridge.arrived.clear()
    bridge.held.clear()
    parts.start_broker()
    assert bridge.wait(lambda: len(bridge.held) > 0)
    bridge.confirms = True
    bridge.confirm()
    thread.join(60)
    assert not thread.is_alive()

    now_ms = confirmed_ms
    first_ms: dict[tuple[str, bytes], int] = {}
    for topic, payload in bridge.arrived:
        if topic == CLOCK:
            now_ms = max(now_ms, json.loads(payload)["at"])
        else:
            first_ms.setdefault((topic, payload), now_ms)
    expected_ms: dict[tuple[str, bytes], int] = {}
    for each in day_scenario.publications():
        if each.kind in ("telemetry", "malformed") and each.at_ms >= confirmed_ms:
            expected_ms.setdefault((each.topic, encode(each.body)), each.at_ms - each.at_ms % CLOCK_MS)
    assert {key: at_ms for key, at_ms in first_ms.items() if key in expected_ms} == expected_ms
    cut_off = {each.topic for each in day_scenario.publications() if each.gateway_id == outage.gateway_id}
    assert any(topic in cut_off and at_ms < outage.from_ms for (topic, _), at_ms in expected_ms.items())


def take_over(url: str, client_id: str) -> None:
    """Connect under somebody else's name, so that the broker breaks their connection, and leave again."""
    host, port = url.removeprefix("mqtt://").split(":")
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.connect(host, int(port))
    client.loop_start()
    assert connected.wait(10)
    client.disconnect()
    client.loop_stop()


def test_a_broker_that_is_not_there_is_waited_for_and_said(day_scenario: Scenario) -> None:
    stop, said = threading.Event(), []
    thread = played_aside(day_scenario, "mqtt://127.0.0.1:9", stop, said)
    until_s = time.monotonic() + 10
    while not said and time.monotonic() < until_s:
        time.sleep(0.05)
    stop.set()
    thread.join(10)
    assert said[0].waiting_for == "the broker"


@pytest.mark.parametrize("seed", [1, 2])
def test_a_stopped_run_says_how_far_it_came(seed: int, mqtt_url: str, stand_in: StandIn) -> None:
    scenario = Scenario(seed, devices=4, customers=2, days=2)
    stop = threading.Event()
    totals = play(scenario, mqtt_url, stop=stop, staff=lambda _: stop.set())
    assert totals.until_ms == scenario.start_ms + 8 * 3_600_000
    assert 0 < totals.messages < 400
    assert stand_in.wait(lambda: clocks(stand_in)[-1:] == [totals.until_ms])
