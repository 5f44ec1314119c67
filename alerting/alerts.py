"""The open alerts of a partition: what findings, time and people do to them, as rows."""

from collections import Counter
from collections.abc import Container

import msgspec
from msgspec.structs import replace

from alerting.alertrows import alert_event_row, alert_row
from alerting.directory import Directory
from alerting.escalation import next_step
from alerting.lifecycle import (
    Acknowledged,
    Alert,
    AlertKey,
    Closed,
    Elapsed,
    Judged,
    Signal,
    Transition,
    decide,
    raised,
)
from alerting.messages import alert_message
from alerting.policy import SITE_GRACE_MS, Policy, policy_of, rank
from alerting.suppression import CLEAR, Shade, Suppression
from alerting.timers import Timers
from schema.findings import Finding
from schema.rows import Row

_REMEMBERED_MS = 14 * 86_400_000
"""Alerts that are over can still be judged by people this long; those of an open order until it is closed."""
_ENDED_MS = 90 * 86_400_000
"""A condition that is over may be told of so much later, by a backlog or a detector that finds the same onset again."""
_FAILED_MS = 30 * 86_400_000
"""A device that was never seen to boot again is taken for repaired, or gone, after this long."""


class Ended(msgspec.Struct, frozen=True):
    """How the last alert of a key ended."""

    at_ms: int
    flaps: int
    may_flap: bool
    quiet_until_ms: int | None = 0
    """People closed it: nothing is raised before; None until the condition has been gone once."""


