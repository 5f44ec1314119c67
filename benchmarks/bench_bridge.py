"""(c) The bridge at QoS 1, decoded and in the embedded log, against `mosquitto_sub` on the same broker.

Both get the same messages (100 readings of 10 metrics, 2.3 kB) from a publisher in C that is shown to be faster than
either. A figure is messages a second from the first one published to the last one in the log, or received.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from benchmarks.pipeline import CATALOGUE, MODEL, Load, publish, registry, say
from benchmarks.report import report, unavailable
from ingest.batch import Entry
from ingest.bridge import Bridge
from ingest.directory import DeviceDirectory
from ingest.settings import BridgeConfig
from schema.catalogue import parse_model
from schema.topics import TELEMETRY
from streams.logs.embedded import EmbeddedLog
from wardwatch.local import default_parts, local_parts
from wardwatch.local.apt import FetchError
from wardwatch.local.unpacked import unpacked

DEVICES = 1000
PARTITIONS = 2


def subscriber(parts: Path) -> Path:
    """`mosquitto_sub` from PATH, else fetched.

    Raises:
        FetchError: it cannot be had here.
    """
    if (found := shutil.which("mosquitto_sub")) is not None:
        return Path(found)
    root = unpacked("mosquitto-clients", parts, "mosquitto-clients", "(?!)", "usr/bin/mosquitto_sub", say)
    return root / "usr" / "bin" / "mosquitto_sub"


@contextmanager
def broker() -> Iterator[str]:
    """A fresh broker: one with the session of an earlier bridge would queue everything for that as well."""
    folder = Path(tempfile.mkdtemp(prefix="wardwatch-bench-"))
    folder.chmod(0o755)
    try:
        with local_parts(folder, database_url="postgresql://not.used/") as parts:
            yield parts.mqtt_url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def of_publisher(mqtt_url: str, load: Load, rounds: int) -> float:
    """Messages a second that the publisher brings to the broker when nobody listens."""
    said = publish(mqtt_url, load, rounds)
    return said["messages"] / said["seconds"]


def of_subscriber(program: Path, mqtt_url: str, load: Load, rounds: int) -> float:
    """Messages a second through `mosquitto_sub`."""
    url, messages = urlsplit(mqtt_url), rounds * load.devices
    command = [program, "-h", url.hostname, "-p", str(url.port), "-q", "1", "-t", "wardwatch/v1/+/telemetry"]
    with subprocess.Popen([*command, "-C", str(messages)], stdout=subprocess.DEVNULL) as process:
        time.sleep(0.5)  # until it has subscribed
        begun_s = time.monotonic()
        publish(mqtt_url, load, rounds)
        if process.wait(300):
            raise RuntimeError(f"mosquitto_sub ended with {process.returncode}")
        return messages / (time.monotonic() - begun_s)


def of_bridge(mqtt_url: str, load: Load, rounds: int) -> tuple[float, float]:
    """Messages a second through the bridge into the log, and its CPU microseconds a message."""
    messages = rounds * load.devices
    command = [sys.executable, __file__, "--bridge", mqtt_url, str(messages)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        begun_s = time.monotonic()
        publish(mqtt_url, load, rounds)
        said = json.loads(process.stdout.readline())
        return messages / (said["done_s"] - begun_s), said["cpu_s"] / messages * 1e6


def run_bridge(mqtt_url: str, messages: int) -> None:
    """Bridge into a log of its own until so many messages are in it; then say when that was."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    folder = Path(tempfile.mkdtemp(prefix="wardwatch-bench-"))
    written = 0
    try:
        with EmbeddedLog(folder / "log.sqlite") as log:
            log.create_topic(TELEMETRY, PARTITIONS)

            def append(entries: Sequence[Entry]) -> list[int]:
                nonlocal written
                taken = bridge.stats.messages  # an append holds everything taken so far
                offsets = log.append(entries)
                written = taken
                return offsets

            bridge = Bridge(
                BridgeConfig(mqtt_url=mqtt_url, source="bench", partitions=PARTITIONS),
                catalogue={MODEL: parse_model(MODEL, CATALOGUE)},
                directory=DeviceDirectory(PARTITIONS, registry(DEVICES).devices),
                append=append,
                last_ticks={},
            )
            stop = threading.Event()
            running = threading.Thread(target=bridge.run, args=(stop,))
            running.start()
            bridge.subscribed.wait()
            print("subscribed", flush=True)
            cpu_s = time.process_time()
            while written < messages:
                time.sleep(0.005)
            print(json.dumps({"done_s": time.monotonic(), "cpu_s": time.process_time() - cpu_s}), flush=True)
            stop.set()
            running.join()
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer messages, once")
    parser.add_argument("--bridge", nargs=2, metavar=("URL", "MESSAGES"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bridge:
        run_bridge(given.bridge[0], int(given.bridge[1]))
        return
    rounds, repeats = (10, 1) if given.quick else (40, 3)
    measured: dict[str, list[float]] = {"publisher": [], "subscriber": [], "bridge": [], "cpu": []}
    try:
        program = subscriber(default_parts())
    except FetchError as error:
        unavailable("bridge_vs_c_subscriber", f"mosquitto_sub: {error}")
        return
    for repeat in range(repeats):
        load = Load(devices=DEVICES, clock_rounds=0, start_ms=(int(time.time()) - 86_400) * 1000)
        with broker() as mqtt_url:
            measured["publisher"].append(of_publisher(mqtt_url, load, rounds))
        with broker() as mqtt_url:
            measured["subscriber"].append(of_subscriber(program, mqtt_url, load, rounds))
        with broker() as mqtt_url:
            speed, cpu_us = of_bridge(mqtt_url, load, rounds)
        measured["bridge"].append(speed)
        measured["cpu"].append(cpu_us)
        say(f"{repeat + 1} of {repeats}: " + ", ".join(f"{name} {each[-1]:,.0f}" for name, each in measured.items()))
    report("bridge_messages_per_s", measured["bridge"], "messages/s", note="100 readings, 2.3 kB each")
    report("bridge_cpu_us_per_message", measured["cpu"], "µs")
    report("c_subscriber_messages_per_s", measured["subscriber"], "messages/s")
    report("c_publisher_messages_per_s", measured["publisher"], "messages/s", note="nobody subscribed")
    ratios = [ours / theirs for ours, theirs in zip(measured["bridge"], measured["subscriber"], strict=True)]
    report("bridge_vs_c_subscriber", ratios, "x", at_least=0.4, note="QoS 1, in one process, in the log on disk")


if __name__ == "__main__":
    main()
