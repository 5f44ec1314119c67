"""The command line. Exit status 0: done; 1: it did not work out; 2: a setting or argument is wrong."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import psycopg
import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from grafana import publish
from schema.catalogue import CatalogueError
from schema.migrate import MigrationError, migrate
from schema.registry import Registry, RegistryError, check_registry
from simulator.publisher import play
from simulator.score import score as score_run
from simulator.truth import append_truth, read_truth, write_truth
from streams.guarded import one_line
from streams.logs.file import LogError
from wardwatch import access, roles
from wardwatch.actions import ActionError, import_registry
from wardwatch.demo import DemoError, DemoOptions, DemoState, run_demo
from wardwatch.doctor import diagnose
from wardwatch.local import LocalPartsError
from wardwatch.logs import configure_logs, secrets_of, settings_summary
from wardwatch.people import alerts_app, customers_app, workorders_app
from wardwatch.settings import Settings, SettingsError, load_settings, with_addresses
from wardwatch.stack import running_stack
from wardwatch.views import show_checks, summary_table

app = typer.Typer(
    name="wardwatch",
    help="Telemetry of medical devices in; alerts, work orders and churn flags out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
registry_app = typer.Typer(help="What the engine must know beforehand.", no_args_is_help=True)
grafana_app = typer.Typer(help="Boards as code.", no_args_is_help=True)
for name, group in (
    ("registry", registry_app),
    ("grafana", grafana_app),
    ("alerts", alerts_app),
    ("workorders", workorders_app),
    ("customers", customers_app),
):
    app.add_typer(group, name=name)

console = Console(stderr=True)
log = structlog.get_logger()
EARLIEST_YEAR = 2001

DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of all that a run leaves.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
KafkaOption = Annotated[
    str | None, typer.Option("--kafka", help="Kafka is the log: HOST:PORT[,…] of one that runs, or local: start one.")
]
SeedOption = Annotated[int, typer.Option(help="Same seed, same fleet, same telemetry.")]
DevicesOption = Annotated[int, typer.Option(min=1, help="Devices in the fleet.")]
CustomersOption = Annotated[int, typer.Option(min=1, help="Hospitals.")]
DaysOption = Annotated[int, typer.Option(min=1, help="Virtual days.")]
SpeedOption = Annotated[str, typer.Option(help="Virtual seconds a second, or max: as fast as the pipeline takes it.")]
StartOption = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="First virtual instant, UTC.")
]


@app.command()
def up(data: DataOption = None, kafka: KafkaOption = None) -> None:
    """Start everything on this machine: broker, database, bridge, worker. Ctrl-C stops it in order."""
    stop = _stop_on_signals()
    with running_stack(load_settings(data=data, kafka=kafka), console.print) as stack:
        console.print(f"MQTT      {stack.settings.mqtt_url}")
        if stack.settings.kafka is not None:
            console.print(f"Kafka     {stack.settings.kafka}")
        console.print(f"database  addresses are in {stack.settings.data / 'run' / 'addresses.json'}")
        for role, url in stack.metrics.items():
            console.print(f"metrics   {url} ({role})")
        console.print("everything runs; Ctrl-C stops it")
        stop.wait()
        console.print("stopping")


@app.command()
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
    stop = _stop_on_signals()
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


@app.command()
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
    stop = _stop_on_signals()
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


@app.command("score")
def score_command(
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


@app.command("migrate")
def migrate_command(data: DataOption = None) -> None:
    """Bring the database's tables up to date."""
    settings = with_addresses(load_settings(data=data))
    applied = migrate(access.database_url(settings), access.catalogue_of(settings))
    print("\n".join(applied) if applied else "nothing to do")


@app.command()
def ingest() -> None:
    """Bring messages from the broker into the log. Addresses come from the settings."""
    _run_role("ingest", roles.ingest_role)


@app.command()
def worker() -> None:
    """Turn the log into alerts, orders and flags. Addresses come from the settings."""
    _run_role("worker", roles.worker_role)


@app.command("doctor")
def doctor_command(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Look at every part, and say what to do about what is not well. Exit status 1: something fails."""
    checks = diagnose(data)
    show_checks(checks, as_json=as_json)
    if any(check.state == "fail" for check in checks):
        raise typer.Exit(1)


@registry_app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Registry as JSON.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file only.")] = False,
    data: DataOption = None,
) -> None:
    """Bring customers, sites, devices, technicians, parts and calendars in through the log."""
    try:
        registry = msgspec.json.decode(file.read_bytes(), type=Registry)
        check_registry(registry)
    except (msgspec.MsgspecError, RegistryError) as error:
        raise SettingsError(f"{file}: {error}") from error
    counts = {name: len(getattr(registry, name)) for name in registry.__struct_fields__}
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    settings = with_addresses(load_settings(data=data))
    unknown = sorted({device.model for device in registry.devices} - access.catalogue_of(settings).keys())
    if unknown:
        raise SettingsError(f"{file}: devices of models that no catalogue file describes: {', '.join(unknown)}")
    if dry_run:
        return
    assert settings.database_url is not None
    with access.open_log(settings) as opened:
        import_registry(opened, settings.database_url, registry, settings.partitions, now_ms=0)
    print("committed")


@grafana_app.command("export")
def grafana_export(folder: Annotated[Path, typer.Argument(help="Where the boards are written.")]) -> None:
    """Write the boards as JSON files."""
    for path in publish.export(folder):
        print(path)


@grafana_app.command("apply")
def grafana_apply(data: DataOption = None) -> None:
    """Put data source, folder and boards into the Grafana of the settings (`grafana_url`, `grafana_token`)."""
    settings = with_addresses(load_settings(data=data))
    credential = settings.grafana_credential
    if settings.grafana_url is None or credential is None:
        raise SettingsError("WARDWATCH_GRAFANA_URL and WARDWATCH_GRAFANA_TOKEN: both must be set")
    database = publish.DatabaseSettings.from_url(access.database_url(settings))
    for title, link in publish.apply(settings.grafana_url, credential, database):
        print(f"{title}  {link}")


def _run_role(name: str, role: Callable[[Settings, Callable[[], None]], None]) -> None:
    """Run a long-running role; why it ends is one line of its log."""
    settings = load_settings()
    configure_logs(settings.log_format, secrets=secrets_of(settings))
    os.umask(0o077)
    log.info("starts", role=name, **settings_summary(settings))
    try:
        role(settings, lambda: _note_ready(settings, name))
    except roles.ENDINGS as error:
        log.error("ends", role=name, why=type(error).__name__, error=one_line(error), advice=roles.advice(error))
        raise typer.Exit(1) from None
    except (SettingsError, CatalogueError):
        raise
    except Exception:
        log.exception("crashed", role=name)
        raise typer.Exit(1) from None
    log.info("stopped", role=name)


def _note_ready(settings: Settings, role: str) -> None:
    noted = roles.ready_file(settings.data, role)
    noted.parent.mkdir(parents=True, exist_ok=True)
    noted.write_text(str(os.getpid()), "utf-8")


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


def _stop_on_signals() -> threading.Event:
    """First SIGINT or SIGTERM: stop in order. Second: at once."""
    stop = threading.Event()

    def ask(number: int, _frame: Any) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return stop


def main() -> None:
    """Run the command line; errors that people can act on are one message, not a traceback."""
    configure_logs()
    try:
        app()
    except (SettingsError, CatalogueError) as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except (
        ActionError,
        DemoError,
        LocalPartsError,
        LogError,
        MigrationError,
        publish.GrafanaError,
        psycopg.OperationalError,
    ) as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
