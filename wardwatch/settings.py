"""All settings, from `WARDWATCH_*` variables and a TOML file; a bad one is named with where it came from."""

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import pydantic_settings
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from streams.logs.kafka_access import Mechanism, Security
from wardwatch.local.kafka import LOCAL

FILE_VARIABLE = "WARDWATCH_CONFIG"
DEFAULT_FILE = Path("wardwatch.toml")
PREFIX = "WARDWATCH_"
_SERVER = re.compile(r"(?:kafka://)?([^\s:/@]+:\d{1,5}|\[[0-9A-Fa-f:]+\]:\d{1,5})")


class SettingsError(Exception):
    """A setting cannot be used; the message names it and where it came from. Exit status 2."""


class Settings(BaseSettings):
    """What can be set; the defaults run everything on this machine, listening on loopback."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    data: Path = Field(Path(".data/local"), description="folder of all that a run leaves: log, cluster, log files")
    parts: Path | None = Field(None, description="folder of fetched programs; several data folders may share it")
    mqtt_url: str | None = Field(None, description="mqtt://HOST:PORT of a running broker; none: start one")
    mqtt_ca_file: Path | None = Field(None, description="PEM file of who signed the broker's; none: system's")
    mqtt_cert_file: Path | None = Field(None, description="PEM file of our certificate, where the broker asks for one")
    mqtt_key_file: Path | None = Field(None, description="PEM file of its key, if it is not in the same file")
    database_url: str | None = Field(None, description="postgresql://… with TimescaleDB; none: start one")
    kafka: str | None = Field(
        None, description="[kafka://]HOST:PORT[,…] of a Kafka, or local: start one; none: the embedded log"
    )
    kafka_replication: int | None = Field(
        None, ge=1, description="copies of what a new Kafka topic gets; none: three, or as many as there are brokers"
    )
    kafka_security: Security = Field("plaintext", description="how to talk to Kafka; ssl is TLS, sasl is with a name")
    kafka_sasl_mechanism: Mechanism = Field("PLAIN", description="how to prove to Kafka who we are")
    kafka_username: str | None = Field(None, description="our name at Kafka")
    kafka_password: str | None = Field(None, description="our password at Kafka", repr=False)
    kafka_ca_file: Path | None = Field(None, description="PEM file of who signed Kafka's certificate; none: system's")
    kafka_cert_file: Path | None = Field(None, description="PEM file of our certificate, where Kafka asks for one")
    kafka_key_file: Path | None = Field(None, description="PEM file of its key, if it is not in the same file")
    catalogue: Path | None = Field(None, description="folder of further catalogue files (TOML)")
    partitions: int = Field(2, ge=1, le=4096, description="partitions of the log; fixed once the log exists")
    source: str = Field("bridge-1", pattern=r"^[A-Za-z0-9_-]{1,32}$", description="name of this bridge")
    clock: Literal["wall", "simulated"] = Field("wall", description="simulated: time comes from the simulator's clock")
    max_readings: int = Field(2000, ge=1, le=100_000, description="readings in one record of the log")
    flush_ms: int = Field(20, ge=1, le=10_000, description="longest wait for more before a record is written")
    confirm_interval_ms: int = Field(1000, ge=0, description="least time between two confirmations to one device")
    quota_factor: float = Field(
        10.0, ge=0, description="what a device may send for long, in multiples of what the catalogue expects; 0: all"
    )
    max_lag_mb: int = Field(256, ge=1, description="backlog of the workers from which the bridge takes nothing more")
    peer_timeout_s: float = Field(10.0, ge=1, description="silence after which another bridge is given up for dead")
    broker_dropped_topic: str | None = Field(
        "$SYS/broker/publish/messages/dropped", description="where the broker counts what it drops; '': nowhere"
    )
    snapshot_every_s: float = Field(30.0, gt=0, description="least time between two snapshots of a partition")
    log_max_mb: int = Field(10_000, ge=1, description="size that the log may keep")
    log_max_days: float = Field(7.0, gt=0, description="age that the log may keep")
    deliver: dict[str, list[str]] = Field({}, description="Apprise URLs for each audience; '' for all others")
    metrics_host: str = Field("127.0.0.1", description="address on which `ingest` and `worker` answer Prometheus")
    metrics_port: int | None = Field(
        None, ge=0, le=65_535, description="port of that; 0 and, but for `up`, none: off; `up` counts on from it"
    )
    log_format: Literal["auto", "text", "json"] = Field("auto", description="auto: JSON where nobody watches")
    grafana_url: str | None = Field(None, description="address of Grafana")
    grafana_token: str | None = Field(None, description="service account's token, or USER:PASSWORD", repr=False)

    @field_validator("database_url")
    @classmethod
    def _is_a_database(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("postgresql://", "postgres://")):
            raise ValueError("expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
        return url

    @field_validator("mqtt_url")
    @classmethod
    def _is_a_broker(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("mqtt://", "mqtts://")):
            raise ValueError("expected mqtt://HOST:PORT")
        return url

    @field_validator("kafka")
    @classmethod
    def _is_a_kafka(cls, address: str | None) -> str | None:
        if address in (None, LOCAL):
            return address
        servers = [_SERVER.fullmatch(server.strip()) for server in str(address).strip().removesuffix(",").split(",")]
        if None in servers:
            raise ValueError(f"expected HOST:PORT[,HOST:PORT…], kafka://HOST:PORT[,…] or {LOCAL}")
        return ",".join(server[1] for server in servers if server)

    @field_validator(*(f"{server}_{file}_file" for server in ("mqtt", "kafka") for file in ("ca", "cert", "key")))
    @classmethod
    def _from_any_folder(cls, path: Path | None) -> Path | None:
        return None if path is None else path.absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over variables, variables over the file."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=settings_file())

    @property
    def grafana_credential(self) -> str | tuple[str, str] | None:
        """The token, or user and password."""
        user, colon, password = (self.grafana_token or "").partition(":")
        return (user, password) if colon else self.grafana_token

    @property
    def log_file(self) -> Path:
        """The embedded log."""
        return self.data / "log.sqlite"


def settings_file() -> Path:
    """The TOML file: named by `WARDWATCH_CONFIG`, else `wardwatch.toml` here, if there is one."""
    return Path(os.environ.get(FILE_VARIABLE, DEFAULT_FILE))


def load_settings(**given: Any) -> Settings:
    """Read the settings; `given` are those from the command line (None: not given).

    Raises:
        SettingsError: one of them cannot be used.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if FILE_VARIABLE in os.environ and not settings_file().is_file():
        raise SettingsError(f"{FILE_VARIABLE} names {settings_file()}, which is not there")
    try:
        settings = Settings(**given)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{settings_file()}: {error}") from error
    except pydantic_settings.SettingsError as error:
        raise SettingsError(f"{PREFIX}*: {error}") from error
    except ValidationError as error:
        told = [(str(each["loc"][0]), each["msg"].removeprefix("Value error, ")) for each in error.errors()]
        lines = [f"{_origin(name, given)}: {what}" for name, what in told]
        raise SettingsError("\n".join(lines)) from error
    mqtts = (settings.mqtt_url or "").startswith("mqtts:")
    found = _amiss_with_kafka(settings) or _amiss_with_files(settings, "mqtt", mqtts, "mqtt_url = mqtts://…")
    if found is not None:
        name, what = found
        raise SettingsError(f"{_origin(name, given)}: {what}")
    return settings


