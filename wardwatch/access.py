"""What settings lead to: the catalogue, the log, the database, and how broker and Kafka trust us and are trusted."""

from ingest.settings import Tls
from schema.catalogue import Catalogue, load_catalogue
from schema.topics import OVERFLOW, REFUSED, TELEMETRY
from streams.logs import Log
from streams.logs.embedded import EmbeddedLog
from streams.logs.kafka import KafkaLog
from streams.logs.kafka_access import KafkaAccess
from wardwatch.local.kafka import LOCAL
from wardwatch.settings import Settings, SettingsError


def catalogue_of(settings: Settings) -> Catalogue:
    """The built-in catalogue and the customer's own files."""
    return load_catalogue(*([settings.catalogue] if settings.catalogue else []))


def kafka_access(settings: Settings) -> KafkaAccess | None:
    """How the settings' Kafka is reached; None where the log is the embedded one.

    Raises:
        SettingsError: a file is not what it should be, or it is to be started here, which those who only use it do not
            do.
    """
    if settings.kafka is None:
        return None
    if settings.kafka == LOCAL:
        raise SettingsError(f"WARDWATCH_KAFKA: {LOCAL} is for `wardwatch up` and `demo`; name HOST:PORT")
    access = KafkaAccess(
        bootstrap=settings.kafka,
        security=settings.kafka_security,
        mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password=settings.kafka_password,
        ca_file=settings.kafka_ca_file,
        cert_file=settings.kafka_cert_file,
        key_file=settings.kafka_key_file,
    )
    try:
        access.client_options()
    except OSError as error:
        raise SettingsError(f"WARDWATCH_KAFKA_CA_FILE, …_CERT_FILE or …_KEY_FILE: {error}") from error
    return access


def mqtt_tls(settings: Settings) -> Tls:
    """How the settings' broker is trusted, and who we are to it.

    Raises:
        SettingsError: a file is not what it should be.
    """
    tls = Tls(settings.mqtt_ca_file, settings.mqtt_cert_file, settings.mqtt_key_file)
    try:
        tls.context()
    except OSError as error:
        raise SettingsError(f"WARDWATCH_MQTT_CA_FILE, …_CERT_FILE or …_KEY_FILE: {error}") from error
    return tls


def topics(settings: Settings) -> dict[str, int]:
    """The topics of the log, each with how many partitions it has."""
    return {TELEMETRY: settings.partitions, REFUSED: 1, OVERFLOW: 1}


def open_log(settings: Settings) -> Log:
    """Open the log that the settings name, with its topics."""
    access = kafka_access(settings)
    opened: Log
    opened = _embedded_log(settings) if access is None else KafkaLog(access, replication=settings.kafka_replication)
    try:
        for topic, partitions in topics(settings).items():
            opened.create_topic(topic, partitions)
    except BaseException:
        opened.close()
        raise
    return opened


def _embedded_log(settings: Settings) -> EmbeddedLog:
    settings.data.mkdir(parents=True, exist_ok=True)
    settings.log_file.touch(mode=0o600)
    settings.log_file.chmod(0o600)  # what SQLite puts beside it takes after it
    return EmbeddedLog(settings.log_file)


def database_url(settings: Settings) -> str:
    """Return the database's address.

    Raises:
        SettingsError: none is set.
    """
    if settings.database_url is None:
        raise SettingsError("WARDWATCH_DATABASE_URL: not set; name a database, or start everything with `wardwatch up`")
    return settings.database_url
