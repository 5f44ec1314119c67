"""Provisioning, against a recorder that answers as Grafana's HTTP API is documented to and objects to anything else.

No Grafana server stands behind these tests; what each call must look like is in `CALLS`, from the documentation.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from grafana.publish import DatabaseSettings, GrafanaError, apply, boards, outdated

TOKEN = "glsa_service_account_token"
DATABASE = DatabaseSettings("db.example:5432", "wardwatch", "reader", "geheim")

UID = re.compile(r"[a-zA-Z0-9_-]{1,40}")
"""A uid: at most 40 characters (Folder API and Dashboard API, "Identifier (id) vs unique identifier (uid)")."""


@dataclass(frozen=True)
class Call:
    """One documented call: `required` and `optional` give the JSON types of the body's fields, dots for nesting."""

    method: str
    path: str
    required: dict[str, type | tuple[type, ...]] = field(default_factory=dict)
    optional: dict[str, type | tuple[type, ...]] = field(default_factory=dict)


DATA_SOURCE_OPTIONAL = {
    "id": int, "uid": str, "orgId": int, "user": str, "password": str, "database": str, "basicAuth": bool,
    "basicAuthUser": str, "withCredentials": bool, "isDefault": bool, "jsonData": dict, "secureJsonData": dict,
    "version": int, "readOnly": bool,
    # "PostgreSQL data source", section "Provision the data source".
    "jsonData.database": str, "jsonData.sslmode": str, "jsonData.maxOpenConns": int, "jsonData.maxIdleConns": int,
    "jsonData.connMaxLifetime": int, "jsonData.postgresVersion": int, "jsonData.timescaledb": bool,
    # "By defining password … under secureJsonData Grafana encrypts them": Data source API, "Create a data source".
    "secureJsonData.password": str,
}  # fmt: skip
DATA_SOURCE_REQUIRED = {"name": str, "type": str, "url": str, "access": str}

CALLS = [
    # Data source API, "Get a single data source by uid".
    Call("GET", r"/api/datasources/uid/(?P<uid>[^/]+)"),
    # Data source API, "Create a data source".
    Call("POST", r"/api/datasources", DATA_SOURCE_REQUIRED, DATA_SOURCE_OPTIONAL),
    # Data source API, "Update an existing data source" (by uid).
    Call("PUT", r"/api/datasources/uid/(?P<uid>[^/]+)", DATA_SOURCE_REQUIRED, DATA_SOURCE_OPTIONAL),
    # Folder API, "Get folder by uid".
    Call("GET", r"/api/folders/(?P<uid>[^/]+)"),
    # Folder API, "Create folder": title, optional uid and parentUid.
    Call("POST", r"/api/folders", {"title": str}, {"uid": str, "parentUid": str}),
    # Dashboard API, "Get dashboard by uid".
    Call("GET", r"/api/dashboards/uid/(?P<uid>[^/]+)"),
    # Dashboard API, "Create / Update dashboard".
    Call(
        "POST",
        r"/api/dashboards/db",
        {"dashboard": dict, "dashboard.title": str, "dashboard.schemaVersion": int},
        {"folderId": int, "folderUid": str, "overwrite": bool, "message": str, "dashboard.id": (int, type(None)),
         "dashboard.uid": str, "dashboard.tags": list, "dashboard.timezone": str,
         "dashboard.refresh": str},
    ),
]  # fmt: skip


