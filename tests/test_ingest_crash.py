"""`kill -9` of the bridge under load: with a real broker and the embedded log, nothing is lost and no time is wrong."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from ingest_help import STEP_MS, T0, Peer, forget_session

from ingest.bridge import Bridge
from ingest.directory import DeviceDirectory
from ingest.settings import BridgeConfig
from schema.catalogue import load_catalogue
from schema.record import TelemetryRecord, Tick, decode
from schema.registry import Device
from schema.topics import CLOCK_CONFIRMED_TOPIC, REFUSED, TELEMETRY, telemetry_topic
from streams.logs.embedded import EmbeddedLog
from wardwatch.local import LocalParts

SOURCE = "bridge-1"
PARTITIONS = 2
DEVICES = 10
CLOCKS = 60
KILL_AT = (10, 25, 26, 45)
UNCONFIRMED = 8


def read_all(log: EmbeddedLog, partition: int) -> list[TelemetryRecord | Tick]:
    found: list[TelemetryRecord | Tick] = []
    offset = 0
    while records := log.read(TELEMETRY, partition, offset):
        offset = records[-1].offset + 1
        decoded = [decode(record.value) for record in records]
        found += [record for record in decoded if isinstance(record, TelemetryRecord | Tick)]
    return found


def bridge_process(url: str, path: Path) -> None:
    """Run a bridge into the log at `path`, until it is killed or terminated."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    devices = [
        Device(device_id=f"mri-{i}", model="mri", site_id="s", customer_id=f"h-{i}", installed_ms=0)
        for i in range(DEVICES)
    ]
    with EmbeddedLog(path) as log:
        ticks = {p: [r.at_ms for r in read_all(log, p) if isinstance(r, Tick)] for p in range(PARTITIONS)}
        Bridge(
            BridgeConfig(mqtt_url=url, source=SOURCE, partitions=PARTITIONS, clock="simulated"),
            catalogue=load_catalogue(),
            directory=DeviceDirectory(PARTITIONS, devices),
            append=log.append,
            last_ticks={p: at[-1] for p, at in ticks.items() if at},
        ).run(stop)


def start(parts: LocalParts, path: Path) -> BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=bridge_process, args=(parts.mqtt_url, path))
    process.start()
    return process


@pytest.fixture(autouse=True)
def no_session(parts: LocalParts) -> Iterator[None]:
    forget_session(parts, SOURCE)
    yield
    forget_session(parts, SOURCE)


def test_killed_again_and_again_under_load_the_bridge_loses_nothing_and_keeps_every_receive_time(
    parts: LocalParts, tmp_path: Path
) -> None:
    path = tmp_path / "log.sqlite"
    with EmbeddedLog(path) as log:
        log.create_topic(TELEMETRY, PARTITIONS)
        log.create_topic(REFUSED, 1)
    peer = Peer(parts, CLOCK_CONFIRMED_TOPIC)
    process = start(parts, path)

    def confirmed() -> set[int]:
        return {told["at"] for _, told in peer.heard}

    while not confirmed():  # before its first subscription the broker has nobody to keep the clock for
        peer.clock(0)
        peer.listen(0.1)
    for step in range(CLOCKS):
        for device in range(DEVICES):
            body = {"device": f"mri-{device}", "boot": T0, "seq": step + 1, "sent": T0 + step * STEP_MS}
            peer.publish(telemetry_topic(f"mri-{device}"), body, wait=False)
        if step in KILL_AT:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            process = start(parts, path)
        peer.clock(step + 1)
        peer.wait_until(lambda step=step: len(confirmed()) > step + 1 - UNCONFIRMED)  # type: ignore[misc]
    peer.wait_until(lambda: len(confirmed()) == CLOCKS + 1)
    process.terminate()
    process.join()
    peer.close()

    seen: dict[tuple[str, int], int] = {}
    with EmbeddedLog(path) as log:
        for partition in range(PARTITIONS):
            records = read_all(log, partition)
            times = [record.at_ms for record in records if isinstance(record, Tick) and record.state == "tick"]
            assert times == [T0 + step * STEP_MS for step in range(CLOCKS + 1)]
            for record in records:
                if isinstance(record, TelemetryRecord):
                    for message in record:
                        seen.setdefault((message.device_id, message.seq), message.receive_ms)
    assert seen == {
        (f"mri-{device}", step + 1): T0 + step * STEP_MS for device in range(DEVICES) for step in range(CLOCKS)
    }
