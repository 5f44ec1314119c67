"""paho's client, reading in bulk: what takes its time per message is paho's own way of taking packets in.

paho asks the system three or four times for each packet, and each of them lets another thread have the interpreter.
Here one call takes what there is, and the usual message (QoS 1, not retained, no property but a content type) is cut
out of it directly. Everything else is left to paho, from the same bytes and in the same order; so is all that is sent.
Acknowledgements of many messages go out as one packet does.

This rests on some of paho's own names (`_sock`, `_sock_recv`, `_packet_read`, `_packet_queue`, …), as of version 2; a
test holds it against paho.
"""

from collections.abc import Callable, Sequence
from struct import pack
from typing import Any, NamedTuple

from paho.mqtt.client import MQTT_ERR_CONN_LOST, MQTT_ERR_NO_CONN, MQTT_ERR_SUCCESS, Client, time_func
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes

READ_BYTES = 1 << 18
_PUBLISH_QOS1, _AGAIN = 0x32, 0x08
_PUBACK = PacketTypes.PUBACK << 4
_CONTENT_TYPE = 3
_OTHER = 0
"""Kind of a packet of which paho is to do nothing when it has been sent."""


class Plain(NamedTuple):
    """A message of QoS 1 as it came."""

    topic: str
    payload: bytes
    content_type: str | None
    packet_id: int


class BulkClient(Client):
    """A client that hands usual messages to `on_plain`, as many as came at once, and others to `on_message`, in order.

    Where there is no `on_plain`, `on_message` gets them all. It is for clients that acknowledge by themselves.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.on_plain: Callable[[Sequence[Plain]], None] | None = None
        self._received = b""
        self._received_from: Any = None
        self._at = 0
        self._chunks: list[bytes] = []
        """What has come since the last packet was whole, behind `_received`: a long one is put together only once."""
        self._missing = 0
        """Bytes without which the next packet is not whole."""

    def ack_all(self, packet_ids: Sequence[int]) -> None:
        """Acknowledge messages of QoS 1."""
        if packet_ids:
            numbers = [number for packet_id in packet_ids for number in (_PUBACK << 8 | 2, packet_id)]
            self._packet_queue(_PUBACK, pack(f">{len(numbers)}H", *numbers), packet_ids[-1], 1)

    def send(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 0, and ask nothing of it afterwards; nothing happens without a connection."""
        if self._sock is None:
            return
        name = topic.encode()
        body = pack(f">H{len(name)}sB", len(name), name, 0) + payload
        self._packet_queue(_OTHER, b"\x30" + _length(len(body)) + body, 0, 0)

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Take in what has come; called by paho's loop when there is something."""
        del max_packets
        if self._sock is None:
            return MQTT_ERR_NO_CONN
        if self._received_from is not self._sock:
            self._received, self._received_from, self._at = b"", self._sock, 0
            self._chunks, self._missing = [], 0
        try:
            data = super()._sock_recv(READ_BYTES)
        except BlockingIOError:
            return MQTT_ERR_SUCCESS
        except OSError:
            data = b""
        if not data:
            return self._loop_rc_handle(MQTT_ERR_CONN_LOST)
        self._chunks.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            self._note_alive()
            return MQTT_ERR_SUCCESS
        self._received, self._at = self._received[self._at :] + b"".join(self._chunks), 0
        self._chunks = []
        return self._understand()

    def _understand(self) -> MQTTErrorCode:
        """Handle every packet that is there as a whole; keep the rest."""
        plain: list[Plain] = []
        data, source = self._received, self._sock
        while (end := _packet_end(data, self._at)) > 0:
            message = None if self.on_plain is None else _plain(data, self._at, end)
            if message is not None:
                plain.append(message)
                self._at = end
                continue
            self._hand_over(plain)
            plain = []
            rc = self._packet_read()
            self._at = end
            if rc > 0:
                return self._loop_rc_handle(rc)
            if self._sock is not source:
                return MQTT_ERR_SUCCESS if self._sock is not None else MQTT_ERR_NO_CONN
        self._missing = -end
        self._hand_over(plain)
        self._note_alive()
        return MQTT_ERR_SUCCESS

    def _note_alive(self) -> None:
        with self._msgtime_mutex:
            self._last_bytes_received = time_func()

    def _hand_over(self, plain: Sequence[Plain]) -> None:
        if plain and self.on_plain is not None:
            self.on_plain(plain)

    def _sock_recv(self, bufsize: int) -> bytes:
        """Give paho the bytes of the packet that it is to handle."""
        begin = self._at
        self._at += bufsize
        return self._received[begin : self._at]


def _packet_end(data: bytes, at: int) -> int:
    """Return where the packet that begins at `at` ends; if it is not all there, minus how much is missing at least."""
    length = shift = 0
    for place in range(at + 1, min(at + 5, len(data))):
        byte = data[place]
        length |= (byte & 127) << shift
        if byte < 128:
            end = place + 1 + length
            return end if end <= len(data) else len(data) - end
        shift += 7
    return -1


def _length(size: int) -> bytes:
    """Encode the length of a packet behind its head."""
    digits = bytearray()
    while True:
        size, digit = size >> 7, size & 127
        digits.append(digit | 128 if size else digit)
        if not size:
            return bytes(digits)


def _plain(data: bytes, at: int, end: int) -> Plain | None:
    """Return the packet in [at, end) if it is a usual message."""
    if data[at] & ~_AGAIN != _PUBLISH_QOS1:
        return None
    while data[at + 1] > 127:
        at += 1
    begin = at + 4
    stop = begin + (data[at + 2] << 8 | data[at + 3])
    if stop + 3 > end:
        return None
    properties = data[stop + 2]
    body = stop + 3 + properties
    content_type = None
    try:
        if properties:
            if body > end or properties < 3 or properties > 127 or data[stop + 3] != _CONTENT_TYPE:
                return None
            if (data[stop + 4] << 8 | data[stop + 5]) != properties - 3:
                return None
            content_type = data[stop + 6 : body].decode()
        return Plain(data[begin:stop].decode(), data[body:end], content_type, data[stop] << 8 | data[stop + 1])
    except UnicodeDecodeError:
        return None
