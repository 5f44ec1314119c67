"""The alert budgets of a partition: one for each device model, among the models that the fleet shares."""

import math
from collections import Counter
from collections.abc import Iterator

from msgspec.structs import replace

from alerting.desk import Label
from detectors.alert_threshold import log_odds, sigmoid
from detectors.announcement import FleetAnnouncements
from detectors.budget import UNSAID, AlertBudget
from detectors.fault_patterns import CodeRates
from schema.catalogue import Allowance
from schema.findings import Finding
from schema.rows import ModelMetricRow
from streams.device import DeviceState
from streams.fleet import KINDS
from streams.state import PartitionState

SIGNS = ("fault_rule", "fault_pattern", "sensor_anomaly", "level_shift")
"""Detectors whose alerts a failure of the subsystem confirms."""
KINDS |= {kind.__name__: kind for kind in (AlertBudget, CodeRates)}


def budget_of(state: PartitionState, model: str) -> AlertBudget:
    """The budget of a device model, with what the catalogue allows."""
    budget = state.shared.fleet.of(AlertBudget, model)
    budget.allowances = state.catalogue[model].budgets
    return budget


def allowance(state: PartitionState, model: str, detector: str) -> Allowance:
    """What the catalogue allows a detector for a device model."""
    return state.catalogue[model].budgets.get(detector, UNSAID)


def within_budget(state: PartitionState, device: DeviceState, finding: Finding) -> Finding:
    """A finding whose score is a probability, on the scale of the budget: 0.5 at the threshold in use."""
    budget = budget_of(state, device.entry.model)
    key = finding.device_id, finding.subsystem
    score = budget.observe(finding.detector, key, finding.at_ms, log_odds(finding.score))
    threshold = round(sigmoid(budget.threshold(finding.detector)), 4)
    evidence = finding.evidence | {"certainty": round(finding.score, 4), "threshold": threshold}
    return replace(finding, score=score, evidence=evidence)


def watched(state: PartitionState, days: int) -> None:
    """Days are over: count who was watched, by device model."""
    announcements = state.shared.fleet.of(FleetAnnouncements, "")
    for model, devices in Counter(device.entry.model for device in state.devices.values()).items():
        if state.catalogue[model].metrics:
            announcements.watched(model, days * devices)
            budget_of(state, model).watched(days * devices)
            state.shared.fleet.of(CodeRates, model).watched(days * devices)


def judged(state: PartitionState, label: Label) -> None:
    """People have told whether an alert was true; who looked at a subsystem has judged its codes and sensors too."""
    device = state.devices.get(label.device_id)
    if device is not None:
        key, true = (label.device_id, label.subsystem), label.outcome == "confirmed"
        budget = budget_of(state, device.entry.model)
        for detector in SIGNS if label.detector in (*SIGNS, "failure_risk") else (label.detector,):
            budget.judged(detector, key, true)


def failed(state: PartitionState, device_id: str, subsystem: str) -> None:
    """A hard failure: what its codes and sensors had raised was true."""
    device = state.devices.get(device_id)
    if device is not None:
        for detector in SIGNS:
            budget_of(state, device.entry.model).judged(detector, (device_id, subsystem), true=True)


def left(state: PartitionState, device_id: str) -> None:
    """A device has left the partition, or begins a new life."""
    state.shared.fleet.of(FleetAnnouncements, "").left(device_id)
    for budget in state.shared.fleet.models.values():
        if isinstance(budget, AlertBudget):
            budget.left(device_id)


def metric_rows(state: PartitionState, at_ms: int) -> Iterator[ModelMetricRow]:
    """Where the thresholds stand, and why."""
    figures_of = {
        f"{detector}/{model}": figures
        for (_, model), budget in sorted(state.shared.fleet.models.items())
        if isinstance(budget, AlertBudget)
        for detector, figures in budget.metrics()
    }
    announcements = state.shared.fleet.of(FleetAnnouncements, "")
    figures_of |= {f"failure_risk/{model}": figures for model, figures in announcements.metrics()}
    for name, figures in figures_of.items():
        for metric, value in figures.items():
            if math.isfinite(value):
                yield ModelMetricRow(state.number, at_ms, f"budget/{name}", metric, value)
