"""The detectors in the words of the benchmark scripts: naive timestamps, hours, events as dictionaries."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from detectors.failure_risk import FailureRisk
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


_OF_CODES = ("codes_6h", "codes_1d", "codes_3d")
_OF_GAUGES = ("level_z", "level_z_3d")


class _Device:
    def __init__(self) -> None:
        self.whole = SubsystemHealth()
        self.parts: dict[str, SubsystemHealth] = {}
        self.info: dict[str, float] = {}
        self.seen_ms = -1
        self.changed_ms: dict[str, int] = {}


class _FailureRisk:
    """A machine counts as one subsystem; codes and gauges have none here, so each has a health of its own besides."""

    def __init__(self, horizon: float) -> None:
        self.risk = FailureRisk()
        self.risk.NEAREST_MS = 0
        self.risk.HORIZON_MS = round(horizon * HOUR_MS)
        self.devices: dict[str, _Device] = defaultdict(_Device)

    def learn(self, event: Mapping[str, Any]) -> None:
        at_ms, data = round(event["t"] * HOUR_MS), event["data"]
        device = self.devices[event["device"]]
        if device.seen_ms < 0:
            device.seen_ms = at_ms
        match event["kind"]:
            case "info":
                device.info = {f"model={data['model']}": 1.0, "years": data["age"] / 10}
            case "fault":
                device.whole.fault(at_ms, "warning")
                device.parts.setdefault(data["code"], SubsystemHealth()).fault(at_ms, "warning")
            case "telemetry":
                for name, value in data.items():
                    device.whole.window(at_ms, name, value, 1)
                    device.parts.setdefault(name, SubsystemHealth()).window(at_ms, name, value, 1)
            case "maint":
                device.changed_ms[data["what"]] = at_ms
            case "failure":
                device.changed_ms[data["what"]] = at_ms
                self.risk.failed(event["device"], "", at_ms)

    def predict(self, t: float, device_id: str) -> float:
        at_ms = round(t * HOUR_MS)
        self.risk.mature(at_ms)
        device = self.devices[device_id]
        changed_ms = max(device.changed_ms.values(), default=device.seen_ms)
        features = device.whole.features(at_ms, at_ms - device.seen_ms, at_ms - changed_ms) | device.info
        for part, health in device.parts.items():
            own = health.features(at_ms, 0, 0)
            features |= {f"{name}:{part}": own[name] for name in (_OF_GAUGES if health.gauges else _OF_CODES)}
        for what, since_ms in device.changed_ms.items():
            features[f"worn:{what}"] = min(2.0, (at_ms - since_ms) / (60 * 24 * HOUR_MS))
        return self.risk.judge(at_ms, device_id, "", features).probability


def failure_risk(horizon: float) -> _FailureRisk:
    return _FailureRisk(horizon)
