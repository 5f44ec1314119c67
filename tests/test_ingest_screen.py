"""The privacy screen: what looks like a patient's data leaves nothing behind but a hash and a field's name."""

import hashlib
import random
from typing import Any

import msgspec
import pytest

from ingest import screen
from ingest.decode import MAX_PAYLOAD_BYTES, Decoded, Decoder
from ingest.directory import KnownDevice
from schema.catalogue import load_catalogue

NOW_MS = 1_764_000_000_000
DECODER = Decoder(load_catalogue())
MRI = KnownDevice("mri-7", "mri", "hospital-1", 0)
BODY = {"device": "mri-7", "boot": NOW_MS - 1000, "seq": 4, "sent": NOW_MS}
UID = "1.2.840.113619.2.55.3.604688119"


def decode(payload: bytes, content_type: str | None = None) -> Decoded:
    return DECODER.decode(
        "wardwatch/v1/mri-7/telemetry", payload, device=MRI, receive_ms=NOW_MS, content_type=content_type
    )


def assert_private(found: Decoded, payload: bytes, field: str) -> None:
    assert found.refused is not None
    assert found.refused.reason == "privacy"
    assert field in found.refused.detail
    assert found.refused.payload == b""
    assert (found.refused.length, found.refused.sha256) == (len(payload), hashlib.sha256(payload).hexdigest())
    assert "Jane" not in found.refused.detail


@pytest.mark.parametrize(
    "changes",
    [
        {"patient_name": "Doe Jane"},
        {"PatientID": 4711},
        {"context": {"deep": [{"Patient's Name": "Jane"}]}},
        {"dateOfBirth": "Jane"},
        {"MRN": "Jane"},
        {"00100010": "Jane"},
        {"StudyInstanceUID": "Jane"},
        {"study": UID},
        {"患者姓名": "Jane"},
        {"series": {"patient_weight": [[NOW_MS, 71]]}},
    ],
)
@pytest.mark.parametrize("content_type", [None, "application/msgpack"])
def test_a_field_about_a_patient_is_refused_in_either_format(changes: dict[str, Any], content_type: str | None) -> None:
    encode = msgspec.msgpack.encode if content_type else msgspec.json.encode
    payload = encode(BODY | changes)
    field = next(iter(changes["series"])) if "series" in changes else next(iter(changes))
    found = decode(payload, content_type)
    assert_private(found, payload, "Patient's Name" if field == "context" else field)
    assert found.message is None


def test_escaped_letters_hide_nothing() -> None:
    payload = msgspec.json.encode(BODY | {"patient_name": "Jane"}).replace(b"patient", b"\\u0070atient")
    assert_private(decode(payload), payload, "patient_name")


def test_readings_beside_a_refused_field_are_the_machines_and_stay() -> None:
    payload = msgspec.json.encode(BODY | {"patient_name": "Jane", "series": {"exams": [[NOW_MS, 12]]}})
    found = decode(payload)
    assert_private(found, payload, "patient_name")
    assert found.message is not None
    assert len(found.message.readings) == 1


@pytest.mark.parametrize(
    "text",
    [f"study {UID}", "(0010,0010) PN", "scan of DOE^JANE", "MRN: 0815", "Patient ID 4711", "11010519491231002X"],
)
def test_a_fault_whose_text_names_somebody_is_refused(text: str) -> None:
    payload = msgspec.json.encode(BODY | {"faults": [{"code": "CRY-101", "ts": NOW_MS, "text": text}]})
    found = decode(payload)
    assert_private(found, payload, "text")
    assert found.message is None


@pytest.mark.parametrize(
    "text", ["Patient table stopped", "Patient circuit leaks", "firmware 1.2.3.4", "x^2 too large"]
)
def test_words_of_the_trade_are_no_patients_data(text: str) -> None:
    payload = msgspec.json.encode(BODY | {"faults": [{"code": "CRY-101", "ts": NOW_MS, "text": text}]})
    found = decode(payload)
    assert found.refused is None
    assert found.message is not None


def test_a_metric_of_the_catalogue_may_be_called_as_a_patients_field() -> None:
    assert screen.find_in_tree({"series": {"patient_days": [[NOW_MS, 1]]}}, {"patient_days"}) is None


def test_what_is_refused_for_another_reason_is_screened_before_it_is_kept() -> None:
    for payload in (b'{"PatientName": "Jane", ', msgspec.json.encode(BODY | {"device": "x", "note": f"scan {UID}"})):
        found = decode(payload)
        assert found.refused is not None
        assert (found.refused.reason, found.refused.payload) == ("privacy", b"")


def test_noise_keeps_its_own_reason() -> None:
    noise = random.Random(7)
    for _ in range(100):
        found = decode(noise.randbytes(70_000))
        assert found.refused is not None
        assert found.refused.reason == "invalid_json"
    found = decode(noise.randbytes(MAX_PAYLOAD_BYTES + 1))
    assert found.refused is not None
    assert found.refused.reason == "too_large"


def test_the_first_look_at_readings_finds_nothing_suspicious() -> None:
    series = {"exams": [[NOW_MS + i, i] for i in range(300)], "coldhead_k": [[NOW_MS + i, 4.21] for i in range(300)]}
    fault = {"code": "CRY-101", "ts": NOW_MS, "severity": "error", "subsystem": "cryogenics", "text": ""}
    assert not screen.suspicious(msgspec.json.encode(BODY | {"series": series, "faults": [fault]}))
    assert not screen.suspicious(msgspec.msgpack.encode(BODY | {"series": series, "faults": [fault]}))
