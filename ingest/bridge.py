"""The MQTT bridge: one paho client, one queue, one writer.

paho's thread only puts what comes into the queue; when that is full it waits, and the broker keeps the rest. The thread
that calls `Bridge.run` is the writer. The session is persistent and acknowledgement manual, so the broker keeps what is
not in the log, through a crash of this process too, and sends it again in order. (Retained messages are not asked for,
as a broker may bring them with each connection: births from before the first start of a bridge are not heard again, the
next ones are.)

In wall-clock time a tick says that everything up to it has come. A bridge without its broker, or with a backlog of it
before itself, cannot say that: time would run ahead and every device seem silent. So after each connect the bridge
sends itself a mark, which comes behind the backlog, and ticks only from the mark to the loss of the connection.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import structlog
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest.backlog import Backlog
from ingest.batch import Entry
from ingest.bulk import Plain
from ingest.connection import address, arrival_of, make_client, open_session, without_password
from ingest.directory import DeviceDirectory
from ingest.insist import GaveUpError
from ingest.intake import Arrival, Intake
from ingest.neighbours import SHARES, Neighbours
from ingest.overflow import Overflow, OverflowStore
from ingest.pressure import Pressure
from ingest.settings import BridgeConfig, BridgeStats
from ingest.strangers import Strangers
from ingest.ticks import Ticks
from ingest.writer import Writer
from schema.catalogue import Catalogue
from schema.topics import CLOCK_TOPIC, MQTT_ROOT, mark_topic

SLICE = 1000
SUMMARY_EVERY_S = 60.0
PAUSE_S = 0.1
STALLED_S = 1.0
"""After so long a standstill of the writer, what has come meanwhile is let in before the next tick."""

_log = structlog.get_logger("ingest")


class Bridge:
    """Carries messages from a broker into `append` until it is stopped.

    `append` takes (log topic, partition, record) entries and returns their offsets when they are durable, all of them;
    `last_ticks` is the last tick of this source that the log holds in each partition, `sources` are the others that
    count there. With a `backlog` that is too large nothing is taken. Without `overflow` there are no quotas.
    """

    def __init__(
        self,
        config: BridgeConfig,
        *,
        catalogue: Catalogue,
        directory: DeviceDirectory,
        append: Callable[[Sequence[Entry]], Sequence[int]],
        last_ticks: Mapping[int, int],
        sources: Sequence[str] = (),
        overflow: OverflowStore | None = None,
        backlog: Backlog | None = None,
    ) -> None:
        if directory.partitions != config.partitions:
            raise ValueError(f"partitions: {config.partitions}, but the directory has {directory.partitions}")
        address(config.mqtt_url)
        self.stats = BridgeStats()
        self.subscribed = threading.Event()
        """Set while the broker delivers to this bridge; before the first time, what is published is lost."""
        self._config = config
        self._catalogue = catalogue
        self._directory = directory
        self._append = append
        self._last_ticks = last_ticks
        self._overflow = None if overflow is None else Overflow(config, overflow, self.stats)
        self._strangers = None if config.clock == "simulated" else Strangers(directory, self.stats)
        self._backlog = backlog
        self._pressure = None if backlog is None else Pressure(backlog.look, config.max_lag_bytes)
        self._intake = Intake(max_count=config.queue_count, max_bytes=config.queue_bytes)
        self._mark_topic = mark_topic(config.source)
        self._connections = count(1)
        self._connection = 0
        self._connected = False
        self._mark = b""
        self._caught_up = False
        self._connection_lock = threading.Lock()
        self._looked_s = 0.0
        self._client = make_client(config.mqtt_url, config.source, config.tls, manual_ack=True)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_plain = self._on_plain
        self._neighbours = Neighbours(
            config,
            known=sources,
            publish=self._publish,
            put=self._intake.put,
            new_connection=lambda: next(self._connections),
            stats=self.stats,
            overflow=self._overflow,
            strangers=self._strangers,
        )

    @property
    def queued(self) -> int:
        """Arrivals that wait for the writer."""
        return len(self._intake)

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the broker."""
        return self._connected

    def run(self, stop: threading.Event) -> None:
        """Bridge until `stop` is set; then write what was taken, acknowledge it, and say that this source has left.

        What the queue still holds is left to the broker, which sends it again.
        """
        writer = self._make_writer(stop)
        stopped = False
        for helper in (self._pressure, self._strangers):
            if helper is not None:
                threading.Thread(target=helper.watch, args=(stop,), daemon=True).start()
        try:
            writer.start()
            open_session(self._client, self._config.mqtt_url)
            self._neighbours.open()
            self._work(writer, stop)
            self._intake.close()
            writer.leave()
            stopped = True
        except GaveUpError as error:
            _log.warning("stopped with messages unwritten; the broker sends them again", error=str(error))
        finally:
            self._intake.close()
            self._neighbours.close(stopped=stopped)
            self._client.disconnect()
            self._client.loop_stop()
            _log.info("stopped", source=self._config.source, **self.stats.as_dict())

    def _work(self, writer: Writer, stop: threading.Event) -> None:
        self._looked_s = time.monotonic()
        summary_at_s = self._looked_s + SUMMARY_EVERY_S
        while not stop.is_set():
            now_s = self._look()
            self._neighbours.attend(writer, now_s)
            if self._is_held_up(writer):
                self._caught_up = False
                writer.act(may_tick=False)
                stop.wait(PAUSE_S)
                continue
            for arrival in self._intake.take(SLICE, timeout_s=writer.patience_s()):
                if arrival.topic.endswith("/mark") and arrival.topic.startswith(f"{MQTT_ROOT}/_bridge/"):
                    self._see_mark(arrival, writer)
                else:
                    writer.take(arrival)
            self._look()
            writer.act(may_tick=self._caught_up)
            if now_s >= summary_at_s:
                summary_at_s = now_s + SUMMARY_EVERY_S
                _log.info("summary", connected=self._connected, queued=self.queued, **self.stats.as_dict())

    def _look(self) -> float:
        """Return the time, having noticed whether this process has stood still since the last look."""
        before_s, self._looked_s = self._looked_s, time.monotonic()
        if self._looked_s - before_s > STALLED_S:
            self._neighbours.resume(self._looked_s)
            self._catch_up()
        return self._looked_s

    def _is_held_up(self, writer: Writer) -> bool:
        """Tell whether nothing may be taken, and see to it that time waits for what has queued up meanwhile."""
        stats, pressure = self.stats, self._pressure
        high = pressure is not None and pressure.high
        if pressure is not None:
            stats.lag_bytes = pressure.lag_bytes
        held_up, was = high or writer.stuck, stats.paused
        if held_up != was:
            stats.paused = held_up
            stats.pauses += held_up
            if not held_up:
                self._catch_up()
        return held_up

    def _catch_up(self) -> None:
        """Let no tick be written before everything that has come until now is."""
        if self._config.clock == "wall":
            with self._connection_lock:
                self._caught_up = False
                self._mark = mark = str(time.time_ns()).encode()
            self._client.publish(self._mark_topic, mark, qos=1)

    def _see_mark(self, arrival: Arrival, writer: Writer) -> None:
        self._neighbours.see_mark(arrival, writer)
        self._acknowledge([arrival])
        with self._connection_lock:
            if arrival.connection == self._connection and arrival.payload == self._mark:
                self._caught_up = True

    def _append_counted(self, entries: Sequence[Entry]) -> Sequence[int]:
        offsets = self._append(entries)
        if self._backlog is not None:
            self._backlog.appended(entries, offsets)
        return offsets

    def _make_writer(self, stop: threading.Event) -> Writer:
        config = self._config
        return Writer(
            config,
            catalogue=self._catalogue,
            directory=self._directory,
            append=self._append_counted,
            ticks=Ticks(config.source, config.partitions, self._last_ticks),
            acknowledge=self._acknowledge,
            publish=self._publish,
            stats=self.stats,
            stop=stop,
            overflow=self._overflow,
            strangers=self._strangers,
            tell_bridges=self._neighbours.tell,
            is_ours=self._neighbours.is_ours,
        )

    def _acknowledge(self, arrivals: Sequence[Arrival]) -> None:
        """Acknowledge what came on the present connection; of an earlier one the broker counts packets anew."""
        with self._connection_lock:
            ours: list[int] = []
            for arrival in arrivals:
                if arrival.connection != self._connection:
                    self._neighbours.acknowledge(arrival)
                elif arrival.qos == 1:
                    ours.append(arrival.packet_id)
                else:
                    self._client.ack(arrival.packet_id, arrival.qos)
            self._client.ack_all(ours)

    def _publish(self, topic: str, payload: bytes, qos: int) -> None:
        if qos == 0:
            self._client.send(topic, payload)
        else:
            self._client.publish(topic, payload, qos)

    def _on_connect(
        self, client: Client, _userdata: Any, flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            _log.error("the broker refuses the connection", reason=str(reason))
            return
        with self._connection_lock:
            self._connection = next(self._connections)
            self._connected = True
            self._mark = str(time.time_ns()).encode()  # one of an earlier connection may still be under way
        _log.info("connected", url=without_password(self._config.mqtt_url), session_present=flags.session_present)
        own = CLOCK_TOPIC if self._config.clock == "simulated" else self._mark_topic
        no_retained = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        client.subscribe([(topic, no_retained) for topic in (*SHARES, own)])
        if own == self._mark_topic:
            client.publish(self._mark_topic, self._mark, qos=1)

    def _on_connect_fail(self, _client: Client, _userdata: Any) -> None:
        _log.warning("the broker cannot be reached", url=without_password(self._config.mqtt_url))

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: Any,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._connection_lock:
            self._connection = next(self._connections)
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

    def _on_plain(self, messages: Sequence[Plain]) -> None:
        connection = self._connection
        self._intake.put(
            *[
                Arrival(topic, payload, content_type, packet_id, 1, connection)
                for topic, payload, content_type, packet_id in messages
            ]
        )

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self._intake.put(arrival_of(message, self._connection))
