"""The customers of a partition: their health day by day, and the churn flags that people act on."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from alerting.directory import Directory
from alerting.health import INTERVENTIONS, LEVELS, OWNERS, Baseline, Health, Watch, health_of
from alerting.messages import flag_message
from alerting.orders import Order
from alerting.policy import DAY_MS
from alerting.service import ServiceRecord, ServiceScore
from alerting.texts import text
from alerting.usage import DeviceDay, UsageRecord, UsageScore
from schema.commands import FlagOutcome
from schema.ids import derived_id
from schema.rows import ChurnFlagRow, CustomerHealthRow, Row

_QUIET_MS = 28 * DAY_MS
"""After people closed a case, the same level is no news for this long."""


class Flag(msgspec.Struct, frozen=True):
    """A churn flag that is not closed."""

    flag_id: str
    customer_id: str
    raised_ms: int
    level: int
    reached_ms: tuple[int | None, ...]
    """When each of blue, yellow, orange, red was first reached or passed."""
    decline_pct: float
    intervention: str
    evidence: dict[str, Any]
    state: Literal["raised", "acknowledged", "closed"] = "raised"
    acknowledged_ms: int | None = None
    closed_ms: int | None = None
    outcome: str = ""


class CustomerRecord:
    """What is known of one customer. Memory: two weeks of days a device, half a year of weekly medians, orders."""

    def __init__(self) -> None:
        self.usage = UsageRecord()
        self.service = ServiceRecord()
        self.baseline = Baseline()
        self.watch = Watch()
        self.flag: Flag | None = None
        self.closed_level = 0
        """Level at which people closed the last case; up to it nothing is raised while quiet."""
        self.quiet_until_ms: int | None = 0
        """None: until the customer has recovered."""


class CustomerBook:
    """Health and flags of a partition's customers."""

    def __init__(self, partition: int, directory: Directory) -> None:
        self._partition = partition
        self._directory = directory
        self._records: dict[str, CustomerRecord] = {}
        self._flags: dict[str, str] = {}

    def note(self, order: Order) -> None:
        """A work order of a customer has taken a step."""
        self._record(order.customer_id).service.note(order)

    def day(self, customer_id: str, day_end_ms: int, devices: Sequence[DeviceDay]) -> list[Row]:
        """Judge a customer at the end of a UTC day."""
        record = self._record(customer_id)
        record.usage.add(devices)
        usage, service = record.usage.score(), record.service.score(day_end_ms)
        health = health_of(usage, service)
        if usage is not None:
            record.baseline.add(health.health)
        baseline = record.baseline.value
        decline_pct = max(0.0, 100 * (1 - health.health / baseline)) if baseline > 0 else 0.0
        if usage is not None and not record.baseline.learning:
            record.watch.update(decline_pct)
        evidence = _evidence(usage, service, health, baseline)
        rows: list[Row] = [
            CustomerHealthRow(
                customer_id=customer_id,
                at=day_end_ms,
                health=health.health,
                baseline=baseline,
                decline_pct=decline_pct,
                usage=usage.score if usage else None,
                service=service.score,
                known_weight=health.known_weight,
                level=LEVELS[record.watch.level],
                evidence=evidence,
            )
        ]
        return rows + self._flag(record, customer_id, day_end_ms, decline_pct, INTERVENTIONS[health.cause], evidence)

    def find(self, flag_id: str) -> Flag | None:
        """The open flag with this id."""
        customer_id = self._flags.get(flag_id)
        return self._records[customer_id].flag if customer_id is not None else None

    def acknowledge(self, flag: Flag, at_ms: int) -> list[Row]:
        """Its owner has taken it up."""
        after = replace(flag, state="acknowledged", acknowledged_ms=at_ms)
        self._records[flag.customer_id].flag = after
        return [self._row(after)]

    def close(self, flag: Flag, at_ms: int, outcome: FlagOutcome) -> list[Row]:
        """The case is closed; a customer who is lost is watched again only after it has recovered."""
        record = self._records[flag.customer_id]
        record.closed_level = flag.level
        record.quiet_until_ms = None if outcome == "lost" else at_ms + _QUIET_MS
        return self._end(record, replace(flag, outcome=outcome), at_ms)

    def _flag(
        self,
        record: CustomerRecord,
        customer_id: str,
        at_ms: int,
        decline_pct: float,
        intervention: str,
        evidence: dict[str, Any],
    ) -> list[Row]:
        level, flag = record.watch.level, record.flag
        if level == 0:
            record.closed_level, record.quiet_until_ms = 0, 0
            if flag is None:
                return []
            after = replace(flag, level=0, decline_pct=decline_pct, evidence={**evidence, "closed": "recovered"})
            return self._end(record, after, at_ms)
        if flag is None:
            quiet = record.quiet_until_ms is None or at_ms < record.quiet_until_ms
            if quiet and (record.quiet_until_ms is None or level <= record.closed_level):
                return []
            flag = Flag(
                flag_id=derived_id("flag", customer_id, at_ms),
                customer_id=customer_id,
                raised_ms=at_ms,
                level=0,
                reached_ms=(None,) * 4,
                decline_pct=decline_pct,
                intervention=intervention,
                evidence=evidence,
            )
            self._flags[flag.flag_id] = customer_id
        if flag.level == level:
            return []
        known_ms = flag.reached_ms
        highest = max((index + 1 for index, each in enumerate(known_ms) if each is not None), default=0)
        after = replace(
            flag,
            level=level,
            reached_ms=tuple(at_ms if each is None and index < level else each for index, each in enumerate(known_ms)),
            decline_pct=decline_pct,
            intervention=intervention,
            evidence=evidence,
        )
        record.flag = after
        rows: list[Row] = [self._row(after)]
        if level > highest:
            rows.append(
                flag_message(
                    after.flag_id,
                    LEVELS[level],
                    at_ms,
                    OWNERS[LEVELS[level]],
                    self._directory.name_of(customer_id),
                    decline_pct,
                    intervention,
                    evidence,
                )
            )
        return rows

    def _end(self, record: CustomerRecord, flag: Flag, at_ms: int) -> list[Row]:
        record.flag = None
        self._flags.pop(flag.flag_id, None)
        return [self._row(replace(flag, state="closed", closed_ms=at_ms))]

    def _record(self, customer_id: str) -> CustomerRecord:
        record = self._records.get(customer_id)
        if record is None:
            record = self._records[customer_id] = CustomerRecord()
        return record

    def _row(self, flag: Flag) -> ChurnFlagRow:
        customer = self._directory.customers.get(flag.customer_id)
        blue_ms, yellow_ms, orange_ms, red_ms = flag.reached_ms
        return ChurnFlagRow(
            flag_id=flag.flag_id,
            customer_id=flag.customer_id,
            state=flag.state,
            level=LEVELS[flag.level],
            raised_at=flag.raised_ms,
            blue_at=blue_ms,
            yellow_at=yellow_ms,
            orange_at=orange_ms,
            red_at=red_ms,
            acknowledged_at=flag.acknowledged_ms,
            closed_at=flag.closed_ms,
            decline_pct=flag.decline_pct,
            owner_role=OWNERS.get(LEVELS[flag.level], "account_manager"),
            owner=customer.account_manager if customer else "",
            intervention=flag.intervention,
            outcome=flag.outcome,
            evidence=flag.evidence,
            partition=self._partition,
        )


def _evidence(usage: UsageScore | None, service: ServiceScore, health: Health, baseline: float) -> dict[str, Any]:
    advice = text(f"intervention.{INTERVENTIONS[health.cause]}")
    return {
        "usage": msgspec.structs.asdict(usage) if usage else None,
        "service": msgspec.structs.asdict(service),
        "combination": health.combination,
        "cause": health.cause,
        "baseline": baseline,
        "advice": advice.en,
        "advice_zh": advice.zh,
    }
