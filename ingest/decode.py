"""One MQTT message to what it says: a validated message, a refusal, or both.

Pure: the receive time and what is known of the device are arguments. Bad data is a value, never an exception.

Against the receive time, up to `AHEAD_LIMIT_MS` ahead is taken and more is refused. What is taken keeps its time and is
counted as `ahead`: moving readings to the receive time would make them collide with each other, and in simulated time
the receive time is the clock before, so that live readings are ahead of it by rule. What must not run ahead is the
device's watermark, and the partition clamps that.
"""

import math
import re
from typing import NamedTuple, cast

import numpy as np

from ingest import screen
from ingest.directory import KnownDevice
from ingest.place import MAX_NUMBER, place_in
from ingest.refusal import KEPT_BYTES, Problems, refused, shown
from ingest.usual import AHEAD_LIMIT_MS, EARLIEST_MS, UsualMessages
from ingest.wire import DECODING_ERRORS, Format, format_of, read_state, read_telemetry
from schema.catalogue import Catalogue, DeviceModel, Metric
from schema.findings import SEVERITIES
from schema.messages import Fault, Message, Readings, Refused, WireFault, WireTelemetry
from schema.topics import MQTT_ROOT

MAX_PAYLOAD_BYTES = 1 << 20
"""Some 30,000 readings: two devices' weeks. A record of it still fits what Kafka takes by default."""
TEXT_LENGTH = 200

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
_SUBSYSTEM = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_TOPIC = re.compile(re.escape(MQTT_ROOT) + r"/([^/+#]+)/(telemetry|state)", re.DOTALL)


class Decoded(NamedTuple):
    """What one MQTT message came to.

    `message` is None if nothing of it can be used, `refused` is None if nothing of it was refused. `boot` and `seq` are
    its place as far as that could be read, 0 otherwise: a message that was refused whole has a place too, and the
    quarantine has it. `ahead` counts readings later than the receive time.
    """

    message: Message | None
    refused: Refused | None
    boot: int = 0
    seq: int = 0
    ahead: int = 0


_NOTHING = Decoded(None, None)


def device_in(topic: str) -> str | None:
    """Return the device that a topic belongs to; None if it is no topic for messages of devices."""
    match = _TOPIC.fullmatch(topic)
    return None if match is None else match[1]


