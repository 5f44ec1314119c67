"""Commands that play the life of a made-up fleet: demo, simulate, and the score of what was found in it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import psycopg
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from grafana import publish
from simulator.publisher import play
from simulator.score import score as score_run
from simulator.truth import append_truth, read_truth, write_truth
from wardwatch import access
from wardwatch.actions import import_registry
from wardwatch.demo import DemoOptions, DemoState, run_demo
from wardwatch.settings import SettingsError, load_settings, with_addresses
from wardwatch.terminal import DataOption, JsonOption, KafkaOption, console, stop_on_signals
from wardwatch.views import summary_table

EARLIEST_YEAR = 2001

SeedOption = Annotated[int, typer.Option(help="Same seed, same fleet, same telemetry.")]
DevicesOption = Annotated[int, typer.Option(min=1, help="Devices in the fleet.")]
CustomersOption = Annotated[int, typer.Option(min=1, help="Hospitals.")]
DaysOption = Annotated[int, typer.Option(min=1, help="Virtual days.")]
SpeedOption = Annotated[str, typer.Option(help="Virtual seconds a second, or max: as fast as the pipeline takes it.")]
StartOption = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="First virtual instant, UTC.")
]


def demo(
    seed: SeedOption = 7,
    leave: Annotated[bool, typer.Option("--exit", help="End after the summary instead of staying up.")] = False,
    devices: DevicesOption = 150,
    customers: CustomersOption = 30,
    days: DaysOption = 56,
    start: StartOption = None,
    speed: SpeedOption = "max",
    max_readings: Annotated[int | None, typer.Option(help="Readings in one record of the log, at most.")] = None,
    kafka: KafkaOption = None,
    kill_worker_at: Annotated[float | None, typer.Option(min=0, max=1, help="Kill the worker at this share.")] = None,
    kill_ingest_at: Annotated[float | None, typer.Option(min=0, max=1, help="Kill the bridge at this share.")] = None,
    data: Annotated[Path, typer.Option(help="Data folder; emptied first.")] = Path(".data/demo"),
    summary: Annotated[Path | None, typer.Option(help="Where the summary is written.")] = None,
) -> None:
    """Watch a fleet of hospital devices come alive, and score what was found against the truth."""
    stop = stop_on_signals()
    settings = load_settings(data=data, max_readings=max_readings, kafka=kafka)
    options = DemoOptions(
        seed=seed,
        devices=devices,
        customers=customers,
        days=days,
        start_ms=_ms(start),
        speed=_speed(speed),
        kill_worker_at=kill_worker_at,
        kill_ingest_at=kill_ingest_at,
    )
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[day]}"),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:3.0f} %"),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
        TextColumn("[yellow]{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=False) as bar:
        task = bar.add_task("", total=1.0, day="starting", counts="", note="")

        def show(state: DemoState) -> None:
            day = datetime.fromtimestamp(state.at_ms / 1000, UTC).strftime("%d %b %H:%M")
            counts = f"{state.messages / 1e3:.0f} k messages, {state.readings / 1e6:.2f} M readings, {state.lag} behind"
            bar.update(task, completed=state.done, day=day, counts=counts, note=state.note)

        with run_demo(
            settings, options, summary_file=summary, on_progress=bar.console.print, show=show, stop=stop
        ) as result:
            bar.stop()
            Console().print(summary_table(result.summary))
            written = summary or result.stack.settings.data / "summary.json"
            print(f"{'summary':20}{written}")
            print(f"{'digest':20}{result.summary['digest']}")
            for title, link in publish.links(
                settings.grafana_url or "http://localhost:3000", result.scenario.start_ms, result.scenario.end_ms
            ):
                print(f"{title:20}{link}")
            if leave or stop.is_set():
                return
            print(f"everything stays up; look around: wardwatch alerts list --data {result.stack.settings.data}")
            print("Ctrl-C stops it")
            stop.wait()


def simulate(
    seed: SeedOption = 7,
    devices: DevicesOption = 150,
    customers: CustomersOption = 30,
    days: DaysOption = 56,
    start: StartOption = None,
    speed: SpeedOption = "max",
    truth: Annotated[Path, typer.Option(help="Where the truth is written, as JSON lines.")] = Path("truth.jsonl"),
    bridges: Annotated[int, typer.Option(min=1, help="Bridges that run, and confirm the clock.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the truth, publish nothing.")] = False,
    data: DataOption = None,
) -> None:
    """Register a seeded fleet and publish its life to what runs (with WARDWATCH_CLOCK=simulated)."""
    stop = stop_on_signals()
    start_ms = _ms(start)
    scenario = DemoOptions(seed, devices, customers, days, start_ms).scenario()
    if dry_run:
        write_truth(truth, scenario.facts())
        console.print(f"{truth} is written; nothing was published")
        return
    settings = with_addresses(load_settings(data=data))
    if settings.clock != "simulated":
        raise SettingsError("WARDWATCH_CLOCK: must be simulated where a simulator sets the time")
    assert settings.database_url is not None
    if settings.mqtt_url is None:
        raise SettingsError("WARDWATCH_MQTT_URL: not set; name a broker")
    write_truth(truth, scenario.facts())
    with access.open_log(settings) as opened:
        import_registry(
            opened, settings.database_url, scenario.registry, settings.partitions, now_ms=scenario.start_ms
        )
    totals = play(
        scenario,
        settings.mqtt_url,
        speed=_speed(speed),
        bridges=bridges,
        tls=access.mqtt_tls(settings).context(),
        on_progress=lambda at: console.print(
            f"{datetime.fromtimestamp(at.at_ms / 1000, UTC):%d %b %H:%M}  {at.messages:,} messages {at.waiting_for}",
            end="\r",
        ),
        stop=stop,
    )
    append_truth(truth, [totals])
    console.print(f"\n{totals.messages:,} messages; the truth is in {truth}")


def score(
    truth: Annotated[Path, typer.Option(help="Truth of the run, as JSON lines.", exists=True, dir_okay=False)],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score what is in the database against the truth."""
    settings = with_addresses(load_settings(data=data))
    assert settings.database_url is not None
    try:
        facts = read_truth(truth)
        with psycopg.connect(settings.database_url) as connection:
            summary = msgspec.to_builtins(score_run(connection, facts))
    except (msgspec.MsgspecError, ValueError) as error:
        raise SettingsError(f"--truth {truth}: {error}") from error
    if as_json:
        print(msgspec.json.encode(summary).decode())
    else:
        Console().print(summary_table(summary))


def _ms(at: datetime | None) -> int | None:
    if at is not None and at.year < EARLIEST_YEAR:
        raise typer.BadParameter(
            f"before {EARLIEST_YEAR}, which devices' clocks are not believed", param_hint="--start"
        )
    return None if at is None else int(at.replace(tzinfo=UTC).timestamp() * 1000)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if speed <= 0:
        raise typer.BadParameter(f"{text!r} is neither a positive number nor max", param_hint="--speed")
    return speed
