"""What is done to whom, and when: all of it from a seed."""

import os
import queue
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import psycopg

from chaos.disk import Disk
from chaos.proxy import Proxy
from simulator.scenario import Scenario
from wardwatch.local.process import Service, processes

Action = Literal["kill", "kill a backend of", "stop", "reset connections of", "fill the disk of"]

LASTING: tuple[Action, ...] = ("stop", "fill the disk of")
DISASTERS = (3, 5)
"""At least and at most so many in a run; not counted those that happen while another one lasts."""
MEANWHILE = 0.7
"""Share of the lasting ones in whose middle another one happens: what was stopped is behind then, much is queued."""
JITTER_S = 0.3
HOUR_MS = 3_600_000


class Deed(NamedTuple):
    """What is done to whom."""

    action: Action
    whom: str


EVERYWHERE = (
    Deed("kill", "ingest"),
    Deed("kill", "worker"),
    Deed("kill", "MQTT broker"),
    Deed("kill", "database"),
    Deed("kill a backend of", "database"),
    Deed("stop", "ingest"),
    Deed("stop", "worker"),
    Deed("stop", "MQTT broker"),
    Deed("stop", "database"),
    Deed("reset connections of", "MQTT broker"),
    Deed("reset connections of", "database"),
)
KINDS = {
    "embedded": (*EVERYWHERE, Deed("fill the disk of", "log")),
    "kafka": (*EVERYWHERE, Deed("kill", "Kafka"), Deed("stop", "Kafka")),
}


class Disaster(NamedTuple):
    """Something that happens when virtual time comes to `at_ms`, `delay_s` later while all goes on."""

    at_ms: int
    deed: Deed
    meanwhile: Deed | None
    """Done in the middle of one that lasts."""
    delay_s: float

    def told(self, start_ms: int) -> str:
        """Say it for a line: what, to whom, and at which virtual hour of the run."""
        at = f"at {(self.at_ms - start_ms) / HOUR_MS:.1f} h"
        meanwhile = f" and meanwhile {' '.join(self.meanwhile)}" if self.meanwhile else ""
        return f"{' '.join(self.deed)} {at}{meanwhile}"


def plan(seed: int, log: str, scenario: Scenario) -> list[Disaster]:
    """The disasters of a seed, in order."""
    rng = random.Random(f"{seed}/{log}")
    deeds = rng.choices(KINDS[log], k=rng.randint(*DISASTERS))
    sudden = [deed for deed in KINDS[log] if deed.action not in LASTING]
    moments = sorted(rng.uniform(scenario.start_ms + HOUR_MS, scenario.end_ms - HOUR_MS) for _ in deeds)
    return [
        Disaster(
            int(at_ms),
            deed,
            rng.choice(sudden) if deed.action in LASTING and rng.random() < MEANWHILE else None,
            rng.uniform(0, JITTER_S),
        )
        for at_ms, deed in zip(moments, deeds, strict=True)
    ]


@dataclass
class Victims:
    """What disasters can reach: services by name, proxies by whom they stand before, the log's disk."""

    services: dict[str, Service]
    proxies: dict[str, Proxy]
    disk: Disk
    database_url: str
    """Of the server itself, not through a proxy."""
    cluster: Path
    """Working directory of every process of the database."""


@dataclass
class Striker:
    """Carries disasters out, one after the other, beside whoever publishes."""

    disasters: Sequence[Disaster]
    victims: Victims
    stop_s: float
    _due: "queue.SimpleQueue[Disaster | None]" = field(default_factory=queue.SimpleQueue)
    _begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _next: int = 0
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="striker", daemon=True)
        self._thread.start()

    def on_time(self, at_ms: int) -> None:
        """Strike what is due at a virtual time; return when the disaster before is over and this one is on its way."""
        while self._next < len(self.disasters) and self.disasters[self._next].at_ms <= at_ms:
            self._due.put(self.disasters[self._next])
            self._begun.acquire()
            self._next += 1

    def finish(self) -> None:
        """Return when the last one is over.

        Raises:
            BaseException: one could not be carried out.
        """
        self._due.put(None)
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        while (disaster := self._due.get()) is not None:
            self._begun.release()
            try:
                time.sleep(disaster.delay_s)
                self._carry_out(disaster.deed, disaster)
            except BaseException as error:
                self.error = error

    def _carry_out(self, deed: Deed, disaster: Disaster) -> None:
        victims = self.victims
        match deed.action:
            case "kill":
                victims.services[deed.whom].kill()
            case "kill a backend of":
                _kill_backend(victims.database_url, disaster.delay_s)
            case "stop":
                pids = self._processes_of(deed.whom)
                begin, end = (partial(_signal, pids, number) for number in (signal.SIGSTOP, signal.SIGCONT))
                self._for_a_while(begin, end, disaster)
            case "reset connections of":
                victims.proxies[deed.whom].reset()
            case "fill the disk of":
                self._for_a_while(victims.disk.fill, victims.disk.free, disaster)

    def _for_a_while(self, begin: Callable[[], None], end: Callable[[], None], disaster: Disaster) -> None:
        begin()
        try:
            time.sleep(self.stop_s / 2)
            if disaster.meanwhile is not None:
                self._carry_out(disaster.meanwhile, disaster)
            time.sleep(self.stop_s / 2)
        finally:
            end()

    def _processes_of(self, whom: str) -> list[int]:
        if whom == "database":
            return processes(lambda _, folder: folder == self.victims.cluster)
        pid = self.victims.services[whom].pid
        return [] if pid is None else [pid]


def _kill_backend(database_url: str, draw: float) -> None:
    """Kill one process that serves a client, as memory shortage would: the server then restarts all of them."""
    try:
        with psycopg.connect(database_url, connect_timeout=5) as connection:
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
                " AND datname = current_database() AND pid <> pg_backend_pid() ORDER BY pid"
            ).fetchall()
    except psycopg.OperationalError:  # still down from the disaster before
        return
    if found:
        _signal([found[int(draw / JITTER_S * len(found)) % len(found)][0]], signal.SIGKILL)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # ended in the meantime
            os.kill(pid, number)
