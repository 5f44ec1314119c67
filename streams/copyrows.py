"""Rows in PostgreSQL's binary COPY format, straight from numpy columns: text columns first, then 8-byte ones.

psycopg writes such rows one Python tuple at a time; raw readings and rollups are by far the most rows, and they are
columns already. Format: https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4
"""

import numpy as np
import numpy.typing as npt

from schema.compiled import compiled

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
POSTGRES_EPOCH_MS = 946_684_800_000
"""2000-01-01, from which `timestamptz` counts microseconds."""

NULL = np.iinfo(np.int64).min
"""An 8-byte field with this bit pattern is NULL."""

Integers = npt.NDArray[np.int64]


class TextTable:
    """Texts numbered from 0, with their UTF-8 bytes in one array for the kernel."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}
        self._ends: list[int] = [0]
        self._bytes = bytearray()

    def number(self, text: str) -> int:
        """Return the number of a text, a new one if it is unknown."""
        known = self._number.get(text)
        if known is None:
            known = self._number[text] = len(self._number)
            self._bytes += text.encode()
            self._ends.append(len(self._bytes))
        return known

    def text(self, number: int) -> str:
        """Return the text that has a number."""
        return self._bytes[self._ends[number] : self._ends[number + 1]].decode()

    def arrays(self) -> tuple[npt.NDArray[np.uint8], Integers]:
        """Return the bytes of all texts (B,) and the ends (T + 1,): text i is [ends[i], ends[i + 1])."""
        return np.frombuffer(bytes(self._bytes), np.uint8), np.array(self._ends, np.int64)


def timestamps(ms: Integers) -> Integers:
    """Bits of `timestamptz` from ms since the Unix epoch."""
    return (ms - POSTGRES_EPOCH_MS) * 1000


def floats(values: npt.NDArray[np.float64], null: npt.NDArray[np.bool_] | None = None) -> Integers:
    """Bits of `double precision`; NULL where `null` is set."""
    bits = np.ascontiguousarray(values).view(np.int64)
    return bits if null is None else np.where(null, NULL, bits)


def encode_rows(texts: TextTable, text_numbers: Integers, fields: Integers) -> bytes:
    """Encode rows, with header and trailer.

    `text_numbers` (R, T) are numbers in `texts`; `fields` (R, F) the bits of 8-byte columns (bigint, `timestamps`,
    `floats`).
    """
    blob, ends = texts.arrays()
    lengths = np.diff(ends)[text_numbers]
    rows, columns = text_numbers.shape
    filled = (fields != NULL).sum(dtype=np.int64)
    size = rows * (2 + 4 * (columns + fields.shape[1])) + lengths.sum(dtype=np.int64) + 8 * filled
    out = np.empty(int(size), np.uint8)
    written = encode_into(out, blob, ends, text_numbers, fields)
    assert written == size
    return HEADER + out.tobytes() + TRAILER


@compiled
def encode_into(
    out: npt.NDArray[np.uint8],
    blob: npt.NDArray[np.uint8],
    ends: Integers,
    text_numbers: Integers,
    fields: Integers,
) -> int:
    """Write the rows of `encode_rows` into `out`; return the number of bytes."""
    at = 0
    for row in range(text_numbers.shape[0]):
        out[at] = 0
        out[at + 1] = text_numbers.shape[1] + fields.shape[1]
        at += 2
        for column in range(text_numbers.shape[1]):
            number = text_numbers[row, column]
            length = ends[number + 1] - ends[number]
            for shift in range(4):
                out[at + shift] = (length >> (24 - 8 * shift)) & 255
            at += 4
            for k in range(length):
                out[at + k] = blob[ends[number] + k]
            at += length
        for column in range(fields.shape[1]):
            bits = fields[row, column]
            if bits == NULL:
                for shift in range(4):
                    out[at + shift] = 255
                at += 4
                continue
            out[at], out[at + 1], out[at + 2], out[at + 3] = 0, 0, 0, 8
            for shift in range(8):
                out[at + 4 + shift] = (bits >> (56 - 8 * shift)) & 255
            at += 12
    return at
