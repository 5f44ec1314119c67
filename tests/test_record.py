"""The log record: round trip, and what damage does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.commands import AcknowledgeAlert, CloseWorkOrder
from schema.messages import Fault, Message, Reading, Refused
from schema.record import (
    CorruptRecordError,
    TelemetryRecord,
    Tick,
    decode,
    encode_commands,
    encode_refused,
    encode_registry,
    encode_telemetry,
    encode_tick,
)
from schema.registry import Customer, Technician

numbers = st.integers(-(2**62), 2**62)
names = st.text(max_size=12)
messages = st.builds(
    Message,
    device_id=names,
    kind=st.sampled_from(["telemetry", "birth", "will"]),
    boot=numbers,
    seq=numbers,
    sent_ms=numbers,
    receive_ms=numbers,
    readings=st.lists(st.builds(Reading, numbers, names, numbers), max_size=4).map(tuple),
    faults=st.lists(st.builds(Fault, numbers, names, names, names, names), max_size=3).map(tuple),
)


@given(st.lists(messages, max_size=6), names)
def test_whole_messages_come_back_as_they_went_in(sent: list[Message], source: str) -> None:
    record = decode(encode_telemetry(sent, source=source, receive_ms=5))
    assert isinstance(record, TelemetryRecord)
    assert (list(record), record.source, record.receive_ms) == (sent, source, 5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (encode_tick(Tick("bridge-1", 7, "joined")), Tick("bridge-1", 7, "joined")),
        (
            encode_commands([AcknowledgeAlert(command_id="c", actor="a", alert_id="x")], source="s", receive_ms=0),
            (AcknowledgeAlert(command_id="c", actor="a", alert_id="x"),),
        ),
        (
            encode_registry([Customer(customer_id="c", name="n"), Technician(technician_id="t", name="n")],
                            source="s", receive_ms=0),
            (Customer(customer_id="c", name="n"), Technician(technician_id="t", name="n")),
        ),
        (
            encode_refused([Refused("t", "h", 1, "r", "d", 3, b"\xff")], source="s", receive_ms=0),
            (Refused("t", "h", 1, "r", "d", 3, b"\xff"),),
        ),
    ],
    ids=["tick", "command", "registry", "refused"],
)  # fmt: skip
def test_other_kinds_come_back_as_they_went_in(value: bytes, expected: object) -> None:
    assert decode(value) == expected


@given(st.data())
def test_any_damage_is_noticed(data: st.DataObject) -> None:
    value = bytearray(
        encode_commands(
            [CloseWorkOrder(command_id="c", actor="a", work_order_id="w", outcome="confirmed")],
            source="s",
            receive_ms=0,
        )
    )
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptRecordError):
        decode(bytes(value))


@given(st.binary(max_size=200))
def test_noise_is_no_record(noise: bytes) -> None:
    with pytest.raises(CorruptRecordError):
        decode(noise)
