"""Reasons in plain words: what a column of the failure risk means to a technician."""

import math
from collections.abc import Mapping

from detectors.risk_signs import SINCE, Signs

_WORDS = {
    "codes_6h": "fault codes within 6 h",
    "codes_1d": "fault codes within a day",
    "codes_3d": "fault codes within 3 days",
    "codes_7d": "fault codes within a week",
    "codes_rise": "fault codes more often than during the week",
    "level_z": "a sensor off its usual level",
    "level_z_3d": "a sensor off its usual level for days",
    "slope_z": "a sensor that drifts",
    "spread": "a sensor more restless than usual",
    "codes_and_level": "fault codes while a sensor is off its level",
    "silent_gauges": "a sensor that fell silent",
    "fresh_repair": "a recent repair",
    "age": "age of the device",
    "since_service": "time since service",
    "dismissed": "a technician found nothing lately",
}
_OF_GAUGE = {"level": "level of {}", "slope": "drift of {}"}


def words(reasons: Mapping[str, float], signs: Signs) -> list[str]:
    """Reasons for people: what, its value, and by which factor it changed the odds.

    `reasons` are changes of log odds by column, as `LearnedRisk.reasons` gives them.
    """
    values = signs.by_name()
    return [f"{_what(name, values.get(name, 0.0))}: odds x{_factor(change)}" for name, change in reasons.items()]


def _factor(change: float) -> str:
    return f"{math.exp(max(-20.0, min(20.0, change))):.2g}"


def _what(name: str, value: float) -> str:
    if name.startswith(SINCE):
        what = name.removeprefix(SINCE).strip()
        return f"{what} {math.expm1(value):.0f} h ago" if value else f"no {what} for long"
    kind, _, gauge = name.partition(" ")
    text = _WORDS.get(name) or (_OF_GAUGE[kind].format(gauge) if kind in _OF_GAUGE else name)
    return f"{text} ({value:.3g})"
