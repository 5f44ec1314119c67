"""`wardwatch doctor`: every part looked at, in the order in which one rests on another, and what to do about it."""

from pathlib import Path

from wardwatch.doctor.check import Case, Check, State, examined
from wardwatch.doctor.database import backlog, database, progress
from wardwatch.doctor.journal import journal
from wardwatch.doctor.machine import data_folder, read_settings
from wardwatch.doctor.outside import boards, broker, endpoints

__all__ = ["Case", "Check", "State", "diagnose", "examined"]

EXAMINERS = {
    "data folder": data_folder,
    "log": journal,
    "database": database,
    "worker": progress,
    "backlog": backlog,
    "broker": broker,
    "metrics": endpoints,
    "Grafana": boards,
}


def diagnose(data: Path | None = None) -> list[Check]:
    """Look at everything that the settings name; takes a few seconds, whatever does not answer."""
    checks, case = read_settings(data)
    return checks if case is None else checks + examined(case, EXAMINERS)