class Decoder:
    """Decodes messages by a catalogue; keeps nothing between messages."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._checks = {name: _checks_of(model) for name, model in catalogue.items()}
        self._subsystems = {name: _subsystems_of(model) for name, model in catalogue.items()}
        self._usual = UsualMessages(catalogue)
        self._metric_names = frozenset(metric for model in catalogue.values() for metric in model.metrics)

    def decode(
        self,
        topic: str,
        payload: bytes,
        *,
        device: KnownDevice | None,
        receive_ms: int,
        content_type: str | None = None,
    ) -> Decoded:
        """Decode one message of `device`, which is what is known of `device_in(topic)`."""
        form = format_of(content_type)
        too_large = len(payload) > MAX_PAYLOAD_BYTES
        if device is not None and form is not None and not too_large and topic.endswith("/telemetry"):
            usual = self._usual.read(form, payload, device, receive_ms)
            if usual is not None:
                return Decoded(usual, None, usual.boot, usual.seq, _ahead(usual))
        problems = Problems()
        found = _NOTHING
        if too_large:
            problems.add("too_large", f"payload: {len(payload)} bytes, expected at most {MAX_PAYLOAD_BYTES}")
        elif form is None:
            problems.add("unsupported_content_type", f"content type: {shown(content_type)}")
        elif (match := _TOPIC.fullmatch(topic)) is None:
            problems.add("unsupported_topic", f"topic: {shown(topic)}")
        elif device is None:
            problems.add("unknown_device", f"topic: device {shown(match[1])} is not in the registry")
        elif device.model not in self._catalogue:
            problems.add("unknown_model", f"model {shown(device.model)} of {device.device_id} is not in the catalogue")
        elif match[2] == "telemetry":
            found = self._telemetry(form, payload, device, receive_ms, problems)
        else:
            found = self._state(form, payload, device, receive_ms, problems)
        if problems.reason is None and not screen.suspicious(payload):
            return found
        self._screen(None if too_large else form, payload, problems)
        if problems.reason is None and problems.private_field is None:
            return found
        entry = refused(topic, payload, problems, received_ms=receive_ms)
        message = found.message
        if message is not None and not message.readings and not message.faults:
            message = None  # nothing of it is left, and its number stays free: it may come again, corrected
        boot, seq = found.boot, found.seq
        if found is _NOTHING and device is not None and form is not None and topic.endswith("/telemetry"):
            boot, seq = place_in(form, payload, device.device_id)
        return Decoded(message, entry, boot, seq, found.ahead)

    def _screen(self, form: Format | None, payload: bytes, problems: Problems) -> None:
        if problems.private_field is None and form is not None:
            try:
                problems.private_field = screen.find_in_tree(form.plain(payload), self._metric_names)
            except DECODING_ERRORS:
                form = None
        if form is None:
            problems.private_field = screen.find_in_bytes(payload[:KEPT_BYTES])

    def _state(self, form: Format, payload: bytes, device: KnownDevice, receive_ms: int, problems: Problems) -> Decoded:
        wire = read_state(form, payload, problems)
        if (
            wire is None
            or not _same_device(wire.device, device, problems)
            or not _plausible(wire.boot, "boot", receive_ms + AHEAD_LIMIT_MS, problems)
        ):
            return _NOTHING
        kind = "birth" if wire.state == "online" else "will"
        message = Message(device.device_id, kind, wire.boot, 0, receive_ms, receive_ms)  # type: ignore[arg-type] # both are kinds
        return Decoded(message, None, wire.boot)

    def _telemetry(
        self, form: Format, payload: bytes, device: KnownDevice, receive_ms: int, problems: Problems
    ) -> Decoded:
        latest = receive_ms + AHEAD_LIMIT_MS
        wire = read_telemetry(form, payload, problems)
        if (
            wire is None
            or not _same_device(wire.device, device, problems)
            or not _plausible(wire.boot, "boot", latest, problems)
        ):
            return _NOTHING
        if not 1 <= wire.seq <= MAX_NUMBER:
            problems.add("bad_seq", f"seq: {shown(wire.seq)}, expected a whole number from 1")
            return _NOTHING
        message = Message(
            device.device_id,
            "telemetry",
            wire.boot,
            wire.seq,
            wire.sent if _plausible(wire.sent, "sent", latest, problems) else receive_ms,
            receive_ms,
            Readings.of(self._readings(wire, device.model, latest, problems)),
            self._faults(wire.faults, self._catalogue[device.model], latest, problems),
        )
        return Decoded(message, None, wire.boot, wire.seq, _ahead(message))

    def _readings(
        self, wire: WireTelemetry, model: str, latest_ms: int, problems: Problems
    ) -> list[tuple[int, str, int]]:
        """Return the good readings as (time, metric, steps), in the order of handling."""
        checks = self._checks[model]
        rows: list[tuple[int, str, int]] = []
        for name, points in wire.series.items():
            check = checks.get(name)
            if check is None:
                problems.add("unknown_metric", f"series: {shown(name)} is no metric of model {model}")
                continue
            low, high, steps, whole = check
            good = [
                (ts, name, round(value * steps))
                for ts, value in points
                if EARLIEST_MS <= ts <= latest_ms and low <= value <= high and not (whole and value % 1)
            ]
            rows += good
            if len(good) != len(points):
                _refuse_readings(name, points, self._catalogue[model].metrics[name], latest_ms, problems)
        rows.sort()
        return rows

    def _faults(
        self, reported: list[WireFault], model: DeviceModel, latest_ms: int, problems: Problems
    ) -> tuple[Fault, ...]:
        """Return the good faults, completed from the catalogue, in the order of handling.

        A code that the catalogue does not have is kept, with what the device says of it: firmware may be newer than
        the catalogue. A subsystem that the model does not have is words, not a place: everything behind would keep
        something about it for ever.
        """
        subsystems = self._subsystems[model.model]
        faults = []
        for i, wire in enumerate(reported):
            where = f"faults[{i}]"
            if _CODE.fullmatch(wire.code) is None:
                problems.add("invalid_payload", f"{where}.code: {shown(wire.code)} is no fault code")
                continue
            if not _plausible(wire.ts, f"{where}.ts", latest_ms, problems):
                continue
            if screen.names_a_person(wire.text):
                problems.add("privacy", f"{where}.text")
                problems.private_field = f"{where}.text"
                continue
            entry = model.faults.get(wire.code)
            severity, subsystem, text = wire.severity, wire.subsystem, wire.text
            if severity not in SEVERITIES:
                severity = entry.severity if entry is not None else "warning"
            if subsystem not in subsystems:
                if subsystem and _SUBSYSTEM.fullmatch(subsystem) is not None:
                    text = f"{subsystem}: {text}"
                subsystem = entry.subsystem if entry is not None else ""
            faults.append(Fault(wire.ts, wire.code, cast(str, severity), subsystem, _printable(text)))
        return tuple(sorted(faults))


def _checks_of(model: DeviceModel) -> dict[str, tuple[float, float, int, bool]]:
    """Per metric: lowest and highest value, steps of the resolution in one unit, whether values must be whole."""
    return {
        name: (metric.min, metric.max, metric.steps_per_unit, metric.kind == "state")
        for name, metric in model.metrics.items()
    }


def _subsystems_of(model: DeviceModel) -> frozenset[str]:
    """What a fault may belong to."""
    named = {fault.subsystem for fault in model.faults.values()}
    named |= {metric.subsystem for metric in model.metrics.values()} | {part.subsystem for part in model.parts.values()}
    return frozenset(named - {""})


def _ahead(message: Message) -> int:
    """Count the readings that are later than the receive time; they are in the order of time."""
    rows = cast(Readings, message.readings).rows
    if len(rows) == 0 or rows[-1, 0] <= message.receive_ms:
        return 0
    return len(rows) - int(np.searchsorted(rows[:, 0], message.receive_ms, "right"))


def _refuse_readings(
    name: str, points: list[tuple[int, float]], metric: Metric, latest_ms: int, problems: Problems
) -> None:
    """Note the refusals among the readings of one metric."""
    where, expected = f"series.{name}", f"expected {metric.min:g} to {metric.max:g} {metric.unit}"
    for ts, value in points:
        if not _plausible(ts, where, latest_ms, problems):
            continue
        if not math.isfinite(value):
            problems.add("not_finite", f"{where}: {value}, {expected}")
        elif not metric.min <= value <= metric.max:
            problems.add("out_of_range", f"{where}: {value!r}, {expected}")
        elif metric.kind == "state" and value % 1:
            problems.add("invalid_payload", f"{where}: {value!r}, expected a whole number")


def _same_device(named: str, device: KnownDevice, problems: Problems) -> bool:
    if named == device.device_id:
        return True
    problems.add("topic_mismatch", f"device: {shown(named)}, expected that of the topic, {device.device_id!r}")
    return False


def _plausible(at_ms: int, field: str, latest_ms: int, problems: Problems) -> bool:
    """Tell whether a device can have meant this time; if not, the refusal is noted."""
    if at_ms < EARLIEST_MS:
        problems.add("timestamp_implausible", f"{field}: {shown(at_ms)}, expected ms since the epoch, after 1999")
    elif at_ms > latest_ms:
        problems.add("timestamp_ahead", f"{field}: {shown(at_ms)}, expected at most {latest_ms} (10 minutes ahead)")
    return EARLIEST_MS <= at_ms <= latest_ms


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:TEXT_LENGTH])
