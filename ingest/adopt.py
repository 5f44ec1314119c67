"""Taking over the broker's session of a bridge that is gone.

A broker may go on giving a dead bridge its share of the devices' messages (Mosquitto does, to every session of a shared
subscription), for as long as it keeps the session. So a bridge that is alive connects in the name of the dead one,
ends its subscriptions, takes what is queued as if it had come to itself, and then ends the session. If the dead bridge
comes back meanwhile, the broker gives the session to it and disconnects the adopter, who leaves it at that.
"""

from collections.abc import Callable
from typing import Any

import structlog
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ingest.connection import arrival_of, make_client, open_session
from ingest.intake import Arrival
from ingest.settings import BridgeConfig
from schema.topics import mark_topic

_log = structlog.get_logger("ingest")


class Adoption:
    """The session of `source`; `put` takes what comes from it, as of `connection`, the mark behind everything last."""

    def __init__(
        self, config: BridgeConfig, source: str, connection: int, put: Callable[[Arrival], None], shares: list[str]
    ) -> None:
        self.source = source
        self.connection = connection
        self.lost = False
        """The session belongs to somebody else, or could not be had."""
        self._put = put
        self._shares = shares
        self._client = make_client(config.mqtt_url, source, config.tls, reconnect=False, manual_ack=True)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_unsubscribe = self._on_unsubscribe
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        open_session(self._client, config.mqtt_url)

    def acknowledge(self, arrival: Arrival) -> None:
        """Tell the broker that an arrival of this connection is written."""
        self._client.ack(arrival.packet_id, arrival.qos)

    def finish(self) -> None:
        """Everything is written and acknowledged: end the session."""
        properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call] # paho has not typed it
        properties.SessionExpiryInterval = 0
        self._client.disconnect(properties=properties)
        self._client.loop_stop()

    def give_up(self) -> None:
        """Leave the session as it is."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: Client, _userdata: Any, flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self.lost = True
            return
        _log.info("taking over a session", of=self.source, session_present=flags.session_present)
        client.subscribe(mark_topic(self.source), 1)
        client.unsubscribe(self._shares)

    def _on_connect_fail(self, _client: Client, _userdata: Any) -> None:
        self.lost = True

    def _on_unsubscribe(self, client: Client, *_: Any) -> None:
        client.publish(mark_topic(self.source), str(self.connection), 1)

    def _on_disconnect(self, *_: Any) -> None:
        self.lost = True

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self._put(arrival_of(message, self.connection))
