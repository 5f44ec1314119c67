"""Commands of people: each is a record in the log, applied by the owner of the partition at the partition's time."""

from typing import Literal

import msgspec

Outcome = Literal["confirmed", "false", "unclear"]
RepairOutcome = Literal["confirmed", "no_fault_found", "part_replaced"]
FlagOutcome = Literal["kept", "lost", "false_alarm"]


class _Command(msgspec.Struct, frozen=True, tag_field="action", kw_only=True):
    command_id: str
    """UUID chosen by the sender; a repeated command is applied once. Its result stands in `audit_log` under this id."""
    actor: str
    comment: str = ""


class AcknowledgeAlert(_Command, frozen=True, kw_only=True, tag="acknowledge_alert"):
    """Somebody has seen the alert and owns it."""

    alert_id: str


class CloseAlert(_Command, frozen=True, kw_only=True, tag="close_alert"):
    """The alert is judged; the label goes back to the models."""

    alert_id: str
    outcome: Outcome


class AssignWorkOrder(_Command, frozen=True, kw_only=True, tag="assign_work_order"):
    """Give an order to a technician."""

    work_order_id: str
    technician_id: str


class StartWorkOrder(_Command, frozen=True, kw_only=True, tag="start_work_order"):
    """Work has begun."""

    work_order_id: str


class CloseWorkOrder(_Command, frozen=True, kw_only=True, tag="close_work_order"):
    """Work is done, with what was found and used."""

    work_order_id: str
    outcome: RepairOutcome
    part_ids: tuple[str, ...] = ()


class AcknowledgeFlag(_Command, frozen=True, kw_only=True, tag="acknowledge_flag"):
    """The owner of a churn flag has taken it up."""

    flag_id: str


class CloseFlag(_Command, frozen=True, kw_only=True, tag="close_flag"):
    """The churn case is closed with what became of the customer."""

    flag_id: str
    outcome: FlagOutcome


class Silence(_Command, frozen=True, kw_only=True, tag="silence"):
    """Mute notifications of alerts of a device, site or customer for a while: half-open [from_ms, until_ms)."""

    from_ms: int
    until_ms: int
    customer_id: str
    site_id: str = ""
    device_id: str = ""
    detector: str = ""


Command = (
    AcknowledgeAlert
    | CloseAlert
    | AssignWorkOrder
    | StartWorkOrder
    | CloseWorkOrder
    | AcknowledgeFlag
    | CloseFlag
    | Silence
)
