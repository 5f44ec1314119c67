"""The boards as files, as dashboards of a Grafana server, and as addresses for people."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from grafana_client import GrafanaApi
from grafana_client.client import GrafanaClientError, GrafanaException
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from niquests.exceptions import RequestException
from psycopg.conninfo import conninfo_to_dict

from grafana.customers import customers_board
from grafana.fleet import fleet_board
from grafana.pipeline import pipeline_board
from grafana.query import DATA_SOURCE_TYPE, DATA_SOURCE_UID
from grafana.service import service_board

FOLDER_UID = "wardwatch"
FOLDER_TITLE = "wardwatch"
DATA_SOURCE_NAME = "wardwatch"
TIMEOUT_S = 15.0


class GrafanaError(RuntimeError):
    """Grafana cannot be reached or refuses what it is asked; the message says at which step, and why."""


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """Where Grafana finds the database, seen from Grafana's own machine."""

    address: str
    """Host and port, `db.example:5432`."""
    database: str
    user: str
    """Needs no more than the role `wardwatch_reader`."""
    password: str
    sslmode: str = "disable"
    """`disable`, `require`, `verify-ca` or `verify-full`."""
    timescaledb: bool = True
    """Whether the database has TimescaleDB; Grafana then groups time with `time_bucket`."""

    @classmethod
    def from_url(cls, url: str, *, timescaledb: bool = True) -> Self:
        """Settings from `postgresql://user:password@host:port/database?sslmode=…`."""
        parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        host = parts.get("host", "127.0.0.1")
        return cls(
            address=f"{f'[{host}]' if ':' in host else host}:{parts.get('port', '5432')}",
            database=parts.get("dbname", "wardwatch"),
            user=parts.get("user", "wardwatch"),
            password=parts.get("password", ""),
            sslmode=parts["sslmode"] if parts.get("sslmode") in ("require", "verify-ca", "verify-full") else "disable",
            timescaledb=timescaledb,
        )


def boards() -> dict[str, dict[str, Any]]:
    """The dashboards as JSON objects, by uid, in the order in which people want them."""
    built = [fleet_board(), customers_board(), service_board(), pipeline_board()]
    return {board.uid: json.loads(json.dumps(board, cls=JSONEncoder)) for board in built}


def export(folder: Path) -> list[Path]:
    """Write one JSON file a board, fit for Grafana's import page and its file provisioning; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for uid, board in boards().items():
        path = folder / f"{uid}.json"
        path.write_text(json.dumps(board, indent=2, ensure_ascii=False) + "\n", "utf-8")
        written.append(path)
    return written


def links(base_url: str, from_ms: int, to_ms: int) -> list[tuple[str, str]]:
    """Title and address of each board at a Grafana server, showing [from_ms, to_ms]."""
    span = urlencode({"from": from_ms, "to": to_ms})
    return [(board["title"], f"{base_url.rstrip('/')}/d/{uid}?{span}") for uid, board in boards().items()]


def apply(url: str, credential: str | tuple[str, str], database: DatabaseSettings) -> list[tuple[str, str]]:
    """Bring data source, folder and boards to a Grafana server; return title and address of each board.

    Doing it again changes nothing more. What is there under our uids is overwritten: people may edit the boards, and an
    edit that was overwritten stands in the board's version history. Whoever wants to keep an edit saves it as a copy.

    Args:
        url: of the server, `https://grafana.example` or with a path behind it.
        credential: a service account's token, or user and password.
        database: where Grafana finds the data.

    Raises:
        GrafanaError: see the class; what was done before that step stays.
    """
    api = _connect(url, credential)
    made = boards()
    try:
        with _named("data source"):
            _put_data_source(api, database)
        with _named("folder"):
            _put_folder(api)
        for uid, board in made.items():
            with _named(f"board {uid}"):
                _put_board(api, board)
    finally:
        api.client.s.close()
    return [(board["title"], f"{url.rstrip('/')}/d/{uid}") for uid, board in made.items()]


def outdated(url: str, credential: str | tuple[str, str], *, timeout_s: float = TIMEOUT_S) -> list[str]:
    """Titles of the boards that a Grafana server lacks, or has otherwise than `apply` would leave them.

    Raises:
        GrafanaError: the server cannot be reached, or refuses.
    """
    api = _connect(url, credential, timeout_s)
    try:
        return [board["title"] for uid, board in boards().items() if not _is_there(api, uid, board)]
    finally:
        api.client.s.close()


def _is_there(api: Any, uid: str, board: dict[str, Any]) -> bool:
    found: dict[str, Any] = {}

    def look() -> None:
        found.update(api.dashboard.get_dashboard(uid))

    with _named(f"board {uid}"):
        if not _exists(look):
            return False
    return _asked(found.get("dashboard", {})) == _asked(board)


def _asked(board: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Titles and queries of a board's panels: what no server rewrites when it stores them."""
    return [
        (panel.get("title", ""), [target.get("rawSql", "") for target in panel.get("targets", [])])
        for panel in board.get("panels", [])
    ]


def _connect(url: str, credential: str | tuple[str, str], timeout_s: float = TIMEOUT_S) -> Any:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        raise GrafanaError(f"{url!r} is not the address of a Grafana server: http://host:port is expected")
    path = parts.path.strip("/")
    return GrafanaApi(
        auth=credential,
        protocol=parts.scheme,
        host=f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname,
        port=parts.port,
        url_path_prefix=f"{path}/" if path else "",
        timeout=timeout_s,
    )


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except GrafanaException as error:
        raise GrafanaError(f"Grafana refuses the {what}: {error.message}") from error
    except RequestException as error:
        raise GrafanaError(f"Grafana does not answer to the {what}: {error}") from error


def _put_data_source(api: Any, database: DatabaseSettings) -> None:
    data_source = {
        "uid": DATA_SOURCE_UID,
        "name": DATA_SOURCE_NAME,
        "type": DATA_SOURCE_TYPE,
        "access": "proxy",
        "url": database.address,
        "user": database.user,
        "basicAuth": False,
        "isDefault": False,
        "jsonData": {
            "database": database.database,
            "sslmode": database.sslmode,
            "timescaledb": database.timescaledb,
            # Grafana's own default of 100 is more than a small server admits.
            "maxOpenConns": 10,
            "maxIdleConns": 10,
            "connMaxLifetime": 14400,
        },
        "secureJsonData": {"password": database.password},
    }
    if _exists(lambda: api.datasource.get_datasource_by_uid(DATA_SOURCE_UID)):
        api.datasource.update_datasource_by_uid(DATA_SOURCE_UID, data_source)
    else:
        api.datasource.create_datasource(data_source)


def _put_folder(api: Any) -> None:
    if not _exists(lambda: api.folder.get_folder(FOLDER_UID)):
        api.folder.create_folder(FOLDER_TITLE, uid=FOLDER_UID)


def _put_board(api: Any, board: dict[str, Any]) -> None:
    api.dashboard.update_dashboard(
        {
            "dashboard": {**board, "id": None},
            "folderUid": FOLDER_UID,
            "overwrite": True,
            "message": "wardwatch grafana apply",
        }
    )


def _exists(get: Callable[[], object]) -> bool:
    try:
        get()
    except GrafanaClientError as error:
        if error.status_code != 404:
            raise
        return False
    return True
