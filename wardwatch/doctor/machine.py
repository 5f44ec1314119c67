"""The settings and where they come from, and the data folder."""

import os
import shutil
import stat
from pathlib import Path

from wardwatch.doctor.check import Case, Check
from wardwatch.logs import settings_summary
from wardwatch.settings import (
    FILE_VARIABLE,
    PREFIX,
    Settings,
    SettingsError,
    load_settings,
    settings_file,
    with_addresses,
)

SPARSE_MB = 2_048
SCARCE_MB = 256
PRIVATE = ("log.sqlite", "log.sqlite-wal", "log.sqlite-shm", "password", "run/addresses.json", "log")
"""What only its owner may read: messages, passwords, what programs said."""


def read_settings(data: Path | None) -> tuple[list[Check], Case | None]:
    """Read the settings as the other commands do; no case where they cannot be used."""
    try:
        settings = load_settings(data=data)
    except SettingsError as error:
        return [Check("settings", "fail", str(error), "correct it there")], None
    named = settings_file()
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith(PREFIX) and name != FILE_VARIABLE and name.removeprefix(PREFIX).lower() not in _names()
    )
    chosen = settings.model_fields_set
    told = settings_summary(settings)
    says = [f"{name} = {told[name]} ({_source(name, data)})" for name in sorted(chosen & told.keys())]
    file = named if named.is_file() else "none"
    checks = [Check("settings", "ok", f"file {file}; {', '.join(says) or 'all defaults'}")]
    if unknown:
        checks.append(
            Check("settings", "warn", f"no such setting: {', '.join(unknown)}", "mind the spelling, or unset it")
        )
    try:
        settings = with_addresses(settings)
    except SettingsError as error:
        checks.append(Check("settings", "fail", str(error)))
        return checks, None
    return checks, Case(settings, frozenset(chosen))


def data_folder(case: Case) -> list[Check]:
    """Whether the data folder is there, has room, and keeps to itself what is private."""
    folder = case.settings.data
    if not folder.is_dir() and case.chosen >= {"mqtt_url", "database_url", "kafka"}:
        return [Check("data folder", "ok", f"{folder} is not there; all parts are given by address")]
    if not folder.is_dir():
        return [Check("data folder", "fail", f"{folder} is not there", "name it with --data, or start wardwatch up")]
    if not os.access(folder, os.W_OK | os.X_OK):
        return [Check("data folder", "fail", f"{folder} cannot be written", f"chown {folder} to who runs wardwatch")]
    free_mb = shutil.disk_usage(folder).free >> 20
    advice = "make room, or lower WARDWATCH_LOG_MAX_MB"
    if free_mb < SCARCE_MB:
        checks = [Check("data folder", "fail", f"{folder} has {free_mb} MB left", advice)]
    elif free_mb < SPARSE_MB:
        checks = [Check("data folder", "warn", f"{folder} has {free_mb} MB left", advice)]
    else:
        checks = [Check("data folder", "ok", f"{folder}, {free_mb >> 10} GB free")]
    open_to_others = [name for name in PRIVATE if _others_may_read(folder / name)]
    if open_to_others:
        paths = " ".join(str(folder / name) for name in open_to_others)
        checks.append(
            Check("permissions", "warn", f"others may read {', '.join(open_to_others)}", f"chmod go-rwx {paths}")
        )
    else:
        checks.append(Check("permissions", "ok", "log, passwords and addresses are private"))
    return checks


def _others_may_read(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except FileNotFoundError:
        return False


def _names() -> set[str]:
    return set(Settings.model_fields)


def _source(name: str, data: Path | None) -> str:
    if name == "data" and data is not None:
        return "--data"
    variable = PREFIX + name.upper()
    return variable if variable in os.environ else str(settings_file())