class Grafana(ThreadingHTTPServer):
    """Holds what was put into it, and every objection to how."""

    def __init__(self, prefix: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.prefix = prefix
        self.authorizations = {f"Bearer {TOKEN}", "Basic " + b64encode(b"admin:secret").decode()}
        self.data_sources: dict[str, dict[str, Any]] = {}
        self.folders: dict[str, dict[str, Any]] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.objections: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{self.prefix}"

    def answer(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        for call in CALLS:
            match = re.fullmatch(call.path, path.removeprefix(self.prefix))
            if call.method == method and match and path.startswith(self.prefix):
                self.objections += [f"{method} {path}: {problem}" for problem in problems(call, body)]
                return self.act(method, call.path, match.groupdict().get("uid"), body)
        self.objections.append(f"{method} {path} is not documented")
        return 404, {"message": "Not found"}

    def act(self, method: str, path: str, uid: str | None, body: Any) -> tuple[int, dict[str, Any]]:
        if method == "GET" and "dashboards" in path:
            board = self.dashboards.get(str(uid))
            return (404, {"message": "not found"}) if board is None else (200, {"dashboard": board, "meta": {}})
        if method == "GET":
            held = (self.data_sources if "datasources" in path else self.folders).get(str(uid))
            return (404, {"message": "not found"}) if held is None else (200, held)
        if "datasources" in path:
            if method == "PUT" and uid not in self.data_sources:
                return 404, {"message": "Data source not found"}
            names = {held["name"] for held in self.data_sources.values()}
            if method == "POST" and (body["name"] in names or body.get("uid") in self.data_sources):
                return 409, {"message": "data source with the same name already exists"}
            self.data_sources[body["uid"]] = body
            return 200, {"id": 1, "name": body["name"], "message": "done", "datasource": body}
        if "folders" in path:
            if body["uid"] in self.folders:
                return 409, {"message": "a folder with the same uid already exists"}
            self.folders[body["uid"]] = {**body, "id": 1, "version": 1}
            return 200, self.folders[body["uid"]]
        dashboard = body["dashboard"]
        if dashboard["uid"] in self.dashboards and not body.get("overwrite"):
            return 412, {"message": "A dashboard with the same uid already exists", "status": "name-exists"}
        if body["folderUid"] not in self.folders:
            return 400, {"message": "folder not found"}
        self.dashboards[dashboard["uid"]] = {**dashboard, "folder": body["folderUid"]}
        return 200, {"id": 1, "uid": dashboard["uid"], "status": "success", "version": 1, "url": "/d/x", "slug": "x"}


class Handler(BaseHTTPRequestHandler):
    server: Grafana
    protocol_version = "HTTP/1.1"

    def handle_call(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        self.server.calls.append(f"{self.command} {self.path.removeprefix(self.server.prefix)}")
        if length and not self.headers.get("Content-Type", "").startswith("application/json"):
            self.server.objections.append(f"{self.path}: body without Content-Type: application/json")
        if self.headers.get("Authorization") not in self.server.authorizations:
            status, answer = 401, {"message": "Invalid API key"}
        else:
            status, answer = self.server.answer(self.command, self.path, json.loads(raw) if raw else None)
        payload = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST = do_PUT = handle_call  # noqa: N815 - the names that http.server looks for

    def log_message(self, *_: object) -> None:
        """Nothing: the calls are recorded."""


def problems(call: Call, body: Any) -> Iterator[str]:
    """How a body differs from what is documented of the call."""
    if not call.required:
        if body is not None:
            yield "a body where none is documented"
        return
    if not isinstance(body, dict):
        yield "no JSON object"
        return
    known = call.required | call.optional
    flat = dict(body)
    for name, value in body.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": inner_value for inner, inner_value in value.items()}
    for name in call.required.keys() - flat.keys():
        yield f"{name} is missing"
    for name, value in flat.items():
        if name.startswith("dashboard.") and name not in known:
            continue  # the dashboard's own model is the SDK's business
        if name not in known:
            yield f"{name} is not documented"
        elif not isinstance(value, known[name]) or (isinstance(value, bool) and known[name] is int):
            yield f"{name} must not be {value!r}"
        elif name.split(".")[-1] in ("uid", "folderUid") and not UID.fullmatch(value):
            yield f"{name}: {value!r} is no uid"


@contextmanager
def grafana_server(prefix: str = "") -> Iterator[Grafana]:
    with Grafana(prefix) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def grafana() -> Iterator[Grafana]:
    with grafana_server() as server:
        yield server


@pytest.mark.parametrize("credential", [TOKEN, ("admin", "secret")], ids=["token", "password"])
def test_every_request_is_as_grafana_documents_it(grafana: Grafana, credential: str | tuple[str, str]) -> None:
    placed = apply(grafana.url, credential, DATABASE)
    assert grafana.objections == []
    assert grafana.calls == [
        "GET /api/datasources/uid/wardwatch",
        "POST /api/datasources",
        "GET /api/folders/wardwatch",
        "POST /api/folders",
        *["POST /api/dashboards/db"] * 4,
    ]
    assert placed[0] == ("Fleet", f"{grafana.url}/d/wardwatch-fleet")


def test_applying_twice_leaves_the_same_as_once(grafana: Grafana) -> None:
    apply(grafana.url, TOKEN, DATABASE)
    once = json.dumps([grafana.data_sources, grafana.folders, grafana.dashboards])
    apply(grafana.url, TOKEN, DATABASE)
    assert json.dumps([grafana.data_sources, grafana.folders, grafana.dashboards]) == once
    assert grafana.objections == []
    assert "PUT /api/datasources/uid/wardwatch" in grafana.calls


def test_what_is_missing_or_was_changed_is_outdated(grafana: Grafana) -> None:
    titles = [board["title"] for board in boards().values()]
    assert outdated(grafana.url, TOKEN) == titles
    apply(grafana.url, TOKEN, DATABASE)
    assert outdated(grafana.url, TOKEN) == []
    grafana.dashboards["wardwatch-service"]["panels"].pop()
    assert outdated(grafana.url, TOKEN) == ["Service"]
    with pytest.raises(GrafanaError, match="refuses"):
        outdated(grafana.url, "another")
    assert grafana.objections == []


def test_boards_lie_in_the_folder_and_read_from_the_data_source(grafana: Grafana) -> None:
    apply(grafana.url, TOKEN, DATABASE)
    assert set(grafana.dashboards) == set(boards())
    assert {board["folder"] for board in grafana.dashboards.values()} == set(grafana.folders)
    (source,) = grafana.data_sources.values()
    assert source["type"] == "grafana-postgresql-datasource"
    assert source["jsonData"]["timescaledb"] is True


def test_an_edited_board_is_overwritten_and_stays_editable(grafana: Grafana) -> None:
    apply(grafana.url, TOKEN, DATABASE)
    grafana.dashboards["wardwatch-fleet"]["title"] = "Mine"
    apply(grafana.url, TOKEN, DATABASE)
    assert grafana.dashboards["wardwatch-fleet"]["title"] == "Fleet"
    assert grafana.dashboards["wardwatch-fleet"]["editable"] is True


def test_the_password_goes_nowhere_but_into_the_encrypted_part(grafana: Grafana) -> None:
    apply(grafana.url, TOKEN, DATABASE)
    (source,) = grafana.data_sources.values()
    assert source.pop("secureJsonData") == {"password": "geheim"}
    assert "geheim" not in json.dumps([source, grafana.dashboards])


def test_a_server_below_a_path_is_found_with_and_without_a_closing_slash() -> None:
    with grafana_server("/monitoring/grafana") as server:
        apply(server.url, TOKEN, DATABASE)
        apply(server.url + "/", TOKEN, DATABASE)
        assert server.objections == []


def test_a_refusal_names_the_step_and_grafanas_reason(grafana: Grafana) -> None:
    with pytest.raises(GrafanaError, match="Grafana refuses the data source: Unauthorized"):
        apply(grafana.url, "another token", DATABASE)


def test_a_data_source_of_that_name_but_another_uid_is_not_taken_over(grafana: Grafana) -> None:
    grafana.data_sources["theirs"] = {"uid": "theirs", "name": "wardwatch"}
    with pytest.raises(GrafanaError, match="same name already exists"):
        apply(grafana.url, TOKEN, DATABASE)
    assert set(grafana.data_sources) == {"theirs"}


def test_a_server_that_is_not_there_is_an_error_of_ours() -> None:
    with grafana_server() as server:
        url = server.url
    with pytest.raises(GrafanaError, match="does not answer"):
        apply(url, TOKEN, DATABASE)


@pytest.mark.parametrize("url", ["grafana.example", "localhost:3000", "file:///etc"])
def test_what_is_no_address_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(GrafanaError, match="not the address"):
        apply(url, TOKEN, DATABASE)


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("postgresql://u:p%40ss@db:6000/w", DatabaseSettings("db:6000", "w", "u", "p@ss")),
        ("postgresql://u:p@[::1]/w?sslmode=require", DatabaseSettings("[::1]:5432", "w", "u", "p", "require")),
        ("postgresql://u:p@db/w?sslmode=prefer", DatabaseSettings("db:5432", "w", "u", "p", "disable")),
    ],
)
def test_settings_follow_the_databases_address(url: str, settings: DatabaseSettings) -> None:
    assert DatabaseSettings.from_url(url) == settings


def test_the_recorder_objects_to_what_is_not_documented() -> None:
    post = next(call for call in CALLS if call.path == "/api/folders" and call.method == "POST")
    assert list(problems(post, {"uid": "a b", "name": "x"})) == [
        "title is missing", "uid: 'a b' is no uid", "name is not documented",
    ]  # fmt: skip
