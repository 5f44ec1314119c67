"""How the database is reached: connections that notice when it is gone, and those of a partition's owner."""

from typing import Any

import psycopg
from psycopg import AsyncConnection

CONNECT_WITHIN_S = 5
_WATCHFUL = {
    "connect_timeout": str(CONNECT_WITHIN_S),
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}

_SESSION = (
    # What a crash of the database takes back is taken back whole, offset and effects, and follows from the log again.
    "SET synchronous_commit = off",
    # A worker that is stopped inside a transaction must not hold its row lock for longer than a broker needs to give
    # its partition to another. One that was only slow connects again and repeats the transaction.
    "SET idle_in_transaction_session_timeout = '5s'",
    # The worker looks rows up by key only; without statistics the planner would read whole chunks.
    "SET enable_seqscan = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
)

Connection = AsyncConnection[Any]


def watchful(database_url: str) -> str:
    """Return the address such that a connection notices within 25 s that its server is gone without a word.

    What the address says itself of timeouts and keepalives stays.
    """
    given = psycopg.conninfo.conninfo_to_dict(database_url)
    return psycopg.conninfo.make_conninfo(database_url, **{name: _WATCHFUL[name] for name in _WATCHFUL.keys() - given})


async def answers(database_url: str) -> bool:
    """Whether the database takes a connection and answers a query; one that is silent may be waited for in vain."""
    try:
        async with await psycopg.AsyncConnection.connect(watchful(database_url), autocommit=True) as connection:
            await connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


async def connect(database_url: str, prepare: str = "") -> Connection:
    """Open an owner's connection: own transactions, no waiting for the disk, look-ups by key, dead peers noticed."""
    connection = await psycopg.AsyncConnection.connect(watchful(database_url), autocommit=True)
    try:
        for statement in (*_SESSION, *([prepare] if prepare else [])):
            await connection.execute(statement.encode())
    except BaseException:
        await connection.close()
        raise
    return connection
