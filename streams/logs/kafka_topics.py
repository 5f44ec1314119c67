"""A topic on Kafka: made as the log needs it, or looked at whether it is so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from streams.logs.file import LogUnusable, PartitionsDiffer

COPIES = 3
SIZE = "max.message.bytes"
MAX_RECORD_BYTES = 8 << 20
"""Of one record in a new topic: several times the largest message that a bridge takes; what hosted Kafkas allow."""
LEAST_RECORD_BYTES = 4 << 20
"""Of one record in any topic: what the largest message can become. A record that is refused would wait for ever."""
KEPT = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
"""So nothing goes before a worker's oldest cut has passed it: what may go is deleted by us."""
POLL_S = 0.05


async def ensure_topic(admin: AIOKafkaAdminClient, topic: str, partitions: int, replication: int | None) -> None:
    """Make the topic unless it is there, wait until all its partitions can be written, and look at its settings.

    Several may do this at once.

    Raises:
        PartitionsDiffer: it has another number of partitions.
        LogUnusable: it cannot be made as asked, has fewer copies than are asked for, or settings that lose records.
        KafkaError: a broker did not answer, or refused.
    """
    client = admin._client
    if client.cluster.partitions_for_topic(topic) is None:
        await client.force_metadata_update()
    if client.cluster.partitions_for_topic(topic) is None:
        copies = replication or min(COPIES, len(client.cluster.brokers()))
        await _create(admin, topic, partitions, copies)
        while len(client.cluster.available_partitions_for_topic(topic) or ()) < partitions:
            await asyncio.sleep(POLL_S)
            await client.force_metadata_update()
    found = (await admin.describe_topics([topic]))[0]["partitions"]
    if len(found) != partitions:
        raise PartitionsDiffer(topic, len(found), partitions)
    fewest = min(len(each["replicas"]) for each in found)
    if replication is not None and fewest < replication:
        raise LogUnusable(
            f"Kafka keeps {fewest} copies of the topic {topic}, and {replication} are asked for. Add copies"
            " (kafka-reassign-partitions.sh), or change WARDWATCH_KAFKA_REPLICATION"
        )
    settings = await topic_settings(admin, topic)
    if wrong := amiss(settings):
        has = ", ".join(f"{name}={settings[name]}" for name in wrong)
        asked = ",".join(f"{name}={value}" for name, value in wrong.items())
        raise LogUnusable(
            f"Kafka's topic {topic} has {has}: it would refuse records, or delete what no worker has taken in."
            f" Set {asked} (kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config {asked});"
            " wardwatch deletes what is old and no longer needed"
        )


def amiss(settings: Mapping[str, str]) -> dict[str, str]:
    """By name what must be set otherwise in a topic, or it loses or refuses records."""
    wrong = {name: value for name, value in KEPT.items() if settings.get(name, value) != value}
    if int(settings.get(SIZE, MAX_RECORD_BYTES)) < LEAST_RECORD_BYTES:
        wrong[SIZE] = str(MAX_RECORD_BYTES)
    return wrong


async def _create(admin: AIOKafkaAdminClient, topic: str, partitions: int, copies: int) -> None:
    settings = KEPT | {SIZE: str(MAX_RECORD_BYTES), "min.insync.replicas": str(2 if copies > 2 else 1)}
    new = NewTopic(topic, num_partitions=partitions, replication_factor=copies, topic_configs=settings)
    response = await admin.create_topics([new])
    for _topic, code, *message in response.topic_errors:
        kind = for_code(code)
        if kind in (kafka_errors.NoError, kafka_errors.TopicAlreadyExistsError):
            continue
        if kind.retriable:
            raise kind(topic)
        what = message[0] if message and message[0] else kind.description
        raise LogUnusable(
            f"Kafka does not make the topic {topic} ({what}). Make it yourself, with {partitions} partitions, {copies}"
            f" copies and {', '.join(f'{name}={value}' for name, value in settings.items())},"
            " or change WARDWATCH_KAFKA_REPLICATION"
        )


async def topic_settings(admin: AIOKafkaAdminClient, topic: str) -> Mapping[str, str]:
    """The topic's settings by name; those that we may not see are missing."""
    names: dict[str, Any] = dict.fromkeys((*KEPT, SIZE))
    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic, names)])
    found: dict[str, str] = {}
    for response in responses:
        for code, _message, _type, _name, entries in response.resources:
            if for_code(code) in (kafka_errors.NoError, kafka_errors.TopicAuthorizationFailedError):
                found |= {name: value for name, value, *_ in entries}
            else:
                raise for_code(code)(topic)
    return found
