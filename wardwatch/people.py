"""Commands for people: list, acknowledge, assign, close. Each action is a record in the log; its result is shown."""

import os
import uuid
from pathlib import Path
from typing import Annotated, Any, get_args

import psycopg
import typer

from alerting import queries
from schema.commands import (
    AcknowledgeAlert,
    AcknowledgeFlag,
    AssignWorkOrder,
    CloseAlert,
    CloseFlag,
    CloseWorkOrder,
    Command,
    FlagOutcome,
    Outcome,
    RepairOutcome,
    StartWorkOrder,
)
from wardwatch.access import open_log
from wardwatch.actions import send_commands
from wardwatch.settings import load_settings, with_addresses
from wardwatch.terminal import DataOption, JsonOption
from wardwatch.views import show_lines

alerts_app = typer.Typer(help="Alerts: list, acknowledge, close.", no_args_is_help=True)
workorders_app = typer.Typer(help="Work orders: list, assign, start, close.", no_args_is_help=True)
customers_app = typer.Typer(help="Customers at risk: list, acknowledge and close churn flags.", no_args_is_help=True)

AllOption = Annotated[bool, typer.Option("--all", help="Also what is over.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="At most so many lines.")]
ByOption = Annotated[str, typer.Option("--by", help="Who does this.", envvar="USER")]
CommentOption = Annotated[str, typer.Option("--comment", help="Why; stays in the history.")]
CustomerOption = Annotated[str | None, typer.Option("--customer", help="Only this customer.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="Only this device.")]


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no id; the list shows them") from None


AlertId = Annotated[str, typer.Argument(callback=_uuid, help="Id of the alert, as the list shows it.")]
WorkOrderId = Annotated[str, typer.Argument(callback=_uuid, help="Id of the order, as the list shows it.")]
FlagId = Annotated[str, typer.Argument(callback=_uuid, help="Id of the flag, as the list shows it.")]


@alerts_app.command("list")
def list_alerts(
    everything: AllOption = False,
    customer: CustomerOption = None,
    device: DeviceOption = None,
    detector: Annotated[str | None, typer.Option(help="Only this detector.")] = None,
    severity: Annotated[str | None, typer.Option(help="Only this severity.")] = None,
    limit: LimitOption = 50,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Alerts that are up, the newest first."""
    with _database(data) as connection:
        lines = queries.alerts(
            connection,
            everything=everything,
            customer_id=customer,
            device_id=device,
            detector=detector,
            severity=severity,
            limit=limit,
        )
    columns = {
        "fired_at": "fired",
        "severity": "severity",
        "state": "state",
        "detector": "detector",
        "device_id": "device",
        "subsystem": "subsystem",
        "customer": "customer",
        "work_order": "order",
        "alert_id": "alert",
    }
    show_lines(lines, columns, as_json=as_json, empty="no alerts")


@alerts_app.command("ack")
def acknowledge_alert(
    alert_id: AlertId,
    by: ByOption = "",
    comment: CommentOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that you have seen an alert and own it."""
    _do(AcknowledgeAlert(command_id=_new_id(), actor=_actor(by), comment=comment, alert_id=alert_id), data, as_json)


@alerts_app.command("close")
def close_alert(
    alert_id: AlertId,
    outcome: Annotated[str, typer.Option(help=f"One of {', '.join(get_args(Outcome))}.")],
    by: ByOption = "",
    comment: CommentOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge an alert; the detectors learn from it."""
    judged: Any = _one_of("--outcome", outcome, get_args(Outcome))
    _do(
        CloseAlert(command_id=_new_id(), actor=_actor(by), comment=comment, alert_id=alert_id, outcome=judged),
        data,
        as_json,
    )


@workorders_app.command("list")
def list_work_orders(
    everything: AllOption = False,
    customer: CustomerOption = None,
    device: DeviceOption = None,
    technician: Annotated[str | None, typer.Option(help="Only orders of this technician.")] = None,
    limit: LimitOption = 50,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open work orders, the most urgent first."""
    with _database(data) as connection:
        lines = queries.work_orders(
            connection,
            everything=everything,
            customer_id=customer,
            device_id=device,
            technician_id=technician,
            limit=limit,
        )
    columns = {
        "number": "number",
        "priority": "priority",
        "state": "state",
        "kind": "kind",
        "device_id": "device",
        "subsystem": "subsystem",
        "due_at": "due",
        "part_ids": "parts",
        "skill": "skill",
        "technician_id": "technician",
        "suggested_technician_id": "suggested",
        "work_order_id": "order",
    }
    show_lines(lines, columns, as_json=as_json, empty="no work orders")


@workorders_app.command("assign")
def assign_work_order(
    work_order_id: WorkOrderId,
    technician: Annotated[str, typer.Option(help="Who is to do it.")],
    by: ByOption = "",
    comment: CommentOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an order to a technician."""
    _do(
        AssignWorkOrder(
            command_id=_new_id(),
            actor=_actor(by),
            comment=comment,
            work_order_id=work_order_id,
            technician_id=technician,
        ),
        data,
        as_json,
    )


@workorders_app.command("start")
def start_work_order(
    work_order_id: WorkOrderId,
    by: ByOption = "",
    comment: CommentOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that work has begun."""
    _do(
        StartWorkOrder(command_id=_new_id(), actor=_actor(by), comment=comment, work_order_id=work_order_id),
        data,
        as_json,
    )


@workorders_app.command("close")
def close_work_order(
    work_order_id: WorkOrderId,
    outcome: Annotated[str, typer.Option(help=f"One of {', '.join(get_args(RepairOutcome))}.")],
    part: Annotated[list[str] | None, typer.Option(help="Part that was used; may be given several times.")] = None,
    by: ByOption = "",
    comment: CommentOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that work is done, and what was found."""
    found: Any = _one_of("--outcome", outcome, get_args(RepairOutcome))
    _do(
        CloseWorkOrder(
            command_id=_new_id(),
            actor=_actor(by),
            comment=comment,
            work_order_id=work_order_id,
            outcome=found,
            part_ids=tuple(part or ()),
        ),
        data,
        as_json,
    )


@customers_app.command("list")
def list_customers(
    everything: AllOption = False,
    customer: CustomerOption = None,
    limit: LimitOption = 50,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Customers with an open churn flag, the steepest decline first."""
    with _database(data) as connection:
        lines = queries.customers(connection, everything=everything, customer_id=customer, limit=limit)
    columns = {
        "customer": "customer",
        "level": "level",
        "health": "health",
        "decline_pct": "decline %",
        "flag_state": "flag",
        "raised_at": "raised",
        "owner_role": "who acts",
        "intervention": "advice",
        "flag_id": "flag id",
    }
    show_lines(lines, columns, as_json=as_json, empty="no customers at risk")


@customers_app.command("ack")
def acknowledge_flag(
    flag_id: FlagId,
    by: ByOption = "",
    comment: CommentOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a churn flag up."""
    _do(AcknowledgeFlag(command_id=_new_id(), actor=_actor(by), comment=comment, flag_id=flag_id), data, as_json)


@customers_app.command("close")
def close_flag(
    flag_id: FlagId,
    outcome: Annotated[str, typer.Option(help=f"One of {', '.join(get_args(FlagOutcome))}.")],
    by: ByOption = "",
    comment: CommentOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close a churn flag with what became of the customer."""
    ended: Any = _one_of("--outcome", outcome, get_args(FlagOutcome))
    _do(
        CloseFlag(command_id=_new_id(), actor=_actor(by), comment=comment, flag_id=flag_id, outcome=ended),
        data,
        as_json,
    )


def _do(command: Command, data: Path | None, as_json: bool) -> None:
    settings = with_addresses(load_settings(data=data))
    assert settings.database_url is not None
    with open_log(settings) as opened:
        results = send_commands(opened, settings.database_url, [command], settings.partitions)
    columns = {"result": "result", "detail": "detail", "command_id": "command"}
    show_lines(results, columns, as_json=as_json, empty="")
    if results[0].result != "applied":
        raise typer.Exit(1)


def _database(data: Path | None) -> psycopg.Connection[Any]:
    settings = with_addresses(load_settings(data=data))
    assert settings.database_url is not None
    return psycopg.connect(settings.database_url, autocommit=True)


def _new_id() -> str:
    return str(uuid.uuid4())


def _actor(given: str) -> str:
    return given or os.environ.get("LOGNAME") or "somebody"


def _one_of(option: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(choices)}", param_hint=option)
    return value
