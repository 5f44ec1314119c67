"""What the command line shows: tables for people, JSON for programs."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wardwatch.doctor.check import Check

LEVEL_STYLES = {
    "blue": "blue",
    "yellow": "yellow",
    "orange": "dark_orange",
    "red": "red",
    "critical": "red",
    "error": "dark_orange",
    "warning": "yellow",
    "P1": "red",
    "P2": "dark_orange",
}

PIPED_WIDTH = 240
"""Columns where there is no terminal: nothing is cut off that somebody may search for."""
_NEEDED = ("alert_id", "work_order_id", "flag_id", "number", "command_id")
"""What people copy from a list into the next command."""


def instant(at: datetime | None) -> str:
    """A time for people, UTC, to the minute."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M") if at else ""


def show_checks(checks: Sequence[Check], *, as_json: bool) -> None:
    """Print what a doctor found, and under what is not well what to do."""
    if as_json:
        print(json.dumps([dataclasses.asdict(check) for check in checks], ensure_ascii=False))
        return
    out = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    wide = max(len(check.name) for check in checks)
    for check in checks:
        colour = {"ok": "green", "warn": "yellow", "fail": "red"}[check.state]
        line = f"[{colour}]{check.state:4}[/]  {escape(check.name):{wide}}  {escape(check.says)}"
        out.print(line, highlight=False, soft_wrap=True)
        if check.advice:
            out.print(f"{'':{wide + 6}}  → {escape(check.advice)}", highlight=False, soft_wrap=True)


def show_lines(lines: Sequence[Any], columns: dict[str, str], *, as_json: bool, empty: str) -> None:
    """Print dataclasses as a table with the titled `columns` (attribute to title), or all of them as JSON."""
    if as_json:
        print(json.dumps([dataclasses.asdict(line) for line in lines], default=str, ensure_ascii=False))
        return
    if not lines:
        print(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for attribute, title in columns.items():
        table.add_column(title, no_wrap=attribute in _NEEDED, overflow="fold")
    for line in lines:
        table.add_row(*(_cell(getattr(line, attribute)) for attribute in columns))
    console = Console()
    console.print(table, width=None if console.is_terminal else PIPED_WIDTH)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return instant(value)
        case float():
            return f"{value:.1f}"
        case list():
            return escape(", ".join(map(str, value)))
    text = str(value)
    style = LEVEL_STYLES.get(text)
    return f"[{style}]{text}[/]" if style else escape(text)


def summary_table(summary: dict[str, Any]) -> Table:
    """The score of a run: what was found against the truth."""
    table = Table(title="Found against the truth", header_style="bold", title_style="bold")
    for title in ("what", "truth", "found", "remark"):
        table.add_column(title)
    churn, failures, announcements = summary["churn"], summary["failures"], summary["announcements"]
    silence, drops = summary["silence"], summary["usage_drop"]
    rows: list[tuple[str, Any, Any, str]] = [
        ("readings", summary["readings_published_unique"], summary["readings_stored"], "stored once each"),
        ("malformed messages", summary["malformed_sent"], summary["quarantined"], "in the quarantine"),
        ("churning customers", churn["truth"], churn["flagged"], f"{churn['extra']} others ever yellow"),
        ("failures, second half", failures["n"], failures["announced"], _share(failures["announced"], failures["n"])),
        (
            "announcements",
            announcements["n"],
            announcements["true"],
            f"{_share(announcements['true'], announcements['n'])} came true",
        ),
        (
            "usage-drop alerts",
            "",
            drops["true"],
            ", ".join(f"{drops[cause]} {cause}" for cause in ("false", "offline", "holiday", "maintenance")),
        ),
        ("outages", silence["outages"], silence["alerted"], f"{silence['false']} false silence alerts"),
        ("false alerts a device-month", "", summary["false_alerts_per_device_month"], "all detectors"),
    ]
    for what, truth, found, remark in rows:
        table.add_row(what, _number(truth), _number(found), remark)
    return table


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else ""


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
