"""Rows of the tables that partitions write whole: a row replaces the one with the same key.

Fields are the columns. Fields that end in `_at`, and `at`, are ms since the epoch and become `timestamptz`.
"""

from typing import Any, ClassVar

import msgspec


class Row(msgspec.Struct):
    """A row of the table `TABLE`; the columns `KEY` are its primary key."""

    TABLE: ClassVar[str]
    KEY: ClassVar[tuple[str, ...]]
    FIRST_STAYS: ClassVar[bool] = False
    """A row that is there already stays as it is."""


class CustomerRow(Row):
    """A customer and its partition."""

    TABLE = "customers"
    KEY = ("customer_id",)
    customer_id: str
    name: str
    segment: str
    region: str
    account_manager: str
    partition: int


class SiteRow(Row):
    """A site."""

    TABLE = "sites"
    KEY = ("site_id",)
    site_id: str
    customer_id: str
    name: str
    region: str
    country: str
    timezone: str


class DeviceRow(Row):
    """A device as registered."""

    TABLE = "devices"
    KEY = ("device_id",)
    device_id: str
    model: str
    site_id: str
    customer_id: str
    installed_at: int
    udi_di: str
    udi_pi: str
    firmware: str
    partition: int


class TechnicianRow(Row):
    """A technician."""

    TABLE = "technicians"
    KEY = ("technician_id",)
    technician_id: str
    name: str
    skills: list[str]
    region: str


class PartRow(Row):
    """A spare part."""

    TABLE = "parts"
    KEY = ("part_id",)
    part_id: str
    name: str
    subsystem: str


class CalendarRow(Row):
    """A holiday or a planned maintenance."""

    TABLE = "calendars"
    KEY = ("calendar_id",)
    calendar_id: str
    kind: str
    name: str
    from_at: int
    until_at: int
    country: str
    customer_id: str
    site_id: str
    device_id: str


class AlertRow(Row):
    """An alert as it stands; its history is in `alert_events`."""

    TABLE = "alerts"
    KEY = ("alert_id",)
    alert_id: str
    device_id: str
    site_id: str
    customer_id: str
    detector: str
    subsystem: str
    severity: str
    state: str
    """pending, firing, acknowledged or resolved."""
    onset_at: int
    pending_at: int
    fired_at: int | None
    acknowledged_at: int | None
    acknowledged_by: str
    resolved_at: int | None
    reason: str
    """Why the last transition happened."""
    outcome: str
    """Empty, or confirmed, false, unclear."""
    score: float
    flaps: int
    suppressed_by: str
    """Empty, or why nobody was told: silence, maintenance, inhibited by site …"""
    work_order_id: str | None
    evidence: dict[str, Any]
    partition: int


class AlertEventRow(Row):
    """One transition of an alert."""

    TABLE = "alert_events"
    KEY = ("event_id",)
    event_id: str
    alert_id: str
    at: int
    from_state: str
    to_state: str
    reason: str
    actor: str
    comment: str


class WorkOrderRow(Row):
    """A work order as it stands."""

    TABLE = "work_orders"
    KEY = ("work_order_id",)
    work_order_id: str
    number: str
    """For people, e.g. `WO-2-000017`; unique, given at a tick."""
    device_id: str
    site_id: str
    customer_id: str
    kind: str
    """corrective, inspection (predicted) or preventive (due)."""
    subsystem: str
    priority: str
    """P1 (most urgent) to P4."""
    state: str
    """open, assigned, in_progress or done."""
    opened_at: int
    due_at: int
    assigned_at: int | None
    started_at: int | None
    done_at: int | None
    suggested_technician_id: str
    technician_id: str
    skill: str
    part_ids: list[str]
    used_part_ids: list[str]
    outcome: str
    note: str
    alert_ids: list[str]
    partition: int


class WorkOrderEventRow(Row):
    """One transition of a work order."""

    TABLE = "work_order_events"
    KEY = ("event_id",)
    event_id: str
    work_order_id: str
    at: int
    from_state: str
    to_state: str
    reason: str
    actor: str
    comment: str


class CustomerHealthRow(Row):
    """Health of a customer on one day."""

    TABLE = "customer_health"
    KEY = ("customer_id", "at")
    customer_id: str
    at: int
    health: float
    """0 to 100, over the known dimensions."""
    baseline: float
    decline_pct: float
    usage: float | None
    service: float | None
    known_weight: float
    """Share of the five dimensions' weights that is known, in (0, 1]."""
    level: str
    """none, blue, yellow, orange or red."""
    evidence: dict[str, Any]


class ChurnFlagRow(Row):
    """A churn flag as it stands, with when it first reached each level."""

    TABLE = "churn_flags"
    KEY = ("flag_id",)
    flag_id: str
    customer_id: str
    state: str
    """raised, acknowledged or closed."""
    level: str
    raised_at: int
    blue_at: int | None
    yellow_at: int | None
    orange_at: int | None
    red_at: int | None
    acknowledged_at: int | None
    closed_at: int | None
    decline_pct: float
    owner_role: str
    owner: str
    intervention: str
    outcome: str
    evidence: dict[str, Any]
    partition: int


class SilenceRow(Row):
    """A silence that somebody set."""

    TABLE = "silences"
    KEY = ("silence_id",)
    silence_id: str
    customer_id: str
    site_id: str
    device_id: str
    detector: str
    from_at: int
    until_at: int
    created_by: str
    comment: str


class OutboxRow(Row):
    """A message to deliver; `outbox_id` is its idempotency key. Delivery columns belong to the deliverer."""

    TABLE = "outbox"
    KEY = ("outbox_id",)
    outbox_id: str
    created_at: int
    audience: str
    """Role that hears of it, e.g. `service`, `account_manager`."""
    kind: str
    subject: str
    body: str
    payload: dict[str, Any]


class AuditRow(Row):
    """What became of a command."""

    TABLE = "audit_log"
    KEY = ("audit_id",)
    FIRST_STAYS = True
    audit_id: str
    at: int
    actor: str
    action: str
    target: str
    result: str
    """applied or refused."""
    detail: str


class ModelMetricRow(Row):
    """How good a model is, prequentially."""

    TABLE = "model_metrics"
    KEY = ("partition", "at", "model", "metric")
    partition: int
    at: int
    model: str
    metric: str
    value: float


class NoticedRow(Row):
    """How often a partition noticed something within the hour from `at`, of its own time."""

    TABLE = "noticed"
    KEY = ("partition", "at", "what")
    partition: int
    at: int
    what: str
    count: int


class FleetRow(Row):
    """What a partition adds to the models of the whole fleet, for the days that one tick closes (`streams.fleet`)."""

    TABLE = "fleet_contributions"
    KEY = ("partition", "day")
    FIRST_STAYS = True
    partition: int
    day: int
    """The last of these days, UTC, counted from the epoch."""
    contribution: bytes
    missed: dict[str, int]
    """By partition whose contributions were gone without: the last day taken in of it."""


class QuarantineRow(Row):
    """A refused message."""

    TABLE = "quarantine"
    KEY = ("quarantine_id",)
    FIRST_STAYS = True
    quarantine_id: str
    topic: str
    sha256: str
    received_at: int
    reason: str
    detail: str
    length: int
    payload: bytes


ROWS: tuple[type[Row], ...] = tuple(Row.__subclasses__())
