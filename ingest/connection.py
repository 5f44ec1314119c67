"""How a bridge reaches its broker: the address, and paho's client for it."""

from urllib.parse import unquote, urlsplit

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.bulk import BulkClient
from ingest.intake import Arrival
from ingest.settings import Tls

SESSION_EXPIRY_S = 7 * 86_400
RECEIVE_MAXIMUM = 65_535
KEEPALIVE_S = 60
CONNECT_TIMEOUT_S = 3.0
RECONNECT_MAX_S = 30


def make_client(
    url: str, client_id: str, tls: Tls, *, reconnect: bool = True, manual_ack: bool = False
) -> BulkClient:
    """Return a client for the broker at an MQTT URL, not connected yet; `tls` counts where the URL is `mqtts:`."""
    parts = urlsplit(url)
    client = BulkClient(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=MQTTv5,
        manual_ack=manual_ack,
        reconnect_on_failure=reconnect,
    )
    client.connect_timeout = CONNECT_TIMEOUT_S
    client.reconnect_delay_set(1, RECONNECT_MAX_S)
    if parts.username is not None:
        client.username_pw_set(unquote(parts.username), None if parts.password is None else unquote(parts.password))
    if parts.scheme == "mqtts":
        client.tls_set_context(tls.context())
    return client


def open_session(client: Client, url: str) -> None:
    """Connect, in a thread of paho's, to the session of this client id that the broker keeps."""
    host, port = address(url)
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho has not typed it
    properties.SessionExpiryInterval = SESSION_EXPIRY_S
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    client.connect_async(host, port, KEEPALIVE_S, clean_start=False, properties=properties)
    client.loop_start()


def arrival_of(message: MQTTMessage, connection: int) -> Arrival:
    """What paho hands over, as an arrival."""
    try:
        topic = message.topic
    except UnicodeDecodeError:
        topic = "(not UTF-8)"
    content_type = getattr(message.properties, "ContentType", None)
    return Arrival(topic, bytes(message.payload), content_type, message.mid, message.qos, connection)


def address(url: str) -> tuple[str, int]:
    """Return host and port of an MQTT URL.

    Raises:
        ValueError: it is none.
    """
    wrong = f"mqtt_url: expected mqtt://[user[:password]@]host[:port], got {without_password(url)!r}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(wrong) from None  # it quotes what may be of the password
    if parts.scheme not in ("mqtt", "mqtts") or not host:
        raise ValueError(wrong)
    if url.count("@") > parts.netloc.count("@"):
        raise ValueError(f"{wrong}; in a password write / as %2F, ? as %3F and # as %23")
    return host, port or (8883 if parts.scheme == "mqtts" else 1883)


def without_password(url: str) -> str:
    """Return the URL as it may be logged; of one in which the password cannot be told from the host, the scheme."""
    scheme = url.partition("://")[0] if "://" in url else ""
    try:
        netloc = urlsplit(url).netloc
    except ValueError:
        return f"{scheme}://…"
    if url.count("@") > netloc.count("@"):
        return f"{scheme}://…"
    return f"{scheme}://{netloc.rpartition('@')[2]}"
