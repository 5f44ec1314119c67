"""Where a message that is refused whole belongs: a confirmation may pass it, but never what was not written."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ingest_help import T0, Peer
from test_ingest_bridge import MemoryLog, bridge, no_session, peer
from test_ingest_decode import BOOT_MS, NOW_MS, body, decode, reason

from ingest.confirm import Confirmations, told_to_bridges
from ingest.decode import MAX_PAYLOAD_BYTES
from ingest.place import MAX_NUMBER, NOWHERE, place_in
from ingest.wire import Format, format_of
from schema.topics import telemetry_topic
from wardwatch.local import LocalParts

__all__ = ["no_session", "peer"]


def form(content_type: str | None = None) -> Format:
    found = format_of(content_type)
    assert found is not None
    return found


JSON, MSGPACK = form(), form("application/msgpack")
WHOLE = msgspec.json.encode(body(series={"exams": [[NOW_MS, 7]]}))


@pytest.mark.parametrize(
    ("why", "payload"),
    [
        ("invalid_json", WHOLE[:-10]),
        ("invalid_json", WHOLE.replace(b"7]]", b"NaN]]")),
        ("invalid_payload", WHOLE.replace(b'"seq":4', b'"seq":"4"')),
        ("invalid_payload", WHOLE.replace(b'"sent":', b'"send":')),
        ("invalid_payload", WHOLE.replace(b'"device":"mri-7",', b"")),
        ("too_large", WHOLE + b" " * MAX_PAYLOAD_BYTES),
        ("too_large", WHOLE[:-1] + b" " * MAX_PAYLOAD_BYTES),
    ],
)
def test_a_message_that_is_refused_whole_has_its_place(why: str, payload: bytes) -> None:
    found = decode(payload)
    assert (reason(found), found.message, found.boot, found.seq) == (why, None, BOOT_MS, 4)


@pytest.mark.parametrize("boot", [0, NOW_MS + 86_400_000, MAX_NUMBER])
def test_a_boot_that_cannot_be_is_still_the_one_that_its_sender_waits_for(boot: int) -> None:
    found = decode(body(boot=boot))
    assert (found.message, found.boot, found.seq) == (None, boot, 4)


def test_messagepack_says_it_where_it_can_be_decoded() -> None:
    plain = body()
    del plain["sent"]
    packed = msgspec.msgpack.encode(plain)
    found = decode(packed, content_type="application/msgpack")
    assert (reason(found), found.boot, found.seq) == ("invalid_payload", BOOT_MS, 4)
    assert place_in(MSGPACK, packed[:-1], "mri-7") == NOWHERE


@pytest.mark.parametrize(
    "payload",
    [
        WHOLE.replace(b"mri-7", b"mri-8"),
        WHOLE.replace(b"mri-7", b"mri-8")[:-1],
        WHOLE.replace(b'"seq":4', b'"seq":0'),
        WHOLE.replace(b'"seq":4', b'"seq":%d' % (MAX_NUMBER + 1)),
        WHOLE.replace(b'"seq":4', b'"seq":4.5'),
        WHOLE.replace(b'"seq":4', b'"seq":-4'),
        WHOLE[: WHOLE.index(b'4,"sent"') + 1],
        b"[" + WHOLE,
    ],
)
def test_a_number_of_another_device_or_one_that_is_none_has_no_place(payload: bytes) -> None:
    assert place_in(JSON, payload, "mri-7") == NOWHERE


values = st.recursive(
    st.none()
    | st.integers(-5, 2**70)
    | st.text(max_size=12)
    | st.sampled_from(['"seq":9,', '{"boot":8,"seq":9}', "\\"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["boot", "seq", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(
    rest=st.dictionaries(st.sampled_from(["sent", "series", "faults", "a_b", "Z"]), values),
    data=st.data(),
    junk=st.binary(max_size=20),
    packed=st.booleans(),
)
def test_whatever_is_cut_off_or_put_behind_no_other_place_is_read(
    rest: dict[str, Any], data: st.DataObject, junk: bytes, packed: bool
) -> None:
    whole = {"device": "mri-7", "boot": BOOT_MS, "seq": 123_456} | rest
    plain = {name: whole[name] for name in data.draw(st.permutations(sorted(whole)))}
    try:
        payload = msgspec.msgpack.encode(plain) if packed else msgspec.json.encode(plain)
    except OverflowError:  # MessagePack ends at 64 bits
        return
    for spoilt in (payload[: data.draw(st.integers(0, len(payload)))], payload + junk):
        assert place_in(MSGPACK if packed else JSON, spoilt, "mri-7") in (NOWHERE, (BOOT_MS, 123_456))


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([JSON, MSGPACK]))
@example(b'{"boot":1,' * 1000, JSON)
@example(b'{"boot":1,"seq":2,"x":' + b"[" * 200_000, JSON)
def test_any_bytes_have_a_place_that_can_be_told_or_none(payload: bytes, form: Format) -> None:
    for data in (payload, b'{"boot":1,"seq":' + payload, b"\x82\xa4boot\x01\xa3seq" + payload):
        boot, seq = place_in(form, data, "mri-7")
        if (boot, seq) != NOWHERE:
            confirmations = Confirmations(interval_ms=0)
            for told in told_to_bridges([("mri-7", boot, seq)]):
                confirmations.merge(told)
            assert [each.last for each in confirmations.tell(0)] == [seq]


def test_a_device_hears_of_what_comes_behind_an_unreadable_message(parts: LocalParts, peer: Peer) -> None:
    log, topic = MemoryLog(), telemetry_topic("mri-7")
    with bridge(parts, log, clock="wall", confirm_interval_ms=50):
        for seq in range(1, 7):
            whole = msgspec.json.encode(body(boot=T0, seq=seq, sent=T0, series={"exams": [[T0, seq]]}))
            peer.publish(topic, whole[:-1] if seq == 4 else whole)
        peer.wait_for("wardwatch/v1/mri-7/confirmed", {"boot": T0, "from": 1, "seq": 6})
    assert [entry.reason for entry in log.refused()] == ["invalid_json"]
    assert [message.seq for message in log.messages()] == [1, 2, 3, 5, 6]
