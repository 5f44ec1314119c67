"""The bulk client against paho itself, on a real broker: the same messages in the same order, each delivered once."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from socket import socketpair
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.bulk import BulkClient, Plain, _length

Seen = tuple[str, bytes, str | None, int]


@contextmanager
def connected(client: Client, url: str, **options: Any) -> Iterator[Client]:
    ready = threading.Event()
    client.on_subscribe = lambda *_: ready.set()
    address = urlsplit(url)
    client.connect(address.hostname or "", address.port or 1883, **options)
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def subscribed(client: Client, topic: str) -> None:
    ready = threading.Event()
    client.on_subscribe = lambda *_: ready.set()
    client.subscribe(topic, qos=2)
    assert ready.wait(5)


def settled(seen: list[Any], count: int) -> None:
    deadline = time.monotonic() + 10
    while len(seen) < count and time.monotonic() < deadline:
        time.sleep(0.005)


def content_type(properties: Properties | None) -> str | None:
    return getattr(properties, "ContentType", None)


@pytest.fixture
def root() -> str:
    return f"bulk/{uuid4().hex}"


def client(kind: type[Client], name: str, **options: Any) -> Any:
    return kind(CallbackAPIVersion.VERSION2, client_id=f"{name}-{uuid4().hex[:8]}", protocol=MQTTv5, **options)


def publish_a_mixture(sender: Client, root: str) -> int:
    typed = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    typed.ContentType = "application/msgpack"
    both = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    both.ContentType, both.UserProperty = "application/json", ("a", "b")
    last = None
    for number in range(300):
        sender.publish(f"{root}/ü{number}", b"%d" % number, qos=1)
        sender.publish(f"{root}/typed", b"x" * (number * 7), qos=1, properties=typed)
        sender.publish(f"{root}/both", b"", qos=1, properties=both)
        sender.publish(f"{root}/once", b"%d" % number, qos=number % 3)
        last = sender.publish(f"{root}/large", bytes(200_000), qos=1) if number % 50 == 0 else last
    assert last is not None
    last.wait_for_publish(10)
    return 300 * 4 + 6


def test_it_hands_over_what_paho_hands_over(mqtt_url: str, root: str) -> None:
    seen: dict[str, list[Seen]] = {"bulk": [], "paho": []}

    def note(name: str) -> Any:
        return lambda _client, _data, message: seen[name].append(_seen(message))

    def note_plain(messages: list[Plain]) -> None:
        seen["bulk"] += [(topic, payload, kind, 1) for topic, payload, kind, _ in messages]

    bulk, paho, sender = client(BulkClient, "bulk", manual_ack=True), client(Client, "paho"), client(Client, "sender")
    bulk.on_plain, bulk.on_message, paho.on_message = note_plain, note("bulk"), note("paho")
    with connected(bulk, mqtt_url), connected(paho, mqtt_url), connected(sender, mqtt_url):
        subscribed(bulk, f"{root}/#")
        subscribed(paho, f"{root}/#")
        count = publish_a_mixture(sender, root)
        settled(seen["paho"], count)
        settled(seen["bulk"], count)
    at_most_once = [each for each in seen["paho"] if each[3] != 2]
    assert [each for each in seen["bulk"] if each[3] != 2] == at_most_once
    assert sorted(seen["bulk"]) == sorted(seen["paho"])


def _seen(message: MQTTMessage) -> Seen:
    return message.topic, bytes(message.payload), content_type(message.properties), message.qos


def test_only_what_is_acknowledged_is_not_delivered_again(mqtt_url: str, root: str) -> None:
    name = f"bulk-{uuid4().hex[:8]}"
    kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    kept.SessionExpiryInterval = 60
    seen: list[Plain] = []

    def receiver() -> BulkClient:
        made = BulkClient(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTv5, manual_ack=True)
        made.on_plain = seen.extend
        return made

    with connected(first := receiver(), mqtt_url, clean_start=False, properties=kept):
        subscribed(first, f"{root}/#")
        with connected(client(Client, "sender"), mqtt_url) as sender:
            for number in range(20):
                sender.publish(f"{root}/x", b"%d" % number, qos=1).wait_for_publish(5)
        settled(seen, 20)
        first.ack_all([each.packet_id for each in seen[:12]])
        time.sleep(0.2)  # until the acknowledgements are with the broker
    seen.clear()
    with connected(receiver(), mqtt_url, clean_start=False, properties=kept):
        settled(seen, 8)
        time.sleep(0.1)
    assert [each.payload for each in seen] == [b"%d" % number for number in range(12, 20)]


def test_what_it_sends_at_qos_0_arrives(mqtt_url: str, root: str) -> None:
    seen: list[tuple[str, bytes]] = []
    listener = client(Client, "listener")
    listener.on_message = lambda _client, _data, message: seen.append((message.topic, message.payload))
    with connected(listener, mqtt_url), connected(client(BulkClient, "bulk"), mqtt_url) as bulk:
        subscribed(listener, f"{root}/#")
        sent = [(f"{root}/{size}", bytes(size)) for size in (0, 1, 100, 127, 128, 20_000)]
        assert isinstance(bulk, BulkClient)
        for topic, payload in sent:
            bulk.send(topic, payload)
        settled(seen, len(sent))
    assert seen == sent


def test_a_long_packet_in_many_pieces_is_put_together_once() -> None:
    near, far = socketpair()
    with near, far:
        reader: Any = client(BulkClient, "long")
        got: list[Plain] = []
        reader.on_plain = got.extend
        near.setblocking(False)
        reader._sock = near
        size = 4 << 20
        small = b"\x32\x08\0\x01a\0\x01\0hi"
        body = b"\0\x01a\0\x02\0" + b"x" * size
        data = small + b"\x32" + _length(len(body)) + body + small
        joined = set()
        for begin in range(0, len(data), 1 << 15):
            far.sendall(data[begin : begin + (1 << 15)])
            reader.loop_read()
            joined.add(len(reader._received))
        assert [len(message.payload) for message in got] == [2, size, 2]
        assert len(joined) <= 3
        reader._sock = None
