"""The series of a JSON message straight into numbers: for messages of which everything is as it should be.

Most messages are, and most of a message is its series. One compiled pass reads `:{"name": [[ts, value], …], …}` where
it stands in the message, checks each reading against its metric and merges the series by (time, name). Whatever it does
not expect, be it wrong or only unusual (an unknown metric, a value out of its range, an exponent, an escape, times that
go back), it does not judge: the message then goes the general way (`ingest.decode`), which names what is refused. Both
give the same readings.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from schema.catalogue import DeviceModel
from schema.compiled import compiled
from schema.messages import Readings

CHECK_DTYPE = np.dtype(
    [("low", "f8"), ("high", "f8"), ("steps", "f8"), ("whole", "i8"), ("name_from", "i8"), ("name_to", "i8")]
)
"""A metric: plausible range, steps of its resolution in one unit, whether values must be whole, and its name."""

OTHERWISE = 0, -1
"""What `read_series` returns instead of a number of rows and an end: go the general way."""
ARENA_ROWS = 1 << 16
SHORTEST_POINT = len("[0,0],")
"""So many bytes of a message can hold no more than one reading."""

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

_POWERS = 10.0 ** np.arange(16)
_QUOTE, _BACKSLASH, _OPEN, _CLOSE, _COMMA, _COLON, _BEGIN, _END = b'"\\[],:{}'
_MINUS, _POINT, _ZERO, _NINE = b"-.09"


class SeriesReader:
    """Reads the series of one device model's messages; keeps nothing of them but the memory that they lie in."""

    def __init__(self, model: DeviceModel) -> None:
        self.names = tuple(sorted(model.metrics))
        ends = np.cumsum([0, *(len(name.encode()) for name in self.names)]).tolist()
        self._checks = np.array(
            [
                (metric.min, metric.max, metric.steps_per_unit, metric.kind == "state", *span)
                for metric, span in zip((model.metrics[name] for name in self.names), pairwise(ends), strict=True)
            ],
            CHECK_DTYPE,
        )
        self._blob = np.frombuffer("".join(self.names).encode(), np.uint8)
        self._arena = np.empty((0, 3), np.int64)
        self._filled = 0

    def read(self, payload: bytes, begin: int, *, earliest_ms: int, latest_ms: int) -> tuple[Readings, int] | None:
        """Read the series that begin, with a colon, at `begin`.

        Returns:
            The readings in the order of handling, and where the series end; None if the message must go the general
            way.
        """
        text = np.frombuffer(payload, np.uint8)
        most = len(text) // SHORTEST_POINT
        if len(self._arena) - self._filled < most:
            self._arena, self._filled = np.empty((max(ARENA_ROWS, most), 3), np.int64), 0
        first = self._filled
        rows, end = read_series(text, begin, self._blob, self._checks, earliest_ms, latest_ms, self._arena, first)
        if end < 0:
            return None
        self._filled += rows
        return Readings(self.names, self._arena[first : first + rows]), end


@compiled
def _skip(text: Bytes, at: int) -> int:
    """Return where white space ends."""
    while at < len(text) and (text[np.uintp(at)] == 32 or 9 <= text[np.uintp(at)] <= 10 or text[np.uintp(at)] == 13):
        at += 1
    return at


@compiled
def _metric(text: Bytes, begin: int, end: int, blob: Bytes, checks: npt.NDArray[np.void]) -> int:
    """Return the number of the metric whose name stands in [begin, end); -1 if there is none."""
    for number in range(len(checks)):
        start = checks[number]["name_from"]
        if checks[number]["name_to"] - start == end - begin:
            same = True
            for k in range(end - begin):
                if blob[start + k] != text[begin + k]:
                    same = False
                    break
            if same:
                return number
    return -1