def _amiss_with_kafka(settings: Settings) -> tuple[str, str] | None:
    """The first setting for Kafka that does not go with the others, and what is wrong with it."""
    named = {
        name
        for name, field in Settings.model_fields.items()
        if name.startswith("kafka_") and getattr(settings, name) != field.default
    }
    tls, sasl = settings.kafka_security.endswith("ssl"), settings.kafka_security.startswith("sasl")
    if settings.kafka is None and named:
        return min(named), "has no effect without WARDWATCH_KAFKA"
    if settings.kafka == LOCAL and (tls or sasl):
        return "kafka_security", f"a {LOCAL} Kafka is on loopback, in plain text and open; leave this unset"
    for name in ("kafka_username", "kafka_password"):
        if sasl and not getattr(settings, name):
            return name, f"not set; kafka_security = {settings.kafka_security} needs it"
    for name in ("kafka_username", "kafka_password", "kafka_sasl_mechanism"):
        if name in named and not sasl:
            return name, "has an effect with kafka_security = sasl_plaintext or sasl_ssl only"
    return _amiss_with_files(settings, "kafka", tls, "kafka_security = ssl or sasl_ssl")


def _amiss_with_files(settings: Settings, server: str, tls: bool, needs: str) -> tuple[str, str] | None:
    for name in (f"{server}_ca_file", f"{server}_cert_file", f"{server}_key_file"):
        path: Path | None = getattr(settings, name)
        if path is None:
            continue
        if not tls:
            return name, f"has an effect with {needs} only"
        if not path.is_file():
            return name, f"there is no file {path}"
    if getattr(settings, f"{server}_key_file") is not None and getattr(settings, f"{server}_cert_file") is None:
        return f"{server}_cert_file", f"not set; {server}_key_file is its key"
    return None


def _origin(name: str, given: dict[str, Any]) -> str:
    variable = PREFIX + name.upper()
    if name in given:
        return f"--{name.replace('_', '-')}"
    return variable if variable in os.environ else f"{name} in {settings_file()}"


def as_environment(settings: Settings) -> dict[str, str]:
    """Return the settings as variables for a child process."""
    plain = settings.model_dump(mode="json", exclude_none=True)
    return {
        PREFIX + name.upper(): value if isinstance(value, str) else json.dumps(value) for name, value in plain.items()
    }


_ADDRESSES = {"database_url", "partitions", "clock"} | {
    name for name in Settings.model_fields if name.startswith(("mqtt_", "kafka"))
}


def note_addresses(settings: Settings) -> None:
    """Leave in the data folder how what runs there is reached; only its owner may read it."""
    noted = settings.data / "run" / "addresses.json"
    noted.parent.mkdir(parents=True, exist_ok=True)
    noted.touch(mode=0o600)
    noted.chmod(0o600)
    noted.write_text(settings.model_dump_json(include=_ADDRESSES, exclude_none=True), "utf-8")


def with_addresses(settings: Settings) -> Settings:
    """Fill in what is not set from what runs (or ran last) in the data folder.

    Raises:
        SettingsError: no database is set, and nothing ran there.
    """
    noted = settings.data / "run" / "addresses.json"
    if settings.database_url is not None:
        return settings
    if not noted.is_file():
        raise SettingsError(
            f"WARDWATCH_DATABASE_URL: not set, and nothing has run in {settings.data};"
            " start everything with `wardwatch up`, or name its folder with --data"
        )
    return Settings(**settings.model_dump() | json.loads(noted.read_text("utf-8")))
