"""Fixtures: a small scenario, and a stand-in for the bridge that confirms clocks and remembers what came."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import pytest

from simulator.scenario import Scenario

CLOCK = "wardwatch/v1/_clock"


@pytest.fixture(scope="session")
def small_scenario() -> Scenario:
    """Twenty devices in four hospitals for ten days."""
    return Scenario(7, devices=20, customers=4, days=10)


@pytest.fixture(scope="session")
def day_scenario() -> Scenario:
    """Eight devices in two hospitals for one day, one of them off line for some hours."""
    return Scenario(3, devices=8, customers=2, days=1)


@dataclass
class StandIn:
    """A client in the bridge's place. Everything it receives is in `arrived`, in order."""

    url: str
    name: str
    confirms: bool = True
    arrived: list[tuple[str, bytes]] = field(default_factory=list)
    most_waiting: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        address = urlsplit(self.url)
        self.held: list[int] = []
        self.ready = threading.Event()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, self.name)
        self.client.max_inflight_messages_set(0)
        self.client.on_connect = lambda client, *_: client.subscribe(
            [("wardwatch/v1/+/telemetry", 1), ("wardwatch/v1/+/state", 1), (CLOCK, 1)]
        )
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_message = lambda _client, _data, message: self._message(message)
        self.client.connect(address.hostname or "", address.port or 1883)
        self.client.loop_start()
        assert self.ready.wait(10)

    def _message(self, message: mqtt.MQTTMessage) -> None:
        if message.retain:
            return
        with self.changed:
            self.arrived.append((message.topic, bytes(message.payload)))
            if message.topic == CLOCK:
                self.held.append(json.loads(message.payload)["at"])
                self.most_waiting = max(self.most_waiting, len(self.held))
            self.changed.notify_all()
        if self.confirms:
            self.confirm()

    def confirm(self) -> None:
        """Confirm every clock that came."""
        with self.changed:
            held, self.held = self.held, []
        for at_ms in held:
            self.client.publish(f"{CLOCK}/confirmed", json.dumps({"at": at_ms, "source": self.name}), 1)

    def wait(self, condition: Callable[[], bool], timeout_s: float = 20) -> bool:
        """Wait until a condition on what arrived holds."""
        with self.changed:
            return self.changed.wait_for(condition, timeout_s)

    def stop(self) -> None:
        """Disconnect."""
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def stand_in(mqtt_url: str) -> Iterator[StandIn]:
    """A stand-in that confirms each clock as it comes."""
    bridge = StandIn(mqtt_url, "stand-in")
    yield bridge
    bridge.stop()


@pytest.fixture
def silent_stand_in(mqtt_url: str) -> Iterator[StandIn]:
    """A stand-in that confirms clocks only when told to."""
    bridge = StandIn(mqtt_url, "silent-stand-in", confirms=False)
    yield bridge
    bridge.stop()
