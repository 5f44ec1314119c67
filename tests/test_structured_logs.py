"""What programs say: one line an event, JSON where programs read them, never a secret, and nobody shouts."""

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from wardwatch.logs import configure_logs, scrubber, secrets_of, settings_summary
from wardwatch.settings import Settings

SECRET = "ge:heim/0815"
WRITTEN = "ge%3Aheim%2F0815"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(captured: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in captured.splitlines()]


def test_where_nobody_watches_a_line_is_json(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("auto")
    structlog.get_logger("some").info("took over", partition=3)
    logging.getLogger("faust.worker").warning("%s stopped", "it")
    logging.getLogger("faust.worker").info("chatter")
    ours, theirs = lines(capfd.readouterr().err)
    assert (ours["event"], ours["level"], ours["partition"]) == ("took over", "info", 3)
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("it stopped", "warning", "faust.worker")
    assert list(ours)[:3] == ["timestamp", "level", "event"]


def test_a_crash_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    try:
        raise ValueError("no such thing")
    except ValueError:
        structlog.get_logger().exception("crashed")
    (line,) = lines(capfd.readouterr().err)
    assert "ValueError: no such thing" in str(line["exception"])


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_secret_shows_however_it_comes(log_format: str, capfd: pytest.CaptureFixture[str]) -> None:
    settings = Settings(
        data=Path("x"),
        mqtt_url=f"mqtts://u:{WRITTEN}@broker",
        database_url=f"postgresql://w:{WRITTEN}@db/wardwatch",
        kafka="kafka:9092",
        kafka_password="wachtwoord",
        grafana_url="http://g",
        grafana_token="glsa_0815",
        deliver={"service": ["slack://tokena/tokenb"]},
    )
    configure_logs(log_format, secrets=secrets_of(settings))  # type: ignore[arg-type] # one of them
    log = structlog.get_logger()
    log.info("starts", **settings_summary(settings))
    log.info("odd", url=settings.database_url, of={"nested": [settings.mqtt_url]}, plain=f"word {SECRET} word")
    log.warning("not delivered to slack://tokena/tokenb with glsa_0815 and wachtwoord")
    logging.getLogger("apprise").error("cannot reach %s", settings.deliver["service"][0])
    logging.getLogger("other").error("no: host=db password='an other' user=w, mqtt://me:secret@broker")
    try:
        raise RuntimeError(f"connection to {settings.database_url} failed")
    except RuntimeError:
        log.exception("crashed")
    said = capfd.readouterr().err
    for secret in (SECRET, WRITTEN, "glsa_0815", "wachtwoord", "tokenb", "an other", "me:secret"):
        assert secret not in said, secret
    assert "broker" in said
    assert "service" in said
    if log_format == "json":
        assert len(lines(said)) == 6


def test_who_repeats_himself_is_damped_but_we_are_not(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    for number in range(70):
        logging.getLogger("aiokafka.conn").error("no connection to node %d", number)
        structlog.get_logger().warning("retrying", number=number)
    names = [line.get("logger", "ours") for line in lines(capfd.readouterr().err)]
    assert names.count("aiokafka.conn") == 1
    assert names.count("ours") == 70


def test_short_secrets_hide_no_ordinary_words() -> None:
    assert scrubber(["at"])("what stays: mqtt://me:at@host") == "what stays: mqtt://me:…@host"


def test_text_is_for_people(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    configure_logs("auto")
    structlog.get_logger().info("took over", partition=3)
    assert not capfd.readouterr().err.startswith("{")
