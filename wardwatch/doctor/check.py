"""What a check says, and how checks are run: each within a few seconds, and none can stop another."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Literal

import psycopg

from streams.guarded import one_line
from wardwatch.logs import scrubber, secrets_of
from wardwatch.settings import Settings

State = Literal["ok", "warn", "fail"]

ANSWER_WITHIN_S = 2
"""What a part is given to answer; a whole check has a second more."""
CHECK_WITHIN_S = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at, how it is, and for what is not well what to do."""

    name: str
    state: State
    says: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """What is examined. `chosen` are the settings that somebody has set; the rest was found or is default."""

    settings: Settings
    chosen: frozenset[str]

    @property
    def simulated(self) -> bool:
        """Whether time is that of a simulator, which no clock tells."""
        return self.settings.clock == "simulated"

    def connect(self) -> psycopg.Connection[Any]:
        """Open the database, read only, with short patience."""
        assert self.settings.database_url is not None
        return psycopg.connect(
            self.settings.database_url,
            autocommit=True,
            connect_timeout=ANSWER_WITHIN_S,
            options=f"-c statement_timeout={ANSWER_WITHIN_S}s -c default_transaction_read_only=on",
        )


Examiner = Callable[[Case], list[Check]]


def examined(case: Case, examiners: Mapping[str, Examiner]) -> list[Check]:
    """Run the examiners at the same time; return their checks in order, without secrets.

    One that is late is left alone.
    """
    found: dict[str, list[Check]] = {}

    def run(name: str, examiner: Examiner) -> None:
        try:
            found[name] = examiner(case)
        except Exception as error:  # a doctor must not fall ill
            found[name] = [Check(name, "fail", f"{type(error).__name__}: {one_line(error)}")]

    threads = {
        name: threading.Thread(target=run, args=(name, examiner), name=f"examine {name}", daemon=True)
        for name, examiner in examiners.items()
    }
    for thread in threads.values():
        thread.start()
    deadline = monotonic() + CHECK_WITHIN_S
    for thread in threads.values():
        thread.join(max(0.0, deadline - monotonic()))
    late = f"no answer within {CHECK_WITHIN_S:.0f} s"
    scrub = scrubber(secrets_of(case.settings))
    return [
        replace(check, says=scrub(check.says), advice=scrub(check.advice))
        for name in examiners
        for check in found.get(name, [Check(name, "fail", late, "see whether its machine answers at all")])
    ]


def seconds(value: float) -> str:
    """A length of time for people."""
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if value >= 2 * size:
            return f"{value / size:.0f} {unit}"
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
