"""Structured logs: one line for each notable event, key=value for people or JSON for programs; never a secret.

Everything comes through here, also what Faust, aiokafka, paho and others say through `logging`; those that repeat
themselves when something is away are damped.
"""

import json
import logging
import re
import sys
from collections.abc import Callable, Iterable
from typing import Literal
from urllib.parse import unquote, urlsplit

import structlog
from psycopg.conninfo import conninfo_to_dict
from structlog.typing import EventDict, Processor, WrappedLogger

from streams.damping import Damping
from wardwatch.settings import Settings

LogFormat = Literal["auto", "text", "json"]

HIDDEN = "…"
_IN_URL = re.compile(r"(?<=://)([^\s/@:'\"]*):[^\s/'\"]*@")
_IN_CONNINFO = re.compile(r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s'\",;}\]]+)", re.IGNORECASE)
_SHORTEST = 4
"""Shorter secrets are hidden in addresses only: elsewhere they would hide ordinary words."""


class _OthersDamped(Damping):
    """Lets through all of ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See `Damping`."""
        return record.name.startswith("wardwatch") or super().filter(record)


class _Scrubbed(logging.Formatter):
    """Formats as another does, and hides secrets in the finished line, wherever in it they stand."""

    def __init__(self, inner: logging.Formatter, scrub: Callable[[str], str]) -> None:
        super().__init__()
        self._inner = inner
        self._scrub = scrub

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return self._scrub(self._inner.format(record))


def configure_logs(log_format: LogFormat = "text", *, secrets: Iterable[str] = ()) -> None:
    """Log to standard error; what is not ours comes in the same form, from `warning` up.

    `auto` is JSON unless people watch at a terminal. `secrets` never show; passwords in addresses never do anyway.
    """
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    own: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        own += [structlog.processors.format_exc_info, _in_front, structlog.processors.JSONRenderer(ensure_ascii=False)]
    else:
        own.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24))
    foreign: list[Processor] = [structlog.stdlib.add_logger_name, *shared]
    formatter = structlog.stdlib.ProcessorFormatter(processors=own, foreign_pre_chain=foreign)
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_OthersDamped())
    handler.setFormatter(_Scrubbed(formatter, scrubber(secrets)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("wardwatch").setLevel(logging.INFO)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=lambda *names: logging.getLogger(".".join(("wardwatch", *names))),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _in_front(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """What every line has comes first."""
    return {**{name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}, **event}


def scrubber(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return what hides passwords in addresses, and `secrets` wherever they are, in a text."""
    long = [each for each in secrets if len(each) >= _SHORTEST]
    known = sorted({*long, *(json.dumps(each)[1:-1] for each in long)}, key=len, reverse=True)
    anywhere = re.compile("|".join(map(re.escape, known))) if known else None

    def scrub(text: str) -> str:
        if anywhere is not None:
            text = anywhere.sub(HIDDEN, text)
        text = _IN_URL.sub(rf"\1:{HIDDEN}@", text)
        return _IN_CONNINFO.sub(rf"\1{HIDDEN}", text)

    return scrub


def secrets_of(settings: Settings) -> set[str]:
    """Return what must not be seen: passwords as written and as meant, tokens, addresses that messages go to."""
    found = {each for urls in settings.deliver.values() for each in urls}
    found |= {each for each in (settings.grafana_token, settings.kafka_password) if each}
    for url in (settings.mqtt_url, settings.database_url, settings.grafana_url):
        if url and (written := urlsplit(url).password):
            found |= {written, unquote(written)}
    if settings.database_url and (meant := conninfo_to_dict(settings.database_url).get("password")):
        found.add(str(meant))
    return found


def settings_summary(settings: Settings) -> dict[str, object]:
    """Return the settings that differ from what they are by default, without secrets, for the line at a start."""
    scrub = scrubber(secrets_of(settings))
    defaults = type(settings).model_fields
    return {
        name: sorted(value) if name == "deliver" else scrub(str(value))
        for name, value in settings
        if value != defaults[name].default and defaults[name].repr
    }
