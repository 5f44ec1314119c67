"""Messages that must be refused, each in its own way and with bytes of its own.

They stand outside their device's sequence: where the header is readable it names a boot of long ago, and no part of
them is a good reading or fault.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from schema.catalogue import DeviceModel
from schema.topics import telemetry_topic
from simulator.fleet import DAY_MS

JsonObject = dict[str, object]


class Malformed(NamedTuple):
    """Topic and payload of a message to refuse, and what is wrong with it."""

    topic: str
    payload: bytes
    why: str


class _Case(NamedTuple):
    """What a malformed message is made from."""

    device_id: str
    model: DeviceModel
    at_ms: int
    boot: int
    number: int
    rng: np.random.Generator

    def message(self, **changes: object) -> JsonObject:
        """A well-formed message; its number, and so its bytes, are its own."""
        series: dict[str, list[tuple[int, float]]] = {self.model.usage_metric: [(self.at_ms, 100 + self.number)]}
        plain: JsonObject = {
            "device": self.device_id,
            "boot": self.boot,
            "seq": self.number + 1,
            "sent": self.at_ms,
            "series": series,
        }
        return plain | changes

    def gauge(self) -> str:
        return next(name for name, metric in self.model.metrics.items() if metric.kind == "gauge")


def malformed_message(
    rng: np.random.Generator, device_id: str, model: DeviceModel, at_ms: int, boot: int, number: int
) -> Malformed:
    """The `number`th malformed message of a device, published at `at_ms`; `boot` is one that never was."""
    case = _Case(device_id, model, at_ms, boot, number, rng)
    why = _NAMES[int(rng.integers(len(_NAMES)))]
    topic = telemetry_topic(device_id)
    if why == "unknown_device":
        stranger = f"{model.model}-x{device_id}-{number}"
        return Malformed(telemetry_topic(stranger), _json(case.message(device=stranger)), why)
    return Malformed(topic, _CASES[why](case), why)


def _json(body: JsonObject) -> bytes:
    return msgspec.json.encode(body)


def _broken_json(case: _Case) -> bytes:
    return _json(case.message()).replace(b'"seq":', b'"seq"=', 1)


def _truncated(case: _Case) -> bytes:
    whole = _json(case.message())
    return whole[: int(case.rng.integers(len(whole) * 2 // 3, len(whole) - 1))] + b" " * case.number


def _noise(case: _Case) -> bytes:
    return b"\xff\xfe" + case.rng.bytes(int(case.rng.integers(20, 3000)))


def _other_device(case: _Case) -> bytes:
    return _json(case.message(device=f"{case.device_id}0"))


def _day_ahead(case: _Case) -> bytes:
    return _json(case.message(series={case.model.usage_metric: [(case.at_ms + DAY_MS, 100)]}))


def _out_of_range(case: _Case) -> bytes:
    name = case.gauge()
    metric = case.model.metrics[name]
    beyond = metric.max + (metric.max - metric.min) * float(case.rng.uniform(0.5, 5))
    return _json(case.message(series={name: [(case.at_ms, round(beyond, 3))]}))


def _unknown_metric(case: _Case) -> bytes:
    return _json(case.message(series={f"coffee_{case.number}_cups": [(case.at_ms, 3)]}))


def _text_for_number(case: _Case) -> bytes:
    return _json(case.message(series={case.model.usage_metric: [(case.at_ms, "twelve")]}))


def _series_is_list(case: _Case) -> bytes:
    return _json(case.message(series=[case.at_ms, 12]))


def _header_of_wrong_type(case: _Case) -> bytes:
    return _json(case.message(seq=f"number {case.number}", boot=None))


def _no_header(case: _Case) -> bytes:
    body = case.message()
    del body["boot"]
    return _json(body)


def _huge(case: _Case) -> bytes:
    return _json(case.message(series={case.gauge(): [(case.at_ms, 1e300)]}))


def _not_a_number(case: _Case) -> bytes:
    return _json(case.message(series={case.gauge(): [(case.at_ms, "@")]})).replace(b'"@"', b"NaN")


def _patient_field(case: _Case) -> bytes:
    impossible = {case.model.usage_metric: [(case.at_ms, -7)]}
    return _json(case.message(patient_name=f"Doe^Jane {case.number}", series=impossible))


def _dicom_text(case: _Case) -> bytes:
    text = f"(0010,0010) PN [Doe^John] PatientID=4711{case.number}"
    return _json(case.message(series={}, faults=[{"code": "not a code", "ts": case.at_ms, "text": text}]))


_CASES: dict[str, Callable[[_Case], bytes]] = {
    "broken_json": _broken_json,
    "truncated": _truncated,
    "noise": _noise,
    "other_device": _other_device,
    "day_ahead": _day_ahead,
    "out_of_range": _out_of_range,
    "unknown_metric": _unknown_metric,
    "text_for_number": _text_for_number,
    "series_is_list": _series_is_list,
    "header_of_wrong_type": _header_of_wrong_type,
    "no_header": _no_header,
    "huge": _huge,
    "not_a_number": _not_a_number,
    "patient_field": _patient_field,
    "dicom_text": _dicom_text,
}
_NAMES = (*_CASES, "unknown_device")
