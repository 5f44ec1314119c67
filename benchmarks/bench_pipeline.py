"""(d), (e), (i): the whole pipeline, from MQTT to committed rows: speed, delay of an alert, and how it grows.

Everything runs on this machine: broker, bridge, log, worker with all detectors, database. A device has 10 metrics with
a reading each 10 s of simulated time, 100 readings a message, and raw readings are stored. CPU is that of every process
but the publisher. A rate goes from the first reading published to the last one committed.
"""

import argparse
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from statistics import median, quantiles
from typing import Any

import paho.mqtt.client as mqtt
import psycopg
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.pipeline import Load, Taken, drive, say, stack, start_publisher
from benchmarks.report import report, rows, unavailable
from schema.topics import telemetry_topic
from wardwatch.local import LocalPartsError
from wardwatch.stack import Stack

WARM_ROUNDS = 6
SETTLED_S = 3.0
"""A device's first message waits for the next tick, as it may not be its first."""
FLOOD = 100
"""How many times as much as the others the flooding device sends."""
GROWTH_DEVICES = (1, 100, 1_000, 10_000, 100_000)
LARGE_FLEET = 10_000
"""Beyond it one message of each device is enough to measure."""
GROWTH_PARTITIONS = (1, 2, 4)


def throughput(log: str, rounds: int, repeats: int) -> list[Taken]:
    """(d) on one kind of log."""
    load = Load()
    found = []
    with running(log, load.devices) as started:
        drive(started, load, WARM_ROUNDS)
        for repeat in range(repeats):
            taken = drive(started, load, rounds, WARM_ROUNDS + repeat * rounds)
            say(f"{log}: {taken.per_second:,.0f} readings/s, {taken.cpu_us:.2f} µs each: {taken.shares()}")
            found.append(taken)
    return found


def running(log: str, devices: int, **settings: Any) -> AbstractContextManager[Stack]:
    """Everything, with the embedded log or with a Kafka that is started for it."""
    return stack(devices, **({"kafka": "local"} if log == "kafka" else {}), **settings)


def report_throughput(log: str, found: list[Taken], embedded: list[Taken]) -> None:
    """Report (d) of one kind of log, and what a reading costs where."""
    report(f"pipeline_readings_per_s_{log}", [taken.per_second for taken in found], "readings/s", at_least=150_000)
    report(f"cpu_us_per_reading_{log}", [taken.cpu_us for taken in found], "µs", note=found[-1].shares())
    kinds = sorted({kind for taken in found for kind in taken.cpu_s})
    lines = [[kind, median(taken.cpu_s.get(kind, 0.0) / taken.readings * 1e6 for taken in found)] for kind in kinds]
    rows(f"pipeline_cpu_{log}", ("process", "µs a reading"), lines)
    if log == "kafka" and embedded:
        ratio = median(taken.cpu_us for taken in embedded) / median(taken.cpu_us for taken in found)
        report("kafka_vs_embedded_per_cpu_s", ratio, "x", at_least=0.7)


