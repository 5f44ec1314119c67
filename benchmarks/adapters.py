"""The detectors in the words of the benchmark scripts: naive timestamps, hours, events as dictionaries."""

from datetime import UTC, datetime

from detectors.usage_drop import HOUR_MS, UsageDrop


class _UsageDrop:
    def __init__(self) -> None:
        self.detector = UsageDrop()

    def update(self, timestamp: datetime, value: float) -> float:
        start_ms = round(timestamp.replace(tzinfo=UTC).timestamp() * 1000)
        return self.detector.update(start_ms + HOUR_MS, value).belief


def usage_drop() -> _UsageDrop:
    return _UsageDrop()
