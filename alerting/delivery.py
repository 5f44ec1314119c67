"""Deliver what waits in the outbox: at least once, with the idempotency key in the message.

Audiences are served apart from each other, so that a slow one holds up nobody else. This is the only place of this
room that asks a wall clock: the database's.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, get_args

import psycopg
from psycopg.rows import class_row

from alerting.escalation import Audience

AUDIENCES: tuple[str, ...] = get_args(Audience)
_LOG = logging.getLogger(__name__)
_LEASE = "10 minutes"
"""A deliverer that dies leaves its messages to others after this long; they may then arrive twice."""

END_WITHIN_S = 2.0
"""What a message on its way is given when delivery stops."""

_CLAIM = """
UPDATE outbox SET attempts = attempts + 1, next_attempt_at = now() + %(lease)s::interval
WHERE outbox_id IN (
    SELECT outbox_id FROM outbox
    WHERE delivered_at IS NULL AND (next_attempt_at IS NULL OR next_attempt_at <= now())
      AND (%(audiences)s::text[] IS NULL OR audience = ANY(%(audiences)s))
    ORDER BY created_at, outbox_id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
RETURNING outbox_id::text, created_at, audience, kind, subject, body, payload
"""
_DELIVERED = "UPDATE outbox SET delivered_at = now(), next_attempt_at = NULL, last_error = '' WHERE outbox_id = %s"
# Doubling from 5 s to an hour, each between half and one and a half times that, so that many do not come back at once.
_FAILED = """
UPDATE outbox SET last_error = left(%s, 500),
    next_attempt_at = now() + make_interval(secs => least(3600, 5 * 2 ^ least(attempts - 1, 10)) * (0.5 + random()))
WHERE outbox_id = %s
"""


class DeliveryFailed(Exception):
    """The message could not be handed over; it is tried again later. The text says why."""


@dataclass(frozen=True, slots=True)
class Note:
    """A message on its way; `outbox_id` lets the receiver recognise a repetition."""

    outbox_id: str
    created_at: object
    audience: str
    kind: str
    subject: str
    body: str
    payload: dict[str, Any]

    @property
    def text(self) -> str:
        """The body with the idempotency key."""
        return f"{self.body}\n\nRef {self.outbox_id}"


class Notifier(Protocol):
    """Hands a message over to its audience, or raises `DeliveryFailed`."""

    def __call__(self, note: Note) -> None:
        """Deliver one message."""


class Delivered(NamedTuple):
    """What one round did."""

    delivered: int
    failed: int


def deliver_waiting(
    connection: psycopg.Connection[Any],
    notifier: Notifier,
    *,
    audiences: Sequence[str] | None = None,
    limit: int = 50,
) -> Delivered:
    """Deliver up to `limit` waiting messages, oldest first, committing after each.

    Several deliverers may run at once; no lock is held while a message is on its way.

    Raises:
        psycopg.Error: the database cannot be reached; what was on its way is delivered again after the lease.
    """
    with connection.transaction(), connection.cursor(row_factory=class_row(Note)) as cursor:
        cursor.execute(_CLAIM, {"lease": _LEASE, "audiences": audiences, "limit": limit})
        notes = sorted(cursor.fetchall(), key=lambda note: (str(note.created_at), note.outbox_id))
    failed = 0
    for note in notes:
        try:
            notifier(note)
        except DeliveryFailed as failure:
            failed += 1
            _LOG.warning("not delivered to %s: %s", note.audience, failure)
            with connection.transaction():
                connection.execute(_FAILED, (str(failure), note.outbox_id))
        else:
            with connection.transaction():
                connection.execute(_DELIVERED, (note.outbox_id,))
    return Delivered(len(notes) - failed, failed)


def run_delivery(database_url: str, notifier: Notifier, stop: threading.Event, *, poll_s: float = 1.0) -> None:
    """Deliver until `stop` is set, each audience in a thread and a connection of its own.

    A database that is away is tried again every few polls. Returns when all have ended, or after `END_WITHIN_S`: what
    hangs then keeps no process from ending, and what was on its way is delivered again after the lease.
    """
    threads = [
        threading.Thread(
            target=_serve,
            args=(database_url, notifier, audience, stop, poll_s),
            name=f"deliver {audience}",
            daemon=True,
        )
        for audience in AUDIENCES
    ]
    for thread in threads:
        thread.start()
    stop.wait()
    deadline_s = time.monotonic() + END_WITHIN_S
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))


def _serve(database_url: str, notifier: Notifier, audience: str, stop: threading.Event, poll_s: float) -> None:
    while not stop.is_set():
        try:
            with psycopg.connect(database_url, autocommit=True) as connection:
                while not stop.is_set():
                    # One by one: a stop waits for one slow message at most, and none is claimed in vain.
                    if not any(deliver_waiting(connection, notifier, audiences=[audience], limit=1)):
                        stop.wait(poll_s)
        except psycopg.Error as error:
            _LOG.warning("delivery to %s waits for the database: %s", audience, error)
            stop.wait(5 * poll_s)
