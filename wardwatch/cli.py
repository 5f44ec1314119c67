"""The command line. Exit status 0: done; 1: it did not work out; 2: a setting or argument is wrong."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import psycopg
import structlog
import typer

from grafana import publish
from schema.catalogue import CatalogueError
from schema.migrate import MigrationError, migrate
from schema.registry import Registry, RegistryError, check_registry
from streams.guarded import one_line
from streams.logs.file import LogError
from wardwatch import access, rehearsals, roles
from wardwatch.actions import ActionError, import_registry
from wardwatch.demo import DemoError
from wardwatch.doctor import diagnose
from wardwatch.local import LocalPartsError
from wardwatch.logs import configure_logs, secrets_of, settings_summary
from wardwatch.people import alerts_app, customers_app, workorders_app
from wardwatch.settings import Settings, SettingsError, load_settings, with_addresses
from wardwatch.stack import running_stack
from wardwatch.terminal import DataOption, JsonOption, KafkaOption, console, stop_on_signals
from wardwatch.views import show_checks

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

log = structlog.get_logger()


@app.command()
def up(data: DataOption = None, kafka: KafkaOption = None) -> None:
    """Start everything on this machine: broker, database, bridge, worker. Ctrl-C stops it in order."""
    stop = stop_on_signals()
    with running_stack(load_settings(data=data, kafka=kafka), console.print) as stack:
        console.print(f"MQTT      {stack.settings.mqtt_url}")
        if stack.settings.kafka is not None:
            console.print(f"Kafka     {stack.settings.kafka}")
        console.print(f"database  addresses are in {stack.settings.data / 'run' / 'addresses.json'}")
        for role, url in stack.metrics.items():
            console.print(f"metrics   {url} ({role})")
        console.print("everything runs; Ctrl-C stops it")
        stop.wait()
        console.print("stopping; last snapshots may take a minute (Ctrl-C again: at once)")


app.command()(rehearsals.demo)
app.command()(rehearsals.simulate)
app.command()(rehearsals.score)


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
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the checks say it
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
