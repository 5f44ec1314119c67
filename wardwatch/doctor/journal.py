"""The log: is it there, whose is it, does it have the partitions that the settings say, do bridges write to it?"""

import asyncio
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from schema.topics import REFUSED, TELEMETRY
from streams.guarded import one_line
from streams.logs import Log
from streams.logs.embedded import EmbeddedLog
from streams.logs.file import LogError
from streams.logs.kafka import KafkaLog
from streams.logs.kafka_access import KafkaAccess
from streams.logs.kafka_topics import amiss, topic_settings
from wardwatch.access import kafka_access, topics
from wardwatch.doctor.check import ANSWER_WITHIN_S, Case, Check, seconds

QUIET_S = 15.0
"""In wall-clock time a bridge ticks every second."""


class NoLog(LogError):
    """The embedded log's file is not there."""


@contextmanager
def looking(case: Case) -> Iterator[Log]:
    """Open the log to look at it; nothing is made that is not there."""
    access = kafka_access(case.settings)
    path = case.settings.log_file
    opened: Log
    if access is not None:
        opened = KafkaLog(access, within_s=ANSWER_WITHIN_S)
    elif not path.is_file():
        raise NoLog(f"{path} is not there")
    else:
        opened = EmbeddedLog(path, busy_timeout_ms=ANSWER_WITHIN_S * 1000)
    with opened:
        yield opened


def journal(case: Case) -> list[Check]:
    """See the module."""
    try:
        with looking(case) as log:
            access = kafka_access(case.settings)
            if access is not None:
                checks = kafka(access, topics(case.settings))
            else:
                assert isinstance(log, EmbeddedLog)
                checks = _embedded(log, case)
            return checks if any(check.state == "fail" for check in checks) else [*checks, _bridge(log, case)]
    except NoLog as error:
        return [Check("log", "fail", str(error), "start wardwatch up, or name its folder with --data")]
    except (LogError, OSError) as error:
        return [Check("log", "fail", one_line(error), _advice(case))]


def _advice(case: Case) -> str:
    return "start Kafka, or correct WARDWATCH_KAFKA" if case.settings.kafka else "see what the message says of the file"


def _embedded(log: EmbeddedLog, case: Case) -> list[Check]:
    size = sum(path.stat().st_size for path in log.path.parent.glob(f"{log.path.name}*"))
    topics, asked = log.topics(), case.settings.partitions
    if topics.get(TELEMETRY) != asked or REFUSED not in topics:
        found = ", ".join(f"{name} with {count}" for name, count in sorted(topics.items())) or "none"
        return [
            Check(
                "log",
                "fail",
                f"{log.path}: its topics are {found}, the settings say {asked} partitions",
                "set WARDWATCH_PARTITIONS to what the log has: it is fixed",
            )
        ]
    checks = [Check("log", "ok", f"{log.path}, {size >> 20} MB, {asked} partitions")]
    epoch, holder = log.lease_epoch()
    alive = _lives(holder)
    if alive is False:
        checks.append(
            Check("lease", "fail", f"epoch {epoch} of {holder}, which is gone", "start a worker: wardwatch worker")
        )
    else:
        who = f"epoch {epoch} of {holder}" if epoch else "no worker has run yet"
        checks.append(Check("lease", "ok" if epoch else "warn", who, "" if epoch else "start one: wardwatch worker"))
    return checks


def _lives(holder: str) -> bool | None:
    """Whether the process that a lease names runs; None where that cannot be told from here."""
    found = re.fullmatch(r"process (\d+) on (.+)", holder)
    if found is None or found[2] != socket.gethostname():
        return None
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def kafka(access: KafkaAccess, asked: Mapping[str, int]) -> list[Check]:
    """Whether brokers answer, and whether topics have the partitions asked for, copies in sync, and keep records."""
    try:
        brokers, topics, settings = asyncio.run(asyncio.wait_for(_described(access, list(asked)), ANSWER_WITHIN_S))
    except TimeoutError:
        return [Check("log", "fail", f"no Kafka answers at {access.bootstrap}", "start it, or correct WARDWATCH_KAFKA")]
    except KafkaError as error:
        return [Check("log", "fail", f"{access.bootstrap}: {one_line(error)}", "start it, or correct WARDWATCH_KAFKA")]
    checks = [Check("log", "ok", f"Kafka at {access.bootstrap}, {brokers} brokers")]
    for topic, partitions in asked.items():
        if topic not in topics:
            checks.append(Check(f"topic {topic}", "fail", "is not there", "start a bridge or a worker: it is made"))
            continue
        copies = [len(each["replicas"]) for each in topics[topic]]
        out = sum(len(each["isr"]) < len(each["replicas"]) for each in topics[topic])
        wrong = amiss(settings[topic])
        says = f"{len(copies)} partitions, {min(copies)} copies"
        if len(copies) != partitions:
            advice = "set WARDWATCH_PARTITIONS to what the topic has: it is fixed"
            checks.append(Check(f"topic {topic}", "fail", f"{says}, the settings say {partitions} partitions", advice))
        elif wrong:
            kept = ", ".join(f"{name}={settings[topic][name]}" for name in wrong)
            advice = "set " + ", ".join(f"{name}={value}" for name, value in wrong.items())
            checks.append(Check(f"topic {topic}", "fail", f"{says}, {kept}: records go unseen or are refused", advice))
        elif out:
            checks.append(
                Check(f"topic {topic}", "warn", f"{says}, {out} partitions lack copies in sync", "see Kafka's brokers")
            )
        elif min(copies) < min(brokers, 3):
            checks.append(
                Check(f"topic {topic}", "warn", f"{says} on {brokers} brokers", "raise its replication to 3")
            )
        else:
            checks.append(Check(f"topic {topic}", "ok", says))
    return checks


async def _described(
    access: KafkaAccess, names: list[str]
) -> tuple[int, dict[str, list[dict[str, Any]]], dict[str, dict[str, str]]]:
    """Number of brokers; by topic its partitions as Kafka describes them, and its settings."""
    admin = AIOKafkaAdminClient(**access.client_options(), request_timeout_ms=ANSWER_WITHIN_S * 1000)
    await admin.start()
    try:
        cluster = await admin.describe_cluster()
        described = await admin.describe_topics(names)
        topics = {each["topic"]: each["partitions"] for each in described if not each["error_code"]}
        return len(cluster["brokers"]), topics, {name: dict(await topic_settings(admin, name)) for name in topics}
    finally:
        await admin.close()


def _bridge(log: Log, case: Case) -> Check:
    newest_ms = [
        record.appended_ms for number in range(case.settings.partitions) for record in log.last(TELEMETRY, number)
    ]
    if not newest_ms:
        return Check("bridge", "warn", "nothing is in the log yet", "start a bridge: wardwatch ingest")
    quiet_s = max(0.0, time.time() - max(newest_ms) / 1000)
    says = f"the newest record is {seconds(quiet_s)} old"
    if case.simulated or quiet_s < QUIET_S:
        return Check("bridge", "ok", says)
    where = case.settings.data / "log" / "ingest.log"
    return Check("bridge", "fail", f"{says}, though every second brings a tick", f"start wardwatch ingest; see {where}")
