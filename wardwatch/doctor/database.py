"""The database: reachable, of a fitting version, up to date, with fitting rights; how far workers are; what waits."""

import time
from typing import Any

import psycopg

from schema.migrate import migrations
from schema.topics import TELEMETRY
from streams.guarded import one_line
from streams.logs.file import LogError
from wardwatch.doctor.check import Case, Check, seconds
from wardwatch.doctor.journal import looking

OLDEST_VERSION = 150_000
APART_S = 2.0
STANDING_S = 30.0
BEHIND_S = 60.0
LAG = 1_000
OLD_SNAPSHOT_S = 600.0
STUCK_ATTEMPTS = 3

Connection = psycopg.Connection[Any]


def database(case: Case) -> list[Check]:
    """Whether the database can be reached, and is what is needed."""
    try:
        with case.connect() as connection:
            return [
                _version(connection),
                _timescale(connection),
                _migrations(connection),
                _rights(connection, case),
                _clock(connection),
            ]
    except psycopg.OperationalError as error:
        advice = "start it, or correct WARDWATCH_DATABASE_URL"
        return [Check("database", "fail", one_line(error), advice)]


def _version(connection: Connection) -> Check:
    number, info = connection.info.server_version, connection.info
    says = f"PostgreSQL {number // 10_000}.{number % 10_000}, {info.dbname} at {info.host}:{info.port} as {info.user}"
    if number < OLDEST_VERSION:
        return Check("database", "fail", says, "upgrade to PostgreSQL 15 or later")
    return Check("database", "ok", says)


def _timescale(connection: Connection) -> Check:
    found = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    if found is None:
        advice = "CREATE EXTENSION timescaledb before the first migration; plain tables slow down as they grow"
        return Check("TimescaleDB", "warn", "is not there", advice)
    (licence,) = connection.execute("SHOW timescaledb.license").fetchone() or ("",)
    return Check("TimescaleDB", "ok", f"{found[0]}, licence {licence}")


def _migrations(connection: Connection) -> Check:
    known = {each.version: each for each in migrations()}
    advice = "wardwatch migrate"
    try:
        rows = connection.execute("SELECT version, name, checksum FROM schema_migrations").fetchall()
    except psycopg.errors.UndefinedTable:
        return Check("migrations", "fail", "there are no tables yet", advice)
    except psycopg.errors.InsufficientPrivilege:
        return Check("migrations", "warn", "we may not see which were applied", "GRANT wardwatch_writer TO this role")
    applied = {version: checksum for version, _, checksum in rows}
    if newer := sorted(applied.keys() - known.keys()):
        return Check("migrations", "fail", f"the database is newer: {newer}", "upgrade wardwatch")
    if changed := sorted(known[each].name for each in applied if known[each].checksum != applied[each]):
        return Check("migrations", "fail", f"applied with another text: {', '.join(changed)}", "use one version")
    if pending := sorted(known[each].name for each in known.keys() - applied.keys()):
        return Check("migrations", "fail", f"pending: {', '.join(pending)}", advice)
    return Check("migrations", "ok", f"all {len(known)} applied")


