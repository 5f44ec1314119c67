"""Migrations and the tables that rows go into."""

import msgspec
import psycopg
import pytest

from schema.catalogue import load_catalogue
from schema.migrate import MigrationError, migrate, migrations
from schema.rows import ROWS


def test_a_second_migration_changes_nothing(database: str) -> None:
    assert migrate(database, load_catalogue()) == [migration.name for migration in migrations()]
    assert migrate(database, load_catalogue()) == []


def test_a_changed_history_is_refused(database: str) -> None:
    migrate(database, load_catalogue())
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE schema_migrations SET checksum = 'other' WHERE version = 2")
    with pytest.raises(MigrationError, match="002_telemetry"):
        migrate(database, load_catalogue())


def test_a_newer_database_is_refused(database: str) -> None:
    migrate(database, load_catalogue())
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO schema_migrations (version, name, checksum) VALUES (999, 'later', '')")
    with pytest.raises(MigrationError, match="999"):
        migrate(database, load_catalogue())


def test_each_row_has_the_columns_and_the_key_of_its_table(database: str) -> None:
    migrate(database, load_catalogue())
    with psycopg.connect(database) as connection:
        for row in ROWS:
            columns = connection.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_name = %s", (row.TABLE,)
            )
            assert {field.name for field in msgspec.structs.fields(row)} <= {name for (name,) in columns}, row.TABLE
            key = connection.execute(
                "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid"
                " AND a.attnum = ANY(i.indkey) WHERE i.indrelid = %s::regclass AND i.indisprimary",
                (row.TABLE,),
            )
            assert {name for (name,) in key} == set(row.KEY), row.TABLE


def test_readers_cannot_write_and_do_not_see_snapshots(database: str) -> None:
    migrate(database, load_catalogue())
    with psycopg.connect(database) as connection:
        connection.execute("SET ROLE wardwatch_reader")
        connection.execute("SELECT count(*) FROM readings")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute("DELETE FROM alerts")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute("SELECT state FROM state_snapshots")
