"""The fleet's messages before the real decoder: what is malformed is refused whole, everything else is taken whole."""

import pytest

from ingest.decode import Decoder, device_in
from ingest.directory import KnownDevice
from schema.messages import Message
from simulator.offline import clock_before, messages
from simulator.scenario import Scenario
from simulator.truth import Count
from simulator.wire import encode


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_decoder_refuses_the_malformed_whole_and_takes_the_rest_whole(seed: int) -> None:
    scenario = Scenario(seed, devices=20, customers=4, days=10)
    decoder = Decoder(scenario.catalogue)
    known = {
        device.device_id: KnownDevice(device.device_id, device.model, device.customer_id, 0)
        for device in scenario.registry.devices
    }
    reasons: set[str] = set()
    taken: list[Message] = []
    for each in scenario.publications():
        if each.kind == "join":
            continue
        found = decoder.decode(
            each.topic,
            encode(each.body),
            device=known.get(device_in(each.topic) or ""),
            receive_ms=clock_before(scenario, each.at_ms),
        )
        if each.kind == "malformed":
            assert found.message is None
            assert found.refused is not None
            reasons.add(found.refused.reason)
        else:
            assert found.refused is None
            assert found.message is not None
            if each.kind != "duplicate":
                taken.append(found.message)
    assert len(reasons) >= 3
    assert sum(len(message.readings) for message in taken) == sum(
        sum(fact.days.values()) for fact in scenario.facts() if isinstance(fact, Count)
    )
    assert taken == list(messages(scenario))


def test_malformed_messages_are_refused_for_many_reasons() -> None:
    reasons: set[str] = set()
    for seed in range(12):
        scenario = Scenario(seed, devices=20, customers=4, days=10)
        decoder = Decoder(scenario.catalogue)
        for each in scenario.publications():
            if each.kind == "malformed":
                track = scenario.track_of[each.device_id]
                named = device_in(each.topic)
                device = KnownDevice(each.device_id, track.machine.model, track.machine.customer_id, 0)
                found = decoder.decode(
                    each.topic,
                    encode(each.body),
                    device=device if named == each.device_id else None,
                    receive_ms=clock_before(scenario, each.at_ms),
                )
                assert found.message is None
                assert found.refused is not None
                reasons.add(found.refused.reason)
    assert {
        "invalid_json",
        "invalid_payload",
        "unknown_device",
        "topic_mismatch",
        "timestamp_ahead",
        "out_of_range",
        "unknown_metric",
        "privacy",
    } <= reasons


@pytest.mark.parametrize(("devices", "customers", "days"), [(3, 4, 10), (3, 0, 10), (3, 1, 0)])
def test_a_scenario_without_days_or_devices_is_refused(devices: int, customers: int, days: int) -> None:
    with pytest.raises(ValueError, match="at least one day"):
        Scenario(1, devices, customers, days)
