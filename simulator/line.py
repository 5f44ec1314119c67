"""One MQTT connection driven from outside: many of them share one thread and one selector.

It speaks MQTT 3.1.1, as most gateways in the field do: without the properties of MQTT 5 a message costs paho a third
less.
"""

import contextlib
import selectors
import socket
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit
from zlib import crc32

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from simulator.unconfirmed import Sent

_KEEPALIVE_S = 600
_FIRST_RETRY_S = 0.1
_LAST_RETRY_S = 5.0
_GIVE_UP_S = 5.0


class Line:
    """A connection that opens itself again when it is lost, and says so: what to send again is its owner's business."""

    def __init__(
        self,
        name: str,
        url: str,
        selector: selectors.BaseSelector,
        *,
        subscriptions: list[tuple[str, int]],
        on_message: Callable[[str, bytes], None],
        on_restored: Callable[["Line"], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self._url = urlsplit(url)
        self._tls = tls
        self._selector = selector
        self._subscriptions = subscriptions
        self._on_message = on_message
        self._on_restored = on_restored
        self._client: mqtt.Client | None = None
        self._will: Sent | None = None
        self._wanted = False
        self._ready = False
        self._was_ready = False
        self._unacknowledged = 0
        self._retry_s = _FIRST_RETRY_S
        self._retry_at_s: float | None = None
        self._opened_at_s = 0.0

    @property
    def settled(self) -> bool:
        """Whether nothing is under way: closed on purpose, or connected with everything acknowledged."""
        return not self._wanted or (self._ready and self._unacknowledged == 0)

    @property
    def wanted(self) -> bool:
        """Whether it is to stand: opened, and neither cut nor closed."""
        return self._wanted

    @property
    def ready(self) -> bool:
        """Whether the connection stands and its subscriptions are made."""
        return self._ready

    def open(self, now_s: float, will: Sent | None = None) -> None:
        """Connect; `settled` says when it is done."""
        self._wanted, self._will, self._was_ready = True, will, False
        self._connect(now_s)

    def publish(self, sent: Sent) -> None:
        """Publish with QoS 1; without a connection nothing happens, for `on_restored` sends again what is kept."""
        if self._ready and self._client is not None:
            self._client.publish(sent.topic, sent.payload, qos=1, retain=sent.retain)
            self._unacknowledged += 1

    def cut(self) -> None:
        """Break the connection without a farewell, so that the broker publishes the last will."""
        self._wanted = False
        client, self._client = self._client, None
        if client is not None and (connection := client.socket()) is not None:
            _break(connection, client)
        self._down()

    def close(self) -> None:
        """Say farewell: the broker drops the last will."""
        self._wanted = False
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
        self._down()

    def serve(self, events: int, now_s: float) -> None:
        """Read and write what the socket is ready for."""
        client = self._client
        if client is None:
            return
        if events & selectors.EVENT_READ:
            client.loop_read()
            while isinstance(connection := client.socket(), ssl.SSLSocket) and connection.pending():
                client.loop_read()
        if client.want_write():
            client.loop_write()
        connection = client.socket()
        if connection is None:
            self._lost(now_s)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.want_write() else 0)
        if self._selector.get_key(connection).events != wanted:
            self._selector.modify(connection, wanted, self)

    def keep(self, now_s: float) -> None:
        """Keep the connection alive, or connect again when it is time to; to be called every second or so."""
        client = self._client
        if self._retry_at_s is not None and now_s >= self._retry_at_s:
            self._connect(now_s)
        elif client is not None:
            client.loop_misc()
            silent = not self._ready and now_s - self._opened_at_s > _GIVE_UP_S
            if silent or client.socket() is None:
                self._lost(now_s)

    def _connect(self, now_s: float) -> None:
        self._retry_at_s = None
        self._opened_at_s = now_s
        self._unacknowledged = 0
        client = mqtt.Client(CallbackAPIVersion.VERSION2, self.name, protocol=mqtt.MQTTv311, reconnect_on_failure=False)
        client.max_inflight_messages_set(0)
        client.max_queued_messages_set(0)
        client.connect_timeout = _GIVE_UP_S
        if self._url.username:
            password = self._url.password
            client.username_pw_set(unquote(self._url.username), None if password is None else unquote(password))
        if self._url.scheme == "mqtts":
            client.tls_set_context(self._tls or ssl.create_default_context())
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, qos=1, retain=True)
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_disconnect = self._disconnected
        client.on_publish = self._acknowledged
        client.on_message = self._arrived
        client.on_socket_open = self._socket_opened
        client.on_socket_close = self._socket_closed
        self._client = client
        port = self._url.port or (8883 if self._url.scheme == "mqtts" else 1883)
        try:
            client.connect(self._url.hostname or "localhost", port, keepalive=_KEEPALIVE_S)
        except OSError:
            self._lost(now_s)

    def _lost(self, now_s: float) -> None:
        client, self._client = self._client, None
        if client is not None and (connection := client.socket()) is not None:
            _break(connection, client)
        self._down()
        self._retry_at_s = now_s + self._retry_s * (0.75 + crc32(self.name.encode()) % 256 / 512)
        self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)

    def _down(self) -> None:
        self._ready = False
        self._unacknowledged = 0
        self._retry_at_s = None

    def _up(self) -> None:
        self._ready = True
        self._retry_s = _FIRST_RETRY_S
        again, self._was_ready = self._was_ready, True
        if again:
            self._on_restored(self)

    def _connected(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            return
        if self._subscriptions:
            client.subscribe(self._subscriptions)
        else:
            self._up()

    def _subscribed(
        self, _client: mqtt.Client, _data: Any, _mid: int, _reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        self._up()

    def _disconnected(
        self, client: mqtt.Client, _data: Any, _flags: Any, _reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if client is self._client:
            self._ready = False

    def _acknowledged(
        self, client: mqtt.Client, _data: Any, _mid: int, _reason: ReasonCode, _properties: Properties
    ) -> None:
        if client is self._client:
            self._unacknowledged -= 1

    def _arrived(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if not message.retain:  # retained is what was said before this connection, perhaps in an earlier run
            self._on_message(message.topic, bytes(message.payload))

    def _socket_opened(self, _client: mqtt.Client, _data: Any, connection: Any) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(connection, selectors.EVENT_READ, self)

    def _socket_closed(self, _client: mqtt.Client, _data: Any, connection: Any) -> None:
        self._selector.unregister(connection)


def _break(connection: Any, client: mqtt.Client) -> None:
    """End a connection so that both sides notice: the broker finds it closed without a farewell, paho cleans up."""
    with contextlib.suppress(OSError):  # the other side was quicker
        connection.shutdown(socket.SHUT_RDWR)
    client.loop_read()