@compiled
def read_series(
    text: Bytes,
    at: int,
    blob: Bytes,
    checks: npt.NDArray[np.void],
    earliest_ms: int,
    latest_ms: int,
    out: Integers,
    first: int,
) -> tuple[int, int]:
    """Write the readings of a message into `out` from row `first` on.

    `text` (B,) is the message, in which a colon and the object of series begin at `at`; `checks` (M,) of CHECK_DTYPE
    are the model's metrics in the order of their names, which lie in `blob`. `out` (N, 3) takes time in ms, number of
    the metric and value in steps, in the order of (time, metric). A value has at most 15 digits: then one division of
    two exact numbers is the nearest double, as any correct reader of JSON gives it. There must be room for a reading in
    each `SHORTEST_POINT` bytes.

    Bytes are indexed by unsigned numbers: whether one is negative would be asked for each byte.

    Returns:
        The number of readings, and where the object ends; or `OTHERWISE`.
    """
    size, rows = len(text), 0
    last = len(checks)
    points = np.empty((size // SHORTEST_POINT, 2), np.int64)
    start, stop = np.zeros(last, np.int64), np.full(last, -1, np.int64)
    at = _skip(text, at)
    if at >= size or text[np.uintp(at)] != _COLON:
        return OTHERWISE
    at = _skip(text, at + 1)
    if at >= size or text[np.uintp(at)] != _BEGIN:
        return OTHERWISE
    at = _skip(text, at + 1)
    more = at < size and text[np.uintp(at)] != _END
    if not more:
        at += 1
    while more:
        if at >= size or text[np.uintp(at)] != _QUOTE:
            return OTHERWISE
        begin = at + 1
        at = begin
        while at < size and text[np.uintp(at)] != _QUOTE:
            if text[np.uintp(at)] == _BACKSLASH:
                return OTHERWISE
            at += 1
        number = _metric(text, begin, at, blob, checks)
        if number < 0 or stop[number] >= 0:
            return OTHERWISE
        start[number] = rows
        check = checks[number]
        at = _skip(text, at + 1)
        if at >= size or text[np.uintp(at)] != _COLON:
            return OTHERWISE
        at = _skip(text, at + 1)
        if at >= size or text[np.uintp(at)] != _OPEN:
            return OTHERWISE
        at = _skip(text, at + 1)
        point = at < size and text[np.uintp(at)] != _CLOSE
        if not point:
            at += 1
        before_ms, before_n = np.int64(0), np.int64(0)
        while point:
            if at >= size or text[np.uintp(at)] != _OPEN:
                return OTHERWISE
            at = _skip(text, at + 1)
            at_ms, begin = np.int64(0), at
            while at < size and _ZERO <= text[np.uintp(at)] <= _NINE and at - begin < 16:
                at_ms = at_ms * 10 + (text[np.uintp(at)] - _ZERO)
                at += 1
            if not earliest_ms <= at_ms <= latest_ms or text[begin] == _ZERO:
                return OTHERWISE
            at = _skip(text, at)
            if at >= size or text[np.uintp(at)] != _COMMA:
                return OTHERWISE
            at = _skip(text, at + 1)
            negative = at < size and text[np.uintp(at)] == _MINUS
            if negative:
                at += 1
            mantissa, decimals, begin = np.int64(0), -1, at
            while at < size and (_ZERO <= text[np.uintp(at)] <= _NINE or text[np.uintp(at)] == _POINT):
                if text[np.uintp(at)] == _POINT:
                    if decimals >= 0 or at == begin:
                        return OTHERWISE
                    decimals = 0
                else:
                    mantissa = mantissa * 10 + (text[np.uintp(at)] - _ZERO)
                    decimals += decimals >= 0
                at += 1
            digits = at - begin - (decimals >= 0)
            if digits == 0 or digits > 15 or decimals == 0:
                return OTHERWISE
            if text[begin] == _ZERO and digits > 1 and text[begin + 1] != _POINT:
                return OTHERWISE
            value = mantissa / _POWERS[max(decimals, 0)]
            if negative:
                value = -value
            if not check["low"] <= value <= check["high"] or (check["whole"] and value != np.floor(value)):
                return OTHERWISE
            n = np.int64(np.rint(value * check["steps"]))
            if at_ms < before_ms or (at_ms == before_ms and n < before_n):
                return OTHERWISE
            before_ms, before_n = at_ms, n
            points[rows, 0], points[rows, 1] = at_ms, n
            rows += 1
            at = _skip(text, at)
            if at >= size or text[np.uintp(at)] != _CLOSE:
                return OTHERWISE
            at = _skip(text, at + 1)
            if at >= size or (text[np.uintp(at)] != _COMMA and text[np.uintp(at)] != _CLOSE):
                return OTHERWISE
            point = text[np.uintp(at)] == _COMMA
            at = _skip(text, at + 1) if point else at + 1
        stop[number] = rows
        at = _skip(text, at)
        if at >= size or (text[np.uintp(at)] != _COMMA and text[np.uintp(at)] != _END):
            return OTHERWISE
        more = text[np.uintp(at)] == _COMMA
        at = _skip(text, at + 1) if more else at + 1
    _merge(points, start, stop, out, first, rows)
    return rows, at


@compiled
def _merge(points: Integers, start: Integers, stop: Integers, out: Integers, first: int, rows: int) -> None:
    """Merge the series, each sorted, by (time, number of the metric), time by time; `start` is used up."""
    row, at_ms = first, 0
    while row < first + rows:
        following_ms = np.iinfo(np.int64).max
        for number in range(len(start)):
            at, end = start[number], stop[number]
            while at < end and points[at, 0] <= at_ms:
                out[row, 0], out[row, 1], out[row, 2] = points[at, 0], number, points[at, 1]
                row += 1
                at += 1
            start[number] = at
            if at < end:
                following_ms = min(following_ms, points[at, 0])
        at_ms = following_ms
