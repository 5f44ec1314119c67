"""What `schema/README.md` promises to those who query, held against the migrated database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from grafana_rows import migrated_database

import schema
from alerting.policy import POLICIES
from wardwatch.local import LocalParts

README = Path(schema.__file__).with_name("README.md").read_text("utf-8")
INTERNAL = {"quarantine", "outbox", "audit_log", "state_snapshots", "fleet_contributions", "schema_migrations"}


@pytest.fixture(scope="module")
def migrated(parts: LocalParts) -> Iterator[psycopg.Connection[Any]]:
    with (
        migrated_database(parts.database_url, "test_grafana_contract") as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        yield connection


def promised() -> dict[str, set[str]]:
    """Columns by table: the names in the first cell of each row of a section."""
    found = {}
    for section in re.split(r"^### ", README.partition("## Not for outsiders")[0], flags=re.MULTILINE)[1:]:
        head, _, body = section.partition("\n")
        cells = re.findall(r"^\|([^|]*)\|", body, flags=re.MULTILINE)
        names = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
        tables = re.findall(r"`(\w+)`", head)
        for table in tables:
            of_others = {f"{other.removesuffix('_events')}_id" for other in tables if other != table}
            found[table] = names - of_others
    return found


def test_every_column_that_readers_may_see_is_described_and_no_other(migrated: psycopg.Connection[Any]) -> None:
    rows = migrated.execute(
        "SELECT table_name, array_agg(column_name::text) FROM information_schema.column_privileges"
        " WHERE grantee = 'wardwatch_reader' AND table_schema = 'public' GROUP BY 1"
    ).fetchall()
    assert promised() == {table: set(columns) for table, columns in rows}


def test_the_rest_is_named_as_closed(migrated: psycopg.Connection[Any]) -> None:
    rows = migrated.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert {table for (table,) in rows} - promised().keys() == INTERNAL
    for table in INTERNAL:
        assert f"| `{table}` |" in README
        may_read = migrated.execute("SELECT has_table_privilege('wardwatch_reader', %s, 'SELECT')", [table]).fetchone()
        assert may_read == (False,)


def test_every_detector_that_raises_alerts_is_named() -> None:
    [row] = re.findall(r"^\| `detector` \| text \| (.+) \|$", README.partition("### `work_orders`")[0], re.MULTILINE)
    assert POLICIES.keys() <= set(re.findall(r"`(\w+)`", row))


@pytest.mark.parametrize("example", re.findall(r"```sql\n(.*?)```", README, flags=re.DOTALL))
def test_the_examples_run(migrated: psycopg.Connection[Any], example: str) -> None:
    with migrated.transaction():
        migrated.execute("SET LOCAL ROLE wardwatch_reader")
        migrated.execute(example.encode())
