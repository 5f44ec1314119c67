"""The connection on which a bridge hears the others, and what the broker says of itself.

It is apart from the one for devices: that one stands still while the bridge takes nothing, and its session is kept by
the broker, which would queue heartbeats for a dead bridge. paho's thread only puts what comes into a queue.
"""

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ingest.connection import KEEPALIVE_S, address, make_client
from ingest.settings import Tls, is_source
from schema.topics import ALIVE_TOPICS, WRITTEN_TOPIC, alive_topic

HEARD_AT_MOST = 10_000


class Heartbeat(msgspec.Struct, omit_defaults=True):
    """What a bridge says of itself, retained by the broker."""

    source: str
    life: int
    """Chosen anew whenever the bridge has begun to listen."""
    stopped: bool = False
    dropped: int | None = None
    """The broker's counter of dropped messages as this bridge last saw it."""
    dropping: bool = False


class Heard(NamedTuple):
    """A message as it came."""

    topic: str
    payload: bytes


class PeerLine:
    """Hears heartbeats, what others have written, and `also` other topics."""

    def __init__(self, mqtt_url: str, source: str, also: Sequence[str], tls: Tls) -> None:
        self.life = 0
        """0 while nothing is heard; another number whenever something may have been missed."""
        self._address = address(mqtt_url)
        self._source = source
        self._topics = [ALIVE_TOPICS, WRITTEN_TOPIC, *also]
        self._heard: deque[Heard] = deque()
        self._client = make_client(mqtt_url, f"{source}-peers", tls)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message

    def open(self) -> None:
        """Connect, in a thread of paho's, now and whenever the connection is lost."""
        self._client.connect_async(*self._address, KEEPALIVE_S, clean_start=True)
        self._client.loop_start()

    def close(self, farewell: Heartbeat | None = None) -> None:
        """Disconnect, after a last heartbeat."""
        if farewell is not None and self.life:
            self.beat(farewell).wait_for_publish(1.0)
        self._client.disconnect()
        self._client.loop_stop()

    def take(self) -> list[Heard]:
        """Return what was heard since the last call, in order."""
        return [self._heard.popleft() for _ in range(len(self._heard))]

    def beat(self, heartbeat: Heartbeat) -> Any:
        """Say how this bridge is."""
        return self._client.publish(alive_topic(self._source), _encoder.encode(heartbeat), 1, retain=True)

    def clear(self, source: str) -> None:
        """Have the broker forget another bridge, which is gone for good."""
        self._client.publish(alive_topic(source), b"", 1, retain=True)

    def _on_connect(
        self, client: Client, _userdata: Any, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if not reason.is_failure:
            client.subscribe([(topic, 1) for topic in self._topics])

    def _on_subscribe(self, *_: Any) -> None:
        self.life = time.time_ns()

    def _on_disconnect(self, *_: Any) -> None:
        self.life = 0

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        if len(self._heard) >= HEARD_AT_MOST:  # the writer is stuck; it will be told everything anew
            self._heard.clear()
            self.life = time.time_ns()
        self._heard.append(Heard(message.topic, bytes(message.payload)))


def heartbeat_of(heard: Heard) -> Heartbeat | None:
    """Return what a bridge says of itself; None if it is no heartbeat, or not of the bridge that the topic names."""
    try:
        beat = _decoder.decode(heard.payload)
    except msgspec.MsgspecError:
        return None
    return beat if is_source(beat.source) and heard.topic == alive_topic(beat.source) else None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Heartbeat)
