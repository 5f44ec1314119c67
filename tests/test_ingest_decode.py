"""Decoding one message: what is taken, what is refused and why, and that nothing else can happen."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.decode import AHEAD_LIMIT_MS, EARLIEST_MS, MAX_PAYLOAD_BYTES, Decoded, Decoder, device_in
from ingest.directory import KnownDevice
from ingest.refusal import KEPT_BYTES
from schema.catalogue import load_catalogue
from schema.messages import Fault, Reading
from schema.record import decode as decode_record
from schema.record import encode_refused, encode_telemetry

NOW_MS = 1_764_000_000_000
BOOT_MS = NOW_MS - 3_600_000
MINUTE_MS = 60_000
TOPIC = "wardwatch/v1/mri-7/telemetry"
STATE_TOPIC = "wardwatch/v1/mri-7/state"
MRI = KnownDevice("mri-7", "mri", "hospital-1", 0)
CATALOGUE = load_catalogue()
DECODER = Decoder(CATALOGUE)


def body(**changes: Any) -> dict[str, Any]:
    return {"device": "mri-7", "boot": BOOT_MS, "seq": 4, "sent": NOW_MS, "series": {}, "faults": []} | changes


def decode(plain: Any, topic: str = TOPIC, device: KnownDevice | None = MRI, **options: Any) -> Decoded:
    payload = plain if isinstance(plain, bytes) else msgspec.json.encode(plain)
    return DECODER.decode(topic, payload, device=device, receive_ms=NOW_MS, **options)


def reason(found: Decoded) -> str | None:
    return None if found.refused is None else found.refused.reason


def test_readings_become_whole_steps_in_order_of_time_and_name() -> None:
    early, late = NOW_MS - MINUTE_MS, NOW_MS
    found = decode(body(series={"exams": [[late, 1202], [early, 1201]], "coldhead_k": [[early, 4.2105]]}))
    assert found.refused is None
    assert found.message is not None
    assert found.message.readings == (
        Reading(early, "coldhead_k", CATALOGUE["mri"].metrics["coldhead_k"].quantise(4.2105)),
        Reading(early, "exams", 1201),
        Reading(late, "exams", 1202),
    )
    assert (found.boot, found.seq, found.ahead) == (BOOT_MS, 4, 0)


def test_the_same_shape_arrives_as_messagepack_by_its_content_type() -> None:
    plain = body(series={"exams": [[NOW_MS, 1201]]})
    packed = decode(msgspec.msgpack.encode(plain), content_type="application/msgpack")
    assert packed.refused is None
    assert packed == decode(plain, content_type="application/json; charset=utf-8")


@pytest.mark.parametrize(
    ("why", "series"),
    [
        ("unknown_metric", {"coffee_cups": [[NOW_MS, 1]]}),
        ("out_of_range", {"coldhead_k": [[NOW_MS, 321]]}),
        ("out_of_range", {"exams": [[NOW_MS, -1]]}),
        ("timestamp_ahead", {"exams": [[NOW_MS + AHEAD_LIMIT_MS + 1, 1]]}),
        ("timestamp_implausible", {"exams": [[EARLIEST_MS - 1, 1]]}),
        ("invalid_payload", {"exams": [[NOW_MS, "twelve"]]}),
        ("invalid_payload", {"exams": [[NOW_MS]]}),
        ("invalid_payload", {"exams": 12}),
    ],
)
def test_a_bad_reading_is_refused_and_the_good_ones_of_its_message_are_kept(why: str, series: dict[str, Any]) -> None:
    alone = decode(body(series=series))
    assert reason(alone) == why
    assert alone.message is None
    assert (alone.boot, alone.seq) == (BOOT_MS, 4)  # the quarantine has it: its sender may forget it

    mixed = decode(body(series=series | {"helium_pct": [[NOW_MS, 80]]}))
    assert reason(mixed) == why
    assert mixed.message is not None
    assert [reading.metric for reading in mixed.message.readings] == ["helium_pct"]


@pytest.mark.parametrize(
    ("why", "payload"),
    [
        ("invalid_json", b""),
        ("invalid_json", b"\xff\xfe\x00"),
        ("invalid_json", b'{"device": "mri-7", "boot": NaN}'),
        ("invalid_json", b"[" * 200_000),
        ("invalid_payload", b"null"),
        ("invalid_payload", b"[]"),
        ("invalid_payload", msgspec.json.encode({"device": "mri-7", "seq": 1, "sent": NOW_MS})),
        ("invalid_payload", msgspec.json.encode(body(seq="four"))),
        ("topic_mismatch", msgspec.json.encode(body(device="mri-8"))),
        ("bad_seq", msgspec.json.encode(body(seq=0))),
        ("bad_seq", msgspec.json.encode(body()).replace(b'"seq":4', b'"seq":99999999999999999999')),
        ("timestamp_ahead", msgspec.json.encode(body(boot=NOW_MS + 86_400_000))),
        ("timestamp_implausible", msgspec.json.encode(body(boot=12))),
        ("not_finite", msgspec.json.encode(body(series={"exams": [[NOW_MS, 1]]})).replace(b",1]", b",1e999]")),
        ("too_large", b"\xa7" * (MAX_PAYLOAD_BYTES + 1)),
    ],
)
def test_a_message_without_a_readable_envelope_is_refused_whole(why: str, payload: bytes) -> None:
    found = decode(payload)
    assert (reason(found), found.message) == (why, None)
    assert found.refused is not None
    assert found.refused.length == len(payload)
    assert found.refused.payload == payload[:KEPT_BYTES]


def test_not_a_number_is_refused_where_the_format_can_say_it() -> None:
    payload = msgspec.msgpack.encode(body(series={"exams": [[NOW_MS, math.nan], [NOW_MS, math.inf]]}))
    assert reason(decode(payload, content_type="application/msgpack")) == "not_finite"


def test_topic_device_model_and_content_type_are_checked_before_the_payload() -> None:
    assert reason(decode(b"?", topic="wardwatch/v1/mri-7/status")) == "unsupported_topic"
    assert reason(decode(b"?", device=None)) == "unknown_device"
    assert reason(decode(b"?", device=KnownDevice("mri-7", "toaster", "hospital-1", 0))) == "unknown_model"
    assert reason(decode(b"?", content_type="application/cbor")) == "unsupported_content_type"


def test_readings_up_to_ten_minutes_ahead_keep_their_time_and_are_counted() -> None:
    times = [NOW_MS, NOW_MS + 1, NOW_MS + AHEAD_LIMIT_MS]
    found = decode(body(series={"exams": [[at, 1] for at in times]}))
    assert found.refused is None
    assert found.message is not None
    assert [reading.ts_ms for reading in found.message.readings] == times
    assert found.ahead == 2


def test_a_sending_time_that_cannot_be_is_refused_and_replaced_by_the_receive_time() -> None:
    found = decode(body(sent=NOW_MS + 86_400_000, series={"exams": [[NOW_MS, 1]]}))
    assert reason(found) == "timestamp_ahead"
    assert found.message is not None
    assert found.message.sent_ms == NOW_MS


def test_a_fault_is_completed_from_the_catalogue_where_the_device_is_silent() -> None:
    known = CATALOGUE["mri"].faults["CRY-101"]
    faults = [
        {"code": "CRY-101", "ts": NOW_MS, "severity": "fatal"},
        {"code": "CRY-101", "ts": NOW_MS + 1, "severity": "critical", "subsystem": "rf", "text": "a\x00b"},
    ]
    found = decode(body(faults=faults))
    assert found.refused is None
    assert found.message is not None
    assert found.message.faults == (
        Fault(NOW_MS, "CRY-101", known.severity, known.subsystem, ""),
        Fault(NOW_MS + 1, "CRY-101", "critical", "rf", "a b"),
    )


def test_a_fault_code_newer_than_the_catalogue_is_kept_and_a_malformed_one_refused() -> None:
    found = decode(body(faults=[{"code": "NEW-1", "ts": NOW_MS}, {"code": "no code at all", "ts": NOW_MS}]))
    assert reason(found) == "invalid_payload"
    assert found.message is not None
    assert found.message.faults == (Fault(NOW_MS, "NEW-1", "warning", "", ""),)


def test_a_subsystem_that_the_model_does_not_have_becomes_words() -> None:
    made_up = {"ts": NOW_MS, "subsystem": "flux-7", "text": "lost"}
    found = decode(body(faults=[{"code": "CRY-101", **made_up}, {"code": "NEW-1", **made_up}]))
    assert found.refused is None
    assert found.message is not None
    known = CATALOGUE["mri"].faults["CRY-101"]
    assert found.message.faults == (
        Fault(NOW_MS, "CRY-101", known.severity, known.subsystem, "flux-7: lost"),
        Fault(NOW_MS, "NEW-1", "warning", "", "flux-7: lost"),
    )


def test_birth_and_will_stand_outside_the_sequence() -> None:
    gateway = KnownDevice("gw-1", "gateway", "hospital-1", 0)
    for state, kind in (("online", "birth"), ("offline", "will")):
        plain = {"device": "gw-1", "state": state, "boot": BOOT_MS}
        message = decode(plain, topic="wardwatch/v1/gw-1/state", device=gateway).message
        assert message is not None
        assert (message.kind, message.boot, message.seq, message.sent_ms) == (kind, BOOT_MS, 0, NOW_MS)
    assert (
        reason(decode({"device": "gw-1", "state": "asleep", "boot": BOOT_MS}, topic=STATE_TOPIC)) == "invalid_payload"
    )


def test_every_refusal_of_a_message_is_told_in_one_entry() -> None:
    found = decode(body(series={"coffee": [], "exams": [[NOW_MS, -1]] * 50}))
    assert found.refused is not None
    assert found.refused.reason == "unknown_metric"
    assert "'coffee'" in found.refused.detail
    assert "exams: -1.0, expected 0 to" in found.refused.detail
    assert found.refused.detail.endswith("and 31 more")


def test_only_the_two_topics_of_a_device_belong_to_it() -> None:
    assert device_in(TOPIC) == device_in(STATE_TOPIC) == "mri-7"
    for other in ("wardwatch/v1/mri-7/confirmed", "wardwatch/v1/a/b/state", "wardwatch/v2/a/state", "", "\n"):
        assert device_in(other) is None


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
times = st.integers(NOW_MS - 10**10, NOW_MS + 10**7) | st.integers()
points = st.lists(st.tuples(times, st.floats() | st.integers()), max_size=5)
mutants = st.fixed_dictionaries(
    {},
    optional={
        "device": st.sampled_from(["mri-7", "x"]) | plain_values,
        "boot": times | plain_values,
        "seq": st.integers() | plain_values,
        "sent": times | plain_values,
        "state": st.sampled_from(["online", "offline"]) | plain_values,
        "series": st.dictionaries(st.sampled_from(["exams", "coldhead_k", "?"]), points | plain_values, max_size=4)
        | plain_values,
        "faults": st.lists(
            st.fixed_dictionaries(
                {"code": st.sampled_from(["CRY-101", "N"]) | plain_values, "ts": times | plain_values},
                optional={"severity": plain_values, "subsystem": plain_values, "text": st.text() | plain_values},
            ),
            max_size=3,
        )
        | plain_values,
        "patient_name": st.text(max_size=5),
    },
)


def encoded(value: Any, content_type: str | None) -> bytes:
    try:
        return msgspec.msgpack.encode(value) if content_type else msgspec.json.encode(value)
    except (OverflowError, UnicodeEncodeError, ValueError):  # 128 bits, half of a pair of surrogates
        return repr(value).encode(errors="replace")


@settings(max_examples=250, deadline=None)
@given(
    payload=st.binary(max_size=300) | mutants.map(lambda changes: body() | changes) | mutants,
    topic=st.sampled_from([TOPIC, STATE_TOPIC]) | st.text(max_size=40),
    device=st.sampled_from([MRI, None, KnownDevice("mri-7", "toaster", "c", 0)]),
    content_type=st.sampled_from([None, "application/msgpack", "text/plain"]),
)
def test_any_bytes_on_any_topic_give_a_message_or_a_refusal_that_the_log_takes(
    payload: bytes | dict[str, Any], topic: str, device: KnownDevice | None, content_type: str | None
) -> None:
    data = payload if isinstance(payload, bytes) else encoded(payload, content_type)
    found = decode(data, topic=topic, device=device, content_type=content_type)
    assert found.message is not None or found.refused is not None
    if found.message is not None:
        record = decode_record(encode_telemetry([found.message], source="b", receive_ms=NOW_MS))
        assert list(record) == [found.message]  # type: ignore[arg-type]
        times = [reading.ts_ms for reading in found.message.readings]
        assert times == sorted(times)
        assert all(EARLIEST_MS <= at <= NOW_MS + AHEAD_LIMIT_MS for at in times)
    if found.refused is not None:
        assert decode_record(encode_refused([found.refused], source="b", receive_ms=NOW_MS)) == (found.refused,)
        assert "\x00" not in found.refused.topic + found.refused.detail  # PostgreSQL's texts cannot hold it
