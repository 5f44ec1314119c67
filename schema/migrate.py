"""Apply the numbered SQL migrations, once each, in one transaction, and refuse a history that was changed."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

import msgspec
import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from schema.catalogue import Catalogue

_LOCK = 0x77617264
"""Key of the advisory lock that lets one process migrate at a time."""


class MigrationError(RuntimeError):
    """The database's history is not the one of this version; the message says what differs."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `schema/migrations`, named `NNN_what.sql`."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text as it was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Applied:
    version: int
    name: str
    checksum: str


def migrations() -> list[Migration]:
    """All migrations of this version, in order."""
    found = [
        Migration(int(entry.name[:3]), entry.name, entry.read_text("utf-8"))
        for entry in files("schema").joinpath("migrations").iterdir()
        if entry.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.version)


def migrate(database_url: str, catalogue: Catalogue) -> list[str]:
    """Bring the database up to date and the catalogue of device models in; return the names of what was applied.

    Safe to call at each start and from several processes at once.

    Raises:
        MigrationError: an applied migration differs from the file, or the database is newer than this version.
    """
    with psycopg.connect(database_url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY, name text NOT NULL,"
            " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        with connection.cursor(row_factory=class_row(_Applied)) as cursor:
            cursor.execute("SELECT version, name, checksum FROM schema_migrations")
            applied = {row.version: row for row in cursor}
        todo = _missing(applied)
        for migration in todo:
            connection.execute(migration.sql.encode())
            connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
                (migration.version, migration.name, migration.checksum),
            )
        _store_models(connection, catalogue)
    return [migration.name for migration in todo]


def _missing(applied: dict[int, _Applied]) -> list[Migration]:
    known = {migration.version: migration for migration in migrations()}
    newer = sorted(applied.keys() - known.keys())
    if newer:
        raise MigrationError(f"the database has migrations that this version does not know: {newer}; upgrade wardwatch")
    for version, row in applied.items():
        if known[version].checksum != row.checksum:
            raise MigrationError(f"{row.name} was applied with another text than {known[version].name} has now")
    return [migration for version, migration in sorted(known.items()) if version not in applied]


def _store_models(connection: psycopg.Connection[tuple[object, ...]], catalogue: Catalogue) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO device_models (model, name, name_zh, skill, usage_metric, service_interval_days, catalogue)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (model) DO UPDATE SET name = excluded.name,"
            " name_zh = excluded.name_zh, skill = excluded.skill, usage_metric = excluded.usage_metric,"
            " service_interval_days = excluded.service_interval_days, catalogue = excluded.catalogue",
            [
                (
                    model.model,
                    model.name,
                    model.name_zh,
                    model.skill,
                    model.usage_metric if model.metrics else None,
                    model.service_interval_days,
                    Jsonb(msgspec.to_builtins(model)),
                )
                for model in catalogue.values()
            ],
        )
