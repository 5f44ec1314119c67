"""Names on the wire: MQTT topics, log topics, and which partition a customer lives in."""

from hashlib import blake2b

MQTT_ROOT = "wardwatch/v1"
CLOCK_TOPIC = f"{MQTT_ROOT}/_clock"
CLOCK_CONFIRMED_TOPIC = f"{MQTT_ROOT}/_clock/confirmed"

TELEMETRY = "telemetry"
"""Log topic with one ordered sequence a partition: messages, ticks, commands, registry."""
REFUSED = "refused"
"""Log topic with one partition: what could not be understood, with the reason and the bytes."""
OVERFLOW = "overflow"
"""Log topic with one partition: a device's messages beyond its quota, until they are admitted again."""

WRITTEN_TOPIC = f"{MQTT_ROOT}/_bridge/written"
"""MQTT topic on which bridges tell each other what they have written."""
ALIVE_TOPICS = f"{MQTT_ROOT}/_bridge/+/alive"


def telemetry_topic(device_id: str) -> str:
    """MQTT topic on which a device publishes readings and faults (QoS 1)."""
    return f"{MQTT_ROOT}/{device_id}/telemetry"


def state_topic(device_id: str) -> str:
    """MQTT topic of a device's retained birth message and last will."""
    return f"{MQTT_ROOT}/{device_id}/state"


def confirmed_topic(device_id: str) -> str:
    """MQTT topic on which the engine says `{"boot", "seq"}`: everything up to there is in the log."""
    return f"{MQTT_ROOT}/{device_id}/confirmed"


def alive_topic(source: str) -> str:
    """MQTT topic of a bridge's retained heartbeat."""
    return f"{MQTT_ROOT}/_bridge/{source}/alive"


def mark_topic(source: str) -> str:
    """MQTT topic on which a bridge's session sends itself a mark."""
    return f"{MQTT_ROOT}/_bridge/{source}/mark"


def partition_of(customer_id: str, partitions: int) -> int:
    """Partition, in [0, partitions), that holds a customer with all sites and devices; stable for ever."""
    return int.from_bytes(blake2b(customer_id.encode(), digest_size=8).digest(), "big") % partitions