class Faults:
    """Publishes faults of devices that have said something before, and measures until the alert is committed."""

    def __init__(self, started: Stack, devices: Iterable[str]) -> None:
        self._url = started.database_url
        self._devices = list(devices)
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bench-faults")
        host, _, port = (started.settings.mqtt_url or "").removeprefix("mqtt://").partition(":")
        self._client.connect(host, int(port))
        self._client.loop_start()
        self._boot = time.time_ns() // 1_000_000
        for device in self._devices:
            self._send(device, 1, f'"series":{{"m1":[[{self._boot},20.5]]}}')
        time.sleep(SETTLED_S)

    def _send(self, device: str, seq: int, rest: str) -> None:
        place = f'"device":"{device}","boot":{self._boot},"seq":{seq},"sent":{self._boot}'
        self._client.publish(telemetry_topic(device), f"{{{place},{rest}}}", qos=1)

    def delays_ms(self, every_s: float) -> list[float]:
        """One fault after the other, each of another device; milliseconds from publishing to the committed alert."""
        found = []
        with psycopg.connect(self._url, autocommit=True) as connection:
            for device in self._devices:
                begun_s = time.monotonic()
                now_ms = time.time_ns() // 1_000_000
                fault = f'{{"code":"B-2","ts":{now_ms},"severity":"critical","subsystem":"gantry"}}'
                self._send(device, 2, f'"faults":[{fault}]')
                query = "SELECT FROM alerts WHERE device_id = %s AND detector = 'fault_rule'"
                while connection.execute(query, (device,)).fetchone() is None:
                    time.sleep(0.002)
                    if time.monotonic() - begun_s > 60:
                        raise TimeoutError(f"no alert for {device} within a minute")
                found.append((time.monotonic() - begun_s) * 1000)
                time.sleep(max(0.0, begun_s + every_s - time.monotonic()))
        return found

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def delays(faults: int, half_load: float) -> None:
    """(e): in wall-clock time, idle, at half of the maximum load, and there while one device floods."""
    seconds = faults * 0.4 + 30  # more than it takes: the publishers are stopped in the end
    load = Load(clock_rounds=0, rate=half_load)
    rounds = int(seconds * half_load / load.round_readings) + 1
    start_ms = int(time.time() * 1000) // 60_000 * 60_000 - 2 * rounds * load.points * load.step_ms - 600_000
    load = replace(load, start_ms=start_ms)
    flood = Load(devices=1, first_device=load.devices, step_ms=1, clock_rounds=0, rate=FLOOD * half_load / load.devices)
    with stack(load.devices + 3 * faults + 2, clock="wall") as started:
        spare = [f"bench-{load.devices + number:06d}" for number in range(1, 3 * faults + 2)]
        first = Faults(started, spare[:1])
        first.delays_ms(0)  # the first alert of a worker loads what it needs
        first.close()
        for name, place in (("idle", 0), ("half_load", 1), ("beside_flood", 2)):
            publishing = []
            if name != "idle":
                publishing.append(start_publisher(started.settings.mqtt_url or "", load, rounds, (place - 1) * rounds))
            if name == "beside_flood":
                flood = replace(flood, start_ms=int(time.time() * 1000) - 3_600_000)
                publishing.append(start_publisher(started.settings.mqtt_url or "", flood, 1_000_000, 0))
            for each in publishing:
                threading.Thread(target=each.communicate, daemon=True).start()
            time.sleep(5 if publishing else 0)
            sender = Faults(started, spare[1 + place * faults :][:faults])
            found = sender.delays_ms(0.25)
            sender.close()
            if publishing:
                still = publishing[0].poll() is None
                say(f"load while measuring: {half_load:,.0f} readings/s" + ("" if still else " (it ended early)"))
            for each in publishing:
                each.terminate()
            note = f"{len(found)} faults" + (f", {half_load:,.0f} readings/s" if publishing else "")
            if name == "beside_flood":
                note += f", one device sends {FLOOD} times what others do; flood alerts: {_flood_alerts(started)}"
            centiles = quantiles(found, n=100, method="inclusive")
            report(f"fault_to_alert_p50_ms_{name}", centiles[49], "ms", note=note)
            bar = {"at_most": 500.0} if publishing else {}
            report(f"fault_to_alert_p99_ms_{name}", centiles[98], "ms", note=note, **bar)


def _flood_alerts(started: Stack) -> int:
    """How many devices were said to flood."""
    with psycopg.connect(started.database_url) as connection:
        return len(connection.execute("SELECT FROM alerts WHERE detector = 'flood'").fetchall())


def growth(devices: Iterable[int], partitions: Iterable[int], readings: int) -> None:
    """(i): the same load with other numbers of devices, then with other numbers of partitions."""
    lines: list[list[float | str]] = []
    for fleet, parts in [*((fleet, 2) for fleet in devices), *((1_000, parts) for parts in partitions if parts != 2)]:
        load = Load(devices=fleet, clock_rounds=1 if fleet > LARGE_FLEET else 3)
        with stack(fleet, partitions=parts) as started:
            clocks = max(1, readings // (load.round_readings * load.clock_rounds))
            rounds = min(clocks, 200) * load.clock_rounds
            drive(started, load, load.clock_rounds)
            taken = drive(started, load, rounds, load.clock_rounds)
        lines.append([str(fleet), str(parts), taken.readings, taken.per_second, taken.cpu_us])
        say(f"{fleet} devices, {parts} partitions: {taken.per_second:,.0f} readings/s, {taken.shares()}")
    rows("pipeline_growth", ("devices", "partitions", "readings", "readings/s", "CPU µs"), lines)


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, fewer points")
    parser.add_argument("--only", choices=("d", "e", "i"), action="append", help="a part; all by default")
    given = parser.parse_args()
    only = given.only or ["d", "e", "i"]
    rounds, repeats, faults = (9, 1, 40) if given.quick else (30, 3, 200)
    embedded: list[Taken] = []
    if "d" in only:
        embedded = throughput("embedded", rounds, repeats)
        report_throughput("embedded", embedded, [])
        try:
            report_throughput("kafka", throughput("kafka", rounds, repeats), embedded)
        except LocalPartsError as error:
            for key in ("pipeline_readings_per_s_kafka", "cpu_us_per_reading_kafka"):
                unavailable(key, str(error))
    if "e" in only:
        most = min((taken.per_second for taken in embedded), default=150_000.0)  # the last repeats: tables have grown
        delays(faults, most / 2)
    if "i" in only:
        growth(
            GROWTH_DEVICES[:-2] if given.quick else GROWTH_DEVICES,
            GROWTH_PARTITIONS[:1] if given.quick else GROWTH_PARTITIONS,
            600_000 if given.quick else 2_000_000,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
