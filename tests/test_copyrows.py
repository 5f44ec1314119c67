"""Rows in PostgreSQL's binary COPY format."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg
import pytest

from streams.copyrows import TextTable, encode_into, encode_rows, floats, timestamps


def rows() -> tuple[TextTable, Any, Any]:
    texts = TextTable()
    numbers = np.array([[texts.number("mri-7"), texts.number("温度")], [texts.number(""), texts.number("mri-7")]])
    at = timestamps(np.array([0, 1_764_000_000_123], np.int64))
    values = floats(np.array([4.21, -1.0]), np.array([False, True]))
    return texts, numbers, np.stack([at, values, np.array([-5, 7], np.int64)], axis=1)


def test_the_database_reads_what_was_written(database: str) -> None:
    texts, numbers, fields = rows()
    with psycopg.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE t (a text, b text, at timestamptz, value double precision, n bigint)")
        with cursor.copy("COPY t FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(encode_rows(texts, numbers, fields))
        cursor.execute("SET TIME ZONE 'UTC'")
        assert cursor.execute("SELECT * FROM t ORDER BY n").fetchall() == [
            ("mri-7", "温度", datetime(1970, 1, 1, tzinfo=UTC), 4.21, -5),
            ("", "mri-7", datetime(2025, 11, 24, 16, 0, 0, 123_000, UTC), None, 7),
        ]


@pytest.mark.parametrize("kernel", [encode_into, encode_into.py_func], ids=["compiled", "plain"])  # type: ignore[attr-defined]
def test_compiled_and_plain_agree(kernel: Callable[..., int]) -> None:
    texts, numbers, fields = rows()
    blob, ends = texts.arrays()
    out = np.zeros(200, np.uint8)
    size = kernel(out, blob, ends, numbers, fields)
    assert out[:size].tobytes() == encode_rows(texts, numbers, fields)[19:-2]
