"""What a role does when what it needs is not there, or not as it should be."""

import threading
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from structlog.testing import capture_logs

from ingest.directory import DeviceDirectory
from schema.catalogue import load_catalogue
from schema.migrate import migrate
from streams.connecting import watchful
from streams.exchange import ContributionsGoneError
from streams.logs.embedded import EmbeddedLog
from wardwatch import roles
from wardwatch.local.process import wait_until
from wardwatch.settings import load_settings


class Rounds(threading.Event):
    """Lets so many waits pass, doing what is to happen before each, and is set then."""

    def __init__(self, *before: str, database: str) -> None:
        super().__init__()
        self._before = list(before)
        self._database = database

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        if not self._before:
            return True
        with psycopg.connect(self._database) as connection:
            connection.execute(self._before.pop(0).encode())
        return False


@pytest.mark.parametrize(
    ("trouble", "healed"),
    [
        ("partition_progress RENAME snapshot_offset TO odd", "partition_progress RENAME odd TO snapshot_offset"),
        ("partition_progress RENAME TO odd", "odd RENAME TO partition_progress"),
    ],
    ids=["column", "table"],
)
def test_retention_goes_on_after_whatever_the_database_refuses(
    trouble: str, healed: str, database: str, tmp_path: Path
) -> None:
    migrate(database, load_catalogue())
    rounds = Rounds(f"ALTER TABLE {trouble}", f"ALTER TABLE {healed}", "SELECT 1", database=database)
    with EmbeddedLog(tmp_path / "log.sqlite") as log, capture_logs() as lines:
        roles._retain(database, load_settings(data=tmp_path), log, rounds)
    assert [line["event"] for line in lines] == ["retention is put off"]


def test_the_registry_is_followed_again_after_whatever_the_database_refuses(database: str) -> None:
    directory, stop = DeviceDirectory(1, []), threading.Event()
    follower = threading.Thread(target=roles._follow_registry, args=(database, directory, stop))
    with capture_logs() as lines:
        follower.start()
        assert wait_until(lambda: bool(lines), 10)
        stop.set()
        follower.join()
    assert [line["event"] for line in lines] == ["registry cannot be followed, trying again"]


def test_every_connection_of_a_role_notices_a_server_that_is_gone_without_a_word(database: str) -> None:
    with psycopg.connect(watchful(database)) as connection:
        asked = connection.info.get_parameters()
    assert (asked["connect_timeout"], asked["keepalives_idle"], asked["tcp_user_timeout"]) == ("5", "10", "25000")
    assert conninfo_to_dict(watchful("postgresql://h/x?connect_timeout=9"))["connect_timeout"] == "9"


def test_a_worker_that_cannot_take_in_again_what_it_had_ends_with_advice() -> None:
    gone = ContributionsGoneError("partition 0 cannot take in again what partitions [1] had contributed")
    assert isinstance(gone, roles.ENDINGS)
    assert "belong together" in roles.advice(gone)
