"""Somebody at the broker, for tests of the bridge."""

import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.bridge import Bridge
from schema.topics import CLOCK_TOPIC
from wardwatch.local import LocalParts

PATIENCE_S = 10.0
T0 = 1_764_000_000_000
STEP_MS = 300_000


class Peer:
    """A device, the simulator, anybody else at the broker."""

    def __init__(self, parts: LocalParts, *subscriptions: str) -> None:
        self.heard: list[tuple[str, Any]] = []
        self._changed = threading.Condition()
        self._client = connected(parts.mqtt_url, f"peer-{random.getrandbits(40)}", subscriptions, self._on_message, 60)

    def publish(
        self, topic: str, payload: bytes | dict[str, Any], content_type: str | None = None, *, wait: bool = True
    ) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # paho has not typed it
        if content_type is not None:
            properties.ContentType = content_type
        data = payload if isinstance(payload, bytes) else json.dumps(payload)
        sent = self._client.publish(topic, data, 1, properties=properties)
        if wait:
            sent.wait_for_publish(PATIENCE_S)

    def clock(self, step: int) -> None:
        self.publish(CLOCK_TOPIC, {"at": T0 + step * STEP_MS})

    def wait_for(self, topic: str, payload: Any) -> None:
        self.wait_until(lambda: (topic, payload) in self.heard)

    def listen(self, seconds: float) -> None:
        """Wait for the next message, for so long at most."""
        with self._changed:
            self._changed.wait(seconds)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that may come true with what is heard."""
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_S), self.heard[-5:]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        with self._changed:
            self.heard.append((message.topic, json.loads(message.payload)))
            self._changed.notify_all()


def connected(
    url: str, name: str, subscriptions: Sequence[str] = (), on_message: Any = None, session_s: int = 0
) -> Client:
    """Connect with a new session that lasts `session_s` beyond the connection, through a restart of the broker."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho has not typed it
    properties.SessionExpiryInterval = session_s
    client = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTv5)
    up = threading.Event()

    def on_connect(*_: Any) -> None:
        for topic in subscriptions:
            client.subscribe(topic, 1)
        up.set()

    client.on_connect = on_connect
    client.on_message = on_message
    host, _, port = url.removeprefix("mqtt://").partition(":")
    client.connect(host, int(port), clean_start=MQTT_CLEAN_START_FIRST_ONLY, properties=properties)
    client.loop_start()
    assert up.wait(PATIENCE_S)
    return client


@contextmanager
def running(bridge: Bridge) -> Iterator[Bridge]:
    """Run a bridge in a thread, subscribed, for the time of the context."""
    stop = threading.Event()
    thread = threading.Thread(target=bridge.run, args=(stop,))
    thread.start()
    try:
        assert bridge.subscribed.wait(PATIENCE_S)
        yield bridge
    finally:
        stop.set()
        thread.join(5)
        assert not thread.is_alive()


def forget_session(parts: LocalParts, source: str) -> None:
    """Take over a stopped bridge's session and end it: the broker would keep on queueing for it."""
    client = connected(parts.mqtt_url, source)
    client.disconnect()
    client.loop_stop()
