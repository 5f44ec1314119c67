"""The MQTT bridge: one paho client, one queue, one writer.

paho's thread only puts what comes into the queue; when that is full it waits, and the broker keeps the rest. The thread
that calls `Bridge.run` is the writer. The session is persistent and acknowledgement manual, so the broker keeps what is
not in the log, through a crash of this process too, and sends it again in order. (A shared subscription brings no
retained messages: births from before the first start of a bridge are not heard again, the next ones are.)

In wall-clock time a tick says that everything up to it has come. A bridge without its broker, or with a backlog of it
before itself, cannot say that: time would run ahead and every device seem silent. So after each connect the bridge
sends itself a mark, which comes behind the backlog, and ticks only from the mark to the loss of the connection.
"""

import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest.batch import Entry
from ingest.directory import DeviceDirectory
from ingest.intake import Arrival, Intake
from ingest.settings import BridgeConfig, BridgeStats
from ingest.ticks import Ticks
from ingest.writer import GaveUpError, Writer
from schema.catalogue import Catalogue
from schema.topics import CLOCK_TOPIC, MQTT_ROOT

SHARE = "$share/wardwatch"
SESSION_EXPIRY_S = 7 * 86_400
RECEIVE_MAXIMUM = 65_535
KEEPALIVE_S = 60
CONNECT_TIMEOUT_S = 3.0
RECONNECT_MAX_S = 30
SLICE = 1000
SUMMARY_EVERY_S = 60.0

_log = structlog.get_logger("ingest")


class Bridge:
    """Carries messages from a broker into `append` until it is stopped.

    `append` takes (log topic, partition, record) entries and returns when they are durable, all of them; `last_ticks`
    is the last tick that the log holds in each partition.
    """

    def __init__(
        self,
        config: BridgeConfig,
        *,
        catalogue: Catalogue,
        directory: DeviceDirectory,
        append: Callable[[Sequence[Entry]], object],
        last_ticks: Mapping[int, int],
    ) -> None:
        if directory.partitions != config.partitions:
            raise ValueError(f"partitions: {config.partitions}, but the directory has {directory.partitions}")
        self.stats = BridgeStats()
        self.subscribed = threading.Event()
        """Set while the broker delivers to this bridge; before the first time, what is published is lost."""
        self._config = config
        self._catalogue = catalogue
        self._directory = directory
        self._append = append
        self._last_ticks = last_ticks
        self._address = _address(config.mqtt_url)
        self._intake = Intake(max_count=config.queue_count, max_bytes=config.queue_bytes)
        self._mark_topic = f"{MQTT_ROOT}/_bridge/{config.source}"
        self._connection = 0
        self._connected = False
        self._mark = b""
        self._caught_up = False
        self._connection_lock = threading.Lock()
        self._client = self._make_client()

    @property
    def queued(self) -> int:
        """Arrivals that wait for the writer."""
        return len(self._intake)

    def run(self, stop: threading.Event) -> None:
        """Bridge until `stop` is set; then write what was taken, acknowledge it, and say that this source has left.

        What the queue still holds is left to the broker, which sends it again.
        """
        writer = self._make_writer(stop)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho has not typed it
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        host, port = self._address
        try:
            writer.start()
            self._client.connect_async(host, port, KEEPALIVE_S, clean_start=False, properties=properties)
            self._client.loop_start()
            self._work(writer, stop)
            self._intake.close()
            writer.leave()
        except GaveUpError as error:
            _log.warning("stopped with messages unwritten; the broker sends them again", error=str(error))
        finally:
            self._intake.close()
            self._client.disconnect()
            self._client.loop_stop()
            _log.info("stopped", source=self._config.source, **self.stats.as_dict())

    def _work(self, writer: Writer, stop: threading.Event) -> None:
        summary_at_s = time.monotonic() + SUMMARY_EVERY_S
        while not stop.is_set():
            for arrival in self._intake.take(SLICE, timeout_s=writer.patience_s()):
                if arrival.topic == self._mark_topic:
                    self._see_mark(arrival)
                else:
                    writer.take(arrival)
            writer.act(may_tick=self._caught_up)
            if time.monotonic() >= summary_at_s:
                summary_at_s = time.monotonic() + SUMMARY_EVERY_S
                _log.info("summary", connected=self._connected, queued=self.queued, **self.stats.as_dict())

    def _see_mark(self, arrival: Arrival) -> None:
        self._acknowledge([arrival])
        with self._connection_lock:
            if arrival.connection == self._connection and arrival.payload == self._mark:
                self._caught_up = True

    def _make_writer(self, stop: threading.Event) -> Writer:
        config = self._config
        return Writer(
            config,
            catalogue=self._catalogue,
            directory=self._directory,
            append=self._append,
            ticks=Ticks(config.source, config.partitions, self._last_ticks),
            acknowledge=self._acknowledge,
            publish=self._publish,
            stats=self.stats,
            stop=stop,
        )

    def _make_client(self) -> Client:
        url = urlsplit(self._config.mqtt_url)
        client = Client(CallbackAPIVersion.VERSION2, client_id=self._config.source, protocol=MQTTv5, manual_ack=True)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.reconnect_delay_set(1, RECONNECT_MAX_S)
        if url.username is not None:
            client.username_pw_set(unquote(url.username), None if url.password is None else unquote(url.password))
        if url.scheme == "mqtts":
            client.tls_set_context(ssl.create_default_context())
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _acknowledge(self, arrivals: Sequence[Arrival]) -> None:
        """Acknowledge what came on the present connection; of an earlier one the broker counts packets anew."""
        with self._connection_lock:
            for arrival in arrivals:
                if arrival.connection == self._connection:
                    self._client.ack(arrival.packet_id, arrival.qos)

    def _publish(self, topic: str, payload: bytes, qos: int) -> None:
        self._client.publish(topic, payload, qos)

    def _on_connect(
        self, client: Client, _userdata: Any, flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            _log.error("the broker refuses the connection", reason=str(reason))
            return
        with self._connection_lock:
            self._connection += 1
            self._connected = True
            self._mark = str(time.time_ns()).encode()  # one of an earlier connection may still be under way
        _log.info("connected", url=_without_password(self._config.mqtt_url), session_present=flags.session_present)
        own = CLOCK_TOPIC if self._config.clock == "simulated" else self._mark_topic
        no_retained = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        client.subscribe(
            [(f"{SHARE}/{MQTT_ROOT}/+/{kind}", SubscribeOptions(qos=1)) for kind in ("telemetry", "state")]
            + [(own, no_retained)]
        )
        if own == self._mark_topic:
            client.publish(self._mark_topic, self._mark, qos=1)

    def _on_connect_fail(self, _client: Client, _userdata: Any) -> None:
        _log.warning("the broker cannot be reached", url=_without_password(self._config.mqtt_url))

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: Any,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._connection_lock:
            self._connection += 1
            self._connected = self._caught_up = False
        self.subscribed.clear()
        if reason.is_failure:
            _log.warning("disconnected", reason=str(reason))

    def _on_subscribe(
        self, _client: Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            _log.error("the broker refuses a subscription", reasons=refused)
        else:
            self.subscribed.set()

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "(not UTF-8)"
        content_type = getattr(message.properties, "ContentType", None)
        self._intake.put(
            Arrival(topic, bytes(message.payload), content_type, message.mid, message.qos, self._connection)
        )


def _address(url: str) -> tuple[str, int]:
    """Return host and port of an MQTT URL.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        raise ValueError(f"mqtt_url: expected mqtt://host[:port], got {_without_password(url)!r}")
    return parts.hostname, parts.port or (8883 if parts.scheme == "mqtts" else 1883)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