class AlertBook:
    """Open alerts by key, those that ended lately, and what keeps them from being told.

    Memory: open alerts, alerts of the last 14 days, and one small entry for each key of the last 90.
    """

    def __init__(self, partition: int, directory: Directory, suppression: Suppression) -> None:
        self._partition = partition
        self._directory = directory
        self._suppression = suppression
        self._open: dict[AlertKey, Alert] = {}
        self._keys: dict[str, AlertKey] = {}
        self._over: dict[str, Alert] = {}
        self._ended: dict[AlertKey, Ended] = {}
        self._timers: Timers[AlertKey] = Timers()
        self._sites: dict[str, int | None] = {}
        """Sites whose own alert hides those of their devices: for now (None), or until a time after it was over."""
        self._sites_changed: set[str] = set()
        self._failed: dict[str, dict[str, int]] = {}
        self.wanting: set[AlertKey] = set()
        """Alerts that are up and ask for a work order that they do not have."""

    def observe(self, finding: Finding, now_ms: int) -> list[Row]:
        """Apply a finding; a fraction of the microseconds of anything else when all is well."""
        device_id = finding.device_id
        key = (device_id, finding.detector, finding.subsystem, "" if device_id else finding.site_id)
        policy = policy_of(finding.detector)
        alert = self._open.get(key)
        rows: list[Row] = []
        if alert is None:
            ended = self._ended.get(key)
            if finding.score < policy.raise_at:
                if ended is not None and ended.quiet_until_ms is None and finding.score < policy.resolve_below:
                    self._ended[key] = replace(ended, quiet_until_ms=0)
                return rows
            if ended is not None and (
                finding.at_ms <= ended.at_ms or ended.quiet_until_ms is None or finding.at_ms < ended.quiet_until_ms
            ):
                return rows
            flaps = ended.flaps + 1 if ended and ended.may_flap and finding.at_ms - ended.at_ms < policy.flap_ms else 0
            alert, transition = raised(finding, after_ms=ended.at_ms if ended else None, flaps=flaps)
            rows += self._keep(alert, transition, now_ms)
        signal = Judged(finding.at_ms, finding.score, finding.severity, finding.evidence)
        return rows + self._feed(alert, signal, now_ms)

    def up(self) -> Counter[str]:
        """Count the alerts that are up, by severity."""
        return Counter(alert.severity for alert in list(self._open.values()) if alert.is_up)

    def failed(self, device_id: str, subsystem: str, at_ms: int) -> None:
        """A hard failure: until the repair nothing else is expected of the device."""
        self._failed.setdefault(device_id, {}).setdefault(subsystem, at_ms)

    def is_failed(self, device_id: str) -> bool:
        """Whether the device waits for its repair after a hard failure."""
        return device_id in self._failed

    def repaired(self, device_id: str, at_ms: int) -> list[Row]:
        """End what the failure and its prediction had raised."""
        rows: list[Row] = []
        for subsystem in sorted(self._failed.pop(device_id, {})):
            for detector in ("fault_rule", "failure_risk"):
                key = (device_id, detector, subsystem, "")
                if key in self._open:
                    rows += self._feed(self._open[key], Closed(at_ms, "repaired"), at_ms)
        return rows

    def left(self, device_id: str, at_ms: int, reason: str) -> list[Row]:
        """End everything about a device that has left, or is no longer what it was."""
        rows: list[Row] = []
        self._failed.pop(device_id, None)
        for key in sorted(key for key in self._open if key[0] == device_id):
            rows += self._feed(self._open[key], Closed(at_ms, reason), at_ms)
        for key in [key for key in self._ended if key[0] == device_id]:
            self._ended[key] = replace(self._ended[key], quiet_until_ms=0)
        return rows

    def tick(self, now_ms: int) -> list[Row]:
        """What time alone changes, in canonical order: sites first, then by due time and key."""
        rows: list[Row] = []
        if self._sites_changed:
            for site_id in sorted(self._sites_changed):
                for device_id in self._directory.at_site(site_id):
                    key = (device_id, "silence", "", "")
                    if key in self._open:
                        rows += self._look(self._open[key], now_ms)
            self._sites_changed.clear()
        for key in self._timers.due(now_ms):
            rows += self._look(self._open[key], now_ms)
        return rows

    def forget(self, now_ms: int, open_orders: Container[str]) -> None:
        """Drop what ended long ago; alerts of an open order stay until it is closed."""
        self._over = {
            alert_id: alert
            for alert_id, alert in self._over.items()
            if (alert.work_order_id or "") in open_orders or (alert.resolved_ms or 0) + _REMEMBERED_MS > now_ms
        }
        for key, ended in list(self._ended.items()):
            if ended.quiet_until_ms is not None and ended.at_ms + _ENDED_MS < now_ms:
                del self._ended[key]
        self._sites = {site: until for site, until in self._sites.items() if until is None or until > now_ms}
        for device_id, failed in list(self._failed.items()):
            if max(failed.values()) + _FAILED_MS < now_ms:
                del self._failed[device_id]

    def find(self, alert_id: str) -> Alert | None:
        """The alert, open or remembered."""
        key = self._keys.get(alert_id)
        return self._open[key] if key is not None else self._over.get(alert_id)

    def wanted(self) -> list[Alert]:
        """Alerts that ask for a work order, in canonical order (time of firing, key); each is given out once."""
        alerts = sorted((self._open[key] for key in self.wanting), key=lambda alert: (alert.fired_ms or 0, alert.key))
        self.wanting.clear()
        return alerts

    def attach(self, alert: Alert, work_order_id: str) -> Row:
        """Note the order that takes care of the alert."""
        alert = self._open[alert.key] = replace(alert, work_order_id=work_order_id)
        return alert_row(alert, self._partition)

    def acknowledge(self, alert: Alert, signal: Acknowledged, now_ms: int) -> list[Row]:
        """Apply an acknowledgement; no rows if the alert is not firing."""
        return self._feed(alert, signal, now_ms)

    def close(self, alert: Alert, signal: Closed, now_ms: int) -> list[Row]:
        """Apply a judgement to an open alert, or to one that is over and unjudged; no rows otherwise."""
        return self._feed(alert, signal, now_ms)

    def _feed(self, alert: Alert, signal: Signal, now_ms: int) -> list[Row]:
        policy = policy_of(alert.detector)
        if alert.state == "pending":
            alert = self._under(alert, self._shade(alert, policy, signal.at_ms))
        after, transition = decide(alert, signal, policy)
        return self._keep(after, transition, now_ms)

    def _look(self, alert: Alert, now_ms: int) -> list[Row]:
        """Time has passed: fire, resolve, tell what could not be told, escalate, remind; each if it is due."""
        policy = policy_of(alert.detector)
        before = alert
        shade = self._shade(alert, policy, now_ms)
        alert = self._under(alert, shade)
        alert, transition = decide(alert, Elapsed(now_ms), policy)
        if transition is not None:
            return self._keep(alert, transition, now_ms)
        rows: list[Row] = []
        if not shade.by and alert.state == "firing":
            if alert.told_ms is None:
                rows.append(alert_message(alert, "alert_fired", now_ms, self._directory))
                alert = replace(alert, told_ms=now_ms)
            elif (step := next_step(alert)) is not None and step[0] <= now_ms:
                rows.append(alert_message(alert, step[1].kind, now_ms, self._directory, step[1].audience))
                alert = replace(alert, steps=alert.steps + 1)
        if alert.suppressed_by != before.suppressed_by:
            rows.append(alert_row(alert, self._partition))
        self._store(alert, policy, shade)
        return rows

    def _keep(self, alert: Alert, transition: Transition | None, now_ms: int) -> list[Row]:
        """Store the alert; its rows, and the message that the transition is worth."""
        policy = policy_of(alert.detector)
        rows: list[Row] = []
        if transition is None:
            if alert.state != "resolved":
                known = self._open.get(alert.key)
                if known is not None and known.suppressed_by != alert.suppressed_by:
                    rows.append(alert_row(alert, self._partition))
                self._store(alert, policy, self._shade(alert, policy, now_ms))
            return rows
        shade = self._shade(alert, policy, max(now_ms, transition.at_ms)) if alert.is_up else CLEAR
        if alert.is_up:
            alert = self._under(alert, shade)
        told = alert.told_ms is not None
        before = self._open.get(alert.key)
        rose = before is not None and rank(alert.severity) > rank(before.severity)
        if transition.to_state == "firing" and not shade.by and (not told or rose):
            alert = replace(alert, told_ms=max(now_ms, transition.at_ms), steps=0)
            rows.append(
                alert_message(alert, "alert_worse" if told else "alert_fired", transition.at_ms, self._directory)
            )
        if transition.to_state == "resolved" and transition.from_state != "resolved":
            rows += self._over_now(alert, policy, transition)
        elif alert.state == "resolved":
            self._over[alert.alert_id] = alert
        else:
            self._store(alert, policy, shade)
        return [alert_row(alert, self._partition), alert_event_row(alert, transition), *rows]

    def _over_now(self, alert: Alert, policy: Policy, transition: Transition) -> list[Row]:
        at_ms = transition.at_ms
        by_people = bool(transition.actor)
        quiet_until_ms = 0 if not by_people else None if policy.quiet_ms is None else at_ms + policy.quiet_ms
        self._ended[alert.key] = Ended(at_ms, alert.flaps, alert.fired_ms is not None and not by_people, quiet_until_ms)
        self._open.pop(alert.key, None)
        self._keys.pop(alert.alert_id, None)
        self._over[alert.alert_id] = alert
        self.wanting.discard(alert.key)
        self._timers.set(alert.key, None)
        if alert.site_id and not alert.device_id:
            self._sites[alert.site_id] = at_ms + SITE_GRACE_MS
            self._sites_changed.add(alert.site_id)
        if alert.told_ms is None:
            return []
        return [alert_message(alert, "alert_resolved", at_ms, self._directory)]

    def _store(self, alert: Alert, policy: Policy, shade: Shade) -> None:
        key = alert.key
        if alert.site_id and not alert.device_id and alert.alert_id not in self._keys:
            self._sites[alert.site_id] = None
            self._sites_changed.add(alert.site_id)
        self._open[key] = alert
        self._keys[alert.alert_id] = key
        self._timers.set(key, _next_look_ms(alert, policy, shade))
        asks = alert.is_up and policy.order and alert.work_order_id is None and alert.device_id
        if asks and rank(alert.severity) >= rank(policy.order_from):
            self.wanting.add(key)

    def _shade(self, alert: Alert, policy: Policy, at_ms: int) -> Shade:
        if policy.hidden_by == "site_offline" and alert.site_id in self._sites:
            until_ms = self._sites[alert.site_id]
            if until_ms is None or at_ms < until_ms:
                return Shade("site offline", True, until_ms)
        if policy.hidden_by == "failure" and alert.device_id in self._failed:
            return Shade("device failed", True, None)
        return self._suppression.over(alert, at_ms, self._directory)

    def _under(self, alert: Alert, shade: Shade) -> Alert:
        if alert.suppressed_by == shade.by and alert.held == shade.holds:
            return alert
        return replace(alert, suppressed_by=shade.by, held=shade.holds)


def _next_look_ms(alert: Alert, policy: Policy, shade: Shade) -> int | None:
    """When time alone may change the alert; None for never."""
    if alert.state == "pending":
        if shade.holds:
            return shade.until_ms
        return alert.pending_ms + policy.stretched(policy.for_ms, alert.flaps) if policy.by_ticks else None
    looks: list[int] = []
    if policy.by_ticks and alert.below_ms is not None:
        looks.append(alert.below_ms + policy.stretched(policy.keep_ms, alert.flaps))
    if alert.state == "firing":
        if alert.told_ms is None:
            if shade.until_ms is not None:
                looks.append(shade.until_ms)
        elif (step := next_step(alert)) is not None:
            if not shade.by:
                looks.append(step[0])
            elif shade.until_ms is not None:
                looks.append(max(step[0], shade.until_ms))
    return min(looks, default=None)
