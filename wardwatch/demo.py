"""The whole way in one command: a seeded fleet through broker, bridge, log, worker and database, then its score."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from schema.topics import TELEMETRY
from simulator import staff
from simulator.publisher import play
from simulator.scenario import Scenario
from simulator.score import Summary, score
from simulator.tally import Progress
from simulator.truth import Truth, append_truth, read_truth, write_truth
from wardwatch.access import mqtt_tls
from wardwatch.actions import import_registry, progress, wait_for_time
from wardwatch.local import owned
from wardwatch.settings import Settings
from wardwatch.stack import Stack, running_stack
from wardwatch.workplace import COMMIT_WITHIN_S, StackWorkplace

TRUTH_FILE = "truth.jsonl"
SUMMARY_FILE = "summary.json"
OUTBOX_FILE = "outbox.jsonl"
_MARKER = ".wardwatch-demo"
_CONFIRM_EVERY_MS = 3_600_000
"""Of virtual time: a device hears at most so often what is confirmed; it keeps its messages that long."""


class DemoError(Exception):
    """The demo cannot run like this; the message says what to do."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What can be chosen on the command line."""

    seed: int = 7
    devices: int = 150
    customers: int = 30
    days: int = 56
    start_ms: int | None = None
    speed: float | None = None
    """Virtual seconds a second; None is as fast as the pipeline takes it."""
    kill_worker_at: float | None = None
    """Share of the run, in (0, 1), at which the worker is killed (SIGKILL)."""
    kill_ingest_at: float | None = None

    def scenario(self) -> Scenario:
        """Return the scenario of these options.

        Raises:
            DemoError: a fleet of this size cannot be.
        """
        size: dict[str, int] = {"devices": self.devices, "customers": self.customers, "days": self.days}
        if self.start_ms is not None:
            size["start_ms"] = self.start_ms
        try:
            return Scenario(self.seed, **size)
        except ValueError as error:
            raise DemoError(str(error)) from error


@dataclass(frozen=True, slots=True)
class DemoState:
    """What the live view shows."""

    done: float
    """Share of the virtual time that is over, in [0, 1]."""
    at_ms: int
    messages: int
    readings: int
    lag: int
    """Records in the log that the worker has not committed."""
    note: str


@dataclass(slots=True)
class _Kill:
    role: str
    at_ms: float
    done: bool = False


@dataclass(slots=True)
class _Run:
    """Plays the scenario against a running stack."""

    stack: Stack
    scenario: Scenario
    options: DemoOptions
    show: Callable[[DemoState], None]
    kills: list[_Kill] = field(default_factory=list)
    lag_at_kill: int | None = None
    lag: int = 0
    connection: psycopg.Connection[Any] | None = None

    def play(self, truth_file: Path, stop: threading.Event) -> None:
        """Register the fleet, publish it, wait until all is committed; the truth is complete afterwards."""
        settings, scenario = self.stack.settings, self.scenario
        import_registry(
            self.stack.log,
            self.stack.database_url,
            scenario.registry,
            settings.partitions,
            now_ms=scenario.start_ms,
            stop=stop,
        )
        write_truth(truth_file, scenario.facts())
        truth = read_truth(truth_file)
        assert settings.mqtt_url is not None
        workplace = StackWorkplace(self.stack, stop)
        try:
            totals = play(
                scenario,
                settings.mqtt_url,
                speed=self.options.speed,
                tls=mqtt_tls(settings).context(),
                on_progress=self._on_progress,
                staff=lambda at_ms: staff.work(workplace, truth, at_ms),
                stop=stop,
            )
        finally:
            if self.connection is not None:
                self.connection.close()
        append_truth(truth_file, [totals])
        if stop.is_set():
            raise DemoError("stopped before the end of the run; nothing is scored")
        wait_for_time(self.stack.database_url, totals.until_ms, settings.partitions, COMMIT_WITHIN_S, stop)

    def _on_progress(self, at: Progress) -> None:
        self._look()
        for kill in self.kills:
            if not kill.done and at.at_ms >= kill.at_ms:
                self._carry_out(kill)
        duration_ms = self.scenario.end_ms - self.scenario.start_ms
        note = f"waiting for {at.waiting_for} ({at.waiting_s:.0f} s)" if at.waiting_for else ""
        done = (at.at_ms - self.scenario.start_ms) / duration_ms
        self.show(DemoState(done, at.at_ms, at.messages, at.readings, self.lag, note))

    def _carry_out(self, kill: _Kill) -> None:
        """Kill a role; a worker only while it is behind, else at a later look: waiting here would hold up the load."""
        if kill.role == "worker":
            if not self.lag:
                return
            self.lag_at_kill = self.lag
        kill.done = True
        self.stack.kill(kill.role)

    def _look(self) -> None:
        """Note how far the worker is behind, if the database says so: it may be away for a while."""
        try:
            if self.connection is None or self.connection.closed:
                self.connection = psycopg.connect(self.stack.database_url, autocommit=True)
            committed = progress(self.connection)
        except psycopg.OperationalError:
            return
        self.lag = sum(
            end - committed.get(partition, (0, 0))[0]
            for (topic, partition), end in self.stack.log.end_offsets().items()
            if topic == TELEMETRY
        )


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What came of it, while the stack still runs."""

    stack: Stack
    scenario: Scenario
    truth: Truth
    summary: dict[str, Any]


@contextmanager
def run_demo(
    settings: Settings,
    options: DemoOptions,
    *,
    summary_file: Path | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
    show: Callable[[DemoState], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Iterator[DemoResult]:
    """Run the demo in a fresh data folder; everything is up for the time of the context.

    Raises:
        DemoError: the data folder holds something else, or the pipeline does not answer.
    """
    begun_s = time.monotonic()
    scenario = options.scenario()
    _clear(settings.data)
    settings = settings.model_copy(
        update={
            "clock": "simulated",
            "confirm_interval_ms": _CONFIRM_EVERY_MS,
            "deliver": settings.deliver or {"": [(settings.data / OUTBOX_FILE).resolve().as_uri()]},
        }
    )
    with running_stack(settings, on_progress) as stack:
        span_ms = scenario.end_ms - scenario.start_ms
        kills = [
            _Kill(role, scenario.start_ms + share * span_ms)
            for role, share in (("worker", options.kill_worker_at), ("ingest", options.kill_ingest_at))
            if share is not None
        ]
        run = _Run(stack, scenario, options, show, kills)
        truth_file = stack.settings.data / TRUTH_FILE
        run.play(truth_file, stop or threading.Event())
        truth = read_truth(truth_file)
        with psycopg.connect(stack.database_url) as connection:
            found: Summary = score(connection, truth)
        summary = msgspec.to_builtins(found) | {
            "worker_restarts": stack.restarts("worker"),
            "lag_at_kill": run.lag_at_kill,
            "wall_s": round(time.monotonic() - begun_s, 1),
        }
        written = summary_file or stack.settings.data / SUMMARY_FILE
        written.write_text(json.dumps(summary, indent=2) + "\n", "utf-8")
        yield DemoResult(stack, scenario, truth, summary)


def _clear(data: Path) -> None:
    """Empty a folder of an earlier demo; refuse any other."""
    marker = data / _MARKER
    if data.exists() and any(data.iterdir()):
        if not marker.exists():
            raise DemoError(f"--data {data}: not empty and not of an earlier demo; name another folder or remove it")
        with owned(data):
            shutil.rmtree(data)
    data.mkdir(parents=True, exist_ok=True)
    marker.write_text("The demo empties this folder at each start.\n", "utf-8")
