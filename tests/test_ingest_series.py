"""The quick way of a message and the general one give the same, and only what is as it should be goes the quick way."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.decode import Decoded, Decoder
from ingest.directory import KnownDevice
from ingest.usual import AHEAD_LIMIT_MS, UsualMessages
from ingest.wire import format_of
from schema.catalogue import load_catalogue

CATALOGUE = load_catalogue()
MODEL = CATALOGUE["ct"]
METRICS = sorted(MODEL.metrics)
DEVICE = KnownDevice("ct-1", "ct", "c-1", 0)
NOW_MS = 1_764_000_000_000


QUICK = Decoder(CATALOGUE)
GENERAL = Decoder(CATALOGUE)
GENERAL._usual = UsualMessages({})


def decoded(decoder: Decoder, payload: bytes) -> Decoded:
    return decoder.decode("wardwatch/v1/ct-1/telemetry", payload, device=DEVICE, receive_ms=NOW_MS)


def message(series: Any, **more: Any) -> dict[str, Any]:
    return {"device": "ct-1", "boot": NOW_MS - 10**6, "seq": 1, "sent": NOW_MS, "series": series, **more}


def quickly(series: str) -> Any:
    """What the quick way makes of a message with these series."""
    payload = json.dumps(message("@")).replace('"@"', series).encode()
    found = UsualMessages(CATALOGUE).read(format_of(None), payload, DEVICE, NOW_MS)  # type: ignore[arg-type] # JSON
    return None if found is None else found.readings


times = st.integers(NOW_MS - 10**5, NOW_MS + AHEAD_LIMIT_MS + 1000) | st.integers(0, 10**18)
values = st.floats(-300, 300) | st.integers(-5, 10**7) | st.decimals(-300, 300, places=4).map(float)
points = st.lists(st.tuples(times, values), max_size=6)
names = st.sampled_from([*METRICS, "no such metric", "tube\u005fcel", "ü"])
spacing = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")])


@given(st.dictionaries(names, points | points.map(sorted), max_size=4), spacing)
def test_both_ways_give_the_same(series: dict[str, Any], separators: tuple[str, str]) -> None:
    payload = json.dumps(message(series), separators=separators, ensure_ascii=False).encode()
    assert decoded(QUICK, payload) == decoded(GENERAL, payload)


@given(st.text(alphabet='[]{},:"0123456789.-eE tube_cel\\', max_size=60))
def test_whatever_stands_there_both_ways_say_the_same(text: str) -> None:
    payload = json.dumps(message("@")).replace('"@"', text or "0").encode()
    assert decoded(QUICK, payload) == decoded(GENERAL, payload)


@given(st.decimals(-20, 250, places=2), st.integers(0, 10))
def test_a_value_is_the_nearest_step_however_it_is_written(value: Any, zeros: int) -> None:
    written = f"{value}{'0' * zeros}"
    found = quickly(f'{{"tube_cel":[[{NOW_MS},{written}]]}}')
    assert found is not None
    assert [reading.n for reading in found] == [MODEL.metrics["tube_cel"].quantise(float(written))]


def test_readings_come_in_the_order_of_time_and_name() -> None:
    found = quickly(f'{{"tube_cel":[[{NOW_MS},1],[{NOW_MS + 1},2]],"detector_cel":[[{NOW_MS},3]]}}')
    assert [(reading.ts_ms - NOW_MS, reading.metric) for reading in found] == [
        (0, "detector_cel"),
        (0, "tube_cel"),
        (1, "tube_cel"),
    ]


@pytest.mark.parametrize(
    "series",
    [
        '{"tube_cel":[[1764000000000,1e1]]}',
        '{"tube_cel":[[1764000000000,999]]}',
        '{"tube_cel":[[1764000000000,01]]}',
        '{"tube_cel":[[1764000000000,1.]]}',
        '{"tube_cel":[[1764000000000,1],[1763999999999,1]]}',
        '{"tube_cel":[[5,1]]}',
        '{"unknown":[[1764000000000,1]]}',
        '{"tube_cel":[],"tube_cel":[]}',
        '{"tube\\u005fcel":[]}',
        '{"tube_cel":[[1764000000000,1]]',
        '{"tube_cel":[[1764000000000,1]]}}',
        '{"tube_cel":[[1764000000000,1],]}',
        '{"tube_cel":[[1764000000000,1]]}, "faults": [{"code": "C-1", "ts": 1764000000000}]',
        '{"tube_cel":[[1764000000000,1]]}, "patient": 7',
        '{"tube_cel":[[1764000000000,1]]}, "seq": 0',
        '{"tube_cel":[[1764000000000,1]]}, "boot": 5',
        '{"tube_cel":[[1764000000000,1]]}, "sent": 5',
        '{"tube_cel":[[1764000000000,1]]}, "device": "ct-2"',
        "[]",
        "",
    ],
)
def test_what_is_unusual_goes_the_general_way(series: str) -> None:
    assert quickly(series) is None


@pytest.mark.parametrize("first", ["series", "\\u0073eries", "s\\u0065rie\\u0073"])
def test_series_that_stand_there_twice_go_the_general_way(first: str) -> None:
    plain = json.dumps(message({"tube_cel": [[NOW_MS, 21.5]]}))
    payload = plain.replace('"series"', f'"{first}": {{"tube_cel": [[1, 1e999]]}}, "series"').encode()
    assert decoded(QUICK, payload) == decoded(GENERAL, payload)
    assert decoded(QUICK, payload).refused is not None


@pytest.mark.parametrize("second", ["series", "s\\u0065ries"])
@pytest.mark.parametrize("value", ["0", "null", "{}"])
def test_what_stands_behind_the_series_in_their_place_counts_on_both_ways(second: str, value: str) -> None:
    plain = json.dumps(message({"tube_cel": [[NOW_MS, 21.5]]}))
    payload = f'{plain[:-1]}, "{second}": {value}}}'.encode()
    assert decoded(QUICK, payload) == decoded(GENERAL, payload)
    assert decoded(QUICK, payload).message != decoded(QUICK, plain.encode()).message


@pytest.mark.parametrize("inside", ['{"series": {"tube_cel": [[1764000000000, 1]]}}', '"series"', '["series"]'])
@pytest.mark.parametrize("name", ["series", "s\\u0065ries", "other"])
def test_series_inside_of_something_else_are_not_the_messages(inside: str, name: str) -> None:
    rest = json.dumps(message({"tube_cel": [[NOW_MS, 2]]}))
    for payload in (f'{{"x": {inside}, {rest[1:]}', f'{rest[:-1]}, "x": {inside}}}'):
        written = payload.replace('"series": {"tube_cel": [[1764000000000, 2]]}', f'"{name}": {{"tube_cel": []}}')
        assert decoded(QUICK, written.encode()) == decoded(GENERAL, written.encode())


def test_a_usual_message_goes_the_quick_way_also_with_readings_that_are_ahead() -> None:
    payload = json.dumps(message({"tube_cel": [[NOW_MS, 21.5], [NOW_MS + 1, 22]]}, more={"firmware": "7"})).encode()
    assert QUICK._usual.read(format_of("application/json"), payload, DEVICE, NOW_MS) is not None  # type: ignore[arg-type]
    found = decoded(QUICK, payload)
    assert (found.boot, found.seq, found.ahead) == (NOW_MS - 10**6, 1, 1)
    assert found == decoded(GENERAL, payload)


def test_a_patient_beside_the_series_is_still_found() -> None:
    payload = json.dumps(message({"tube_cel": [[NOW_MS, 21.5]]}, patient_name="DOE^JANE")).encode()
    found = decoded(QUICK, payload)
    assert found.refused is not None
    assert found.refused.reason == "privacy"
    assert found == decoded(GENERAL, payload)