def _rights(connection: Connection, case: Case) -> Check:
    row = connection.execute(
        "SELECT rolsuper, current_user, coalesce(has_table_privilege(to_regclass('readings'), 'INSERT'), false),"
        " coalesce(has_table_privilege(to_regclass('audit_log'), 'DELETE'), false)"
        " FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    above, who, writes, deletes = row or (False, "", False, False)
    grant = f"CREATE a role for workers and GRANT wardwatch_writer TO it; migrate as {who}"
    if not writes:
        return Check("rights", "fail", f"{who} may not write readings", f"GRANT wardwatch_writer TO {who}")
    if (above or deletes) and "database_url" in case.chosen:
        kind = "a superuser" if above else "the owner of the tables"
        return Check("rights", "warn", f"{who} is {kind}, more than workers need", grant)
    return Check("rights", "ok", f"{who} may write" + (" (all rights, in a database of our own)" if deletes else ""))


def _clock(connection: Connection) -> Check:
    before_s = time.time()
    (there_s,) = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone() or (0.0,)
    apart_s = abs(there_s - (before_s + time.time()) / 2)
    says = f"this machine's and the database's are {apart_s:.2f} s apart"
    if apart_s > APART_S:
        return Check("clocks", "warn", says, "let both machines follow the same time server")
    return Check("clocks", "ok", says)


def progress(case: Case) -> list[Check]:
    """How far each partition is, and how much would be recomputed after a crash."""
    try:
        with case.connect() as connection:
            rows = connection.execute(
                "SELECT partition, epoch, next_offset, snapshot_offset, extract(epoch FROM partition_time)::float8,"
                " extract(epoch FROM now() - updated_at)::float8 FROM partition_progress WHERE topic = %s ORDER BY 1",
                (TELEMETRY,),
            ).fetchall()
    except psycopg.Error:
        return []  # said already
    if not rows:
        return [Check("worker", "fail", "none has ever run on this database", "start one: wardwatch worker")]
    ends: dict[int, int] = {}
    cut_s: dict[int, float] = {}
    try:
        with looking(case) as log:
            for number, _, following, cut, _, _ in rows:
                ends[number] = log.end_offset(TELEMETRY, number)
                if log.start_offset(TELEMETRY, number) <= cut < min(following, ends[number]):
                    record = log.read(TELEMETRY, number, cut, max_records=1)[0]
                    cut_s[number] = max(0.0, time.time() - record.appended_ms / 1000)
    except (LogError, OSError):
        pass  # said already
    return [
        check
        for number, epoch, following, cut, time_s, commit_s in rows
        for check in (
            _partition(case, number, epoch, following, ends.get(number), time_s, commit_s),
            _snapshot(case, number, following - cut, cut_s.get(number, 0.0)),
        )
    ]


def _partition(
    case: Case, number: int, epoch: int, following: int, end: int | None, time_s: float | None, commit_s: float
) -> Check:
    name = f"worker, partition {number}"
    lag = None if end is None else end - following
    behind_s = None if time_s is None or case.simulated else max(0.0, time.time() - time_s)
    says = [f"epoch {epoch}", f"last commit {seconds(commit_s)} ago"]
    if lag is not None:
        says.insert(0, f"{lag} records behind")
    if behind_s is not None:
        says.append(f"its time {seconds(behind_s)} behind")
    text, where = ", ".join(says), case.settings.data / "log" / "worker.log"
    if lag is not None and lag < 0:
        advice = "bring back the log that belongs to this database, or begin with an empty database"
        return Check(name, "fail", f"the database is {-lag} records ahead of the log", advice)
    if lag and commit_s > STANDING_S:
        return Check(name, "fail", f"stands still: {text}", f"see why in {where}; where none runs: wardwatch worker")
    if (lag or 0) > LAG or (behind_s or 0.0) > BEHIND_S:
        return Check(name, "warn", text, "wait, or add workers; a bridge that is gone holds the time back")
    return Check(name, "ok", text)


def _snapshot(case: Case, number: int, records: int, age_s: float) -> Check:
    name, says = f"snapshot, partition {number}", f"{records} records would be recomputed"
    if age_s > max(OLD_SNAPSHOT_S, 10 * case.settings.snapshot_every_s):
        return Check(name, "warn", f"{says}, the oldest {seconds(age_s)} old", "see the worker's log")
    return Check(name, "ok", says)


def backlog(case: Case) -> list[Check]:
    """What people have to look at: refused messages and messages that are not delivered."""
    try:
        with case.connect() as connection:
            return [_quarantine(connection, case), _outbox(connection, case)]
    except psycopg.Error:
        return []  # said already


def _quarantine(connection: Connection, case: Case) -> Check:
    now = "(SELECT max(partition_time) FROM partition_progress)" if case.simulated else "now()"
    rows = connection.execute(
        "SELECT reason, count(*), count(*) FILTER (WHERE received_at > " + now + " - interval '1 day'"  # noqa: S608 # ours
        " OR received_at = 'epoch') FROM quarantine WHERE replayed_at IS NULL GROUP BY 1 ORDER BY 3 DESC, 1"
    ).fetchall()
    new = ", ".join(f"{count} {reason}" for reason, _, count in rows if count)
    total = sum(count for _, count, _ in rows)
    if new:
        advice = "mend senders or catalogue: SELECT topic, reason, detail FROM quarantine ORDER BY received_at DESC"
        return Check("quarantine", "warn", f"within a day {new}; {total} in all", advice)
    return Check("quarantine", "ok", f"nothing within a day; {total} in all")


def _outbox(connection: Connection, case: Case) -> Check:
    waiting, failing, oldest_s, error = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE attempts >= %s),"
        " extract(epoch FROM now() - min(next_attempt_at) FILTER (WHERE attempts > 0))::float8,"
        " max(last_error) FROM outbox WHERE delivered_at IS NULL",
        (STUCK_ATTEMPTS,),
    ).fetchone() or (0, 0, None, "")
    if failing:
        says = f"{failing} of {waiting} fail again and again: {error}"
        return Check("outbox", "warn", says, "correct WARDWATCH_DELIVER")
    if waiting and not case.settings.deliver:
        advice = 'set WARDWATCH_DELIVER, e.g. {"": ["mailto://…"]}'
        return Check("outbox", "warn", f"{waiting} wait, and nobody is to be told", advice)
    if waiting and oldest_s is not None and oldest_s > BEHIND_S:
        return Check("outbox", "warn", f"{waiting} wait, the oldest for {seconds(oldest_s)}", "see the worker's log")
    return Check("outbox", "ok", f"{waiting} wait")
