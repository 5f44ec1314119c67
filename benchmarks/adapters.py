"""The detectors in the words of the benchmark scripts: naive timestamps, hours, events as dictionaries."""

import math
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from detectors.change_point import ChangePoint
from detectors.failure_risk import DAY_MS, FailureRisk
from detectors.risk_learned import LearnedRisk
from detectors.sensor_anomaly import SensorAnomaly
from detectors.subsystem_health import SubsystemHealth
from detectors.usage_drop import HOUR_MS, UsageDrop


class _UsageDrop:
    def __init__(self) -> None:
        self.detector = UsageDrop()

    def update(self, timestamp: datetime, value: float) -> float:
        start_ms = round(timestamp.replace(tzinfo=UTC).timestamp() * 1000)
        return self.detector.update(start_ms + HOUR_MS, value).belief


def usage_drop() -> _UsageDrop:
    return _UsageDrop()


class _FailureRisk:
    """A machine counts as one subsystem; who is alone learns at once."""

    def __init__(self, horizon: float) -> None:
        self.risk, self.learned = FailureRisk(), LearnedRisk()
        self.risk.NEAREST_MS = 0
        self.risk.HORIZON_MS = round(horizon * HOUR_MS)
        self.health: dict[str, SubsystemHealth] = defaultdict(SubsystemHealth)
        self.info: dict[str, dict[str, float]] = {}
        self.seen_ms: dict[str, int] = {}
        self.day = 0

    def learn(self, event: Mapping[str, Any]) -> None:
        at_ms, data, device_id = round(event["t"] * HOUR_MS), event["data"], event["device"]
        self.seen_ms.setdefault(device_id, at_ms)
        health = self.health[device_id]
        match event["kind"]:
            case "info":
                self.info[device_id] = {f"model {data['model']}": 1.0, "years": data.get("age", math.nan)}
            case "fault":
                health.fault(at_ms, "warning", data["code"])
            case "telemetry":
                for name, value in data.items():
                    health.window(at_ms, name, value, 1)
            case "maint":
                health.happened(at_ms, "part", data["what"])
            case "failure":
                self.risk.failed(device_id, "", at_ms)

    def predict(self, t: float, device_id: str) -> float:
        at_ms = round(t * HOUR_MS)
        self.learned.learn(self.risk.mature(at_ms))
        if at_ms // DAY_MS > self.day:
            self.day = at_ms // DAY_MS
            self.learned.refit()
        health = self.health[device_id]
        features = health.features(at_ms, at_ms - self.seen_ms.get(device_id, at_ms), 0)
        signs = features | health.trends(at_ms) | self.info.get(device_id, {})
        return self.risk.judge(self.learned, at_ms, device_id, "", signs, health.ages_h(at_ms)).probability


def failure_risk(horizon: float) -> _FailureRisk:
    return _FailureRisk(horizon)


class _Anomaly:
    def __init__(self) -> None:
        self.detector = SensorAnomaly()

    def update(self, timestamp: datetime, value: float) -> float:
        return self.detector.update(round(timestamp.replace(tzinfo=UTC).timestamp() * 1000), value)


def anomaly() -> _Anomaly:
    return _Anomaly()


class _ChangePoint:
    def __init__(self) -> None:
        self.detector = ChangePoint()

    def update(self, _t: int, values: list[float | None]) -> int | None:
        self.detector.update(values)
        return self.detector.change


def change_point() -> _ChangePoint:
    return _ChangePoint()
