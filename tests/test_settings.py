"""Settings: a bad one is named with where it came from, and ends the program with status 2."""

import subprocess
import sys
from pathlib import Path

import pytest

import schema
from schema.catalogue import CatalogueError, load_catalogue, parse_model
from wardwatch.access import kafka_access, mqtt_tls
from wardwatch.settings import SettingsError, as_environment, load_settings, note_addresses, with_addresses


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDWATCH_PARTITIONS", "many")
    with pytest.raises(SettingsError, match="WARDWATCH_PARTITIONS"):
        load_settings()


def test_a_bad_line_of_the_file_is_named() -> None:
    Path("wardwatch.toml").write_text("flush_ms = 0\n", "utf-8")
    with pytest.raises(SettingsError, match=r"flush_ms in wardwatch\.toml"):
        load_settings()


def test_an_unknown_setting_is_refused() -> None:
    Path("wardwatch.toml").write_text("flush = 20\n", "utf-8")
    with pytest.raises(SettingsError, match="flush"):
        load_settings()


def test_a_bad_argument_is_named() -> None:
    with pytest.raises(SettingsError, match="--max-readings"):
        load_settings(max_readings=0)


def test_a_variable_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("wardwatch.toml").write_text("flush_ms = 30\n", "utf-8")
    monkeypatch.setenv("WARDWATCH_FLUSH_MS", "40")
    assert load_settings().flush_ms == 40


def test_an_address_that_is_none_is_refused_without_being_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDWATCH_DATABASE_URL", "postgresql:/u:geheim@h/x")
    with pytest.raises(SettingsError, match="WARDWATCH_DATABASE_URL") as refused:
        load_settings()
    assert "geheim" not in str(refused.value)


def test_a_catalogue_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(CatalogueError, match="nowhere"):
        load_catalogue(Path("nowhere"))


def test_a_range_beyond_exact_steps_is_refused() -> None:
    text = (Path(schema.__file__).parent / "catalogue_data" / "ct.toml").read_text("utf-8")
    assert parse_model("ct.toml", text.replace("max = 250\n", "max = 9e13\n")).metrics["tube_cel"].max == 9e13
    for bound in ("9.1e13", "1e300", "inf"):
        with pytest.raises(CatalogueError, match="tube_cel: min and max must be"):
            parse_model("ct.toml", text.replace("max = 250\n", f"max = {bound}\n"))


def test_a_child_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(deliver={"": ["json://localhost"]}, clock="simulated", data=Path("x"))
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


@pytest.mark.parametrize("arguments", [["up"], ["alerts", "list"], ["worker"]])
def test_the_program_ends_with_status_2(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wardwatch.cli", *arguments],
        env={"WARDWATCH_PARTITIONS": "0", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "WARDWATCH_PARTITIONS" in done.stderr
    assert "Traceback" not in done.stderr


SASL = {"kafka": "a:9092", "kafka_security": "sasl_ssl", "kafka_username": "w", "kafka_password": "geheim"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kafka": "kafka://u:geheim@a:9092"}, "--kafka: expected HOST:PORT"),
        ({"kafka": "http://a:9092"}, "--kafka: expected HOST:PORT"),
        ({"kafka": ","}, "--kafka: expected HOST:PORT"),
        ({"kafka": "a:9092,b"}, "--kafka: .*HOST:PORT"),
        ({"kafka_security": "ssl"}, "--kafka-security: has no effect without WARDWATCH_KAFKA"),
        ({"kafka_replication": 3}, "--kafka-replication: has no effect without WARDWATCH_KAFKA"),
        ({"kafka": "local", "kafka_security": "ssl"}, "--kafka-security: a local Kafka"),
        (SASL | {"kafka_password": None}, "WARDWATCH_KAFKA_PASSWORD|kafka_password in .*: not set"),
        (SASL | {"kafka_security": "ssl"}, "--kafka-username: has an effect with"),
        ({"kafka": "a:9092", "kafka_sasl_mechanism": "SCRAM-SHA-256"}, "--kafka-sasl-mechanism: has an effect with"),
        (SASL | {"kafka_security": "sasl_plaintext", "kafka_ca_file": "x.pem"}, "--kafka-ca-file: has an effect with"),
        (SASL | {"kafka_ca_file": "nowhere.pem"}, "--kafka-ca-file: there is no file .*nowhere.pem"),
        (SASL | {"kafka_sasl_mechanism": "GSSAPI"}, "--kafka-sasl-mechanism"),
    ],
)
def test_settings_for_kafka_that_do_not_go_together_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        load_settings(**given)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    "given",
    ["a:9092,[::1]:9093", "kafka://a:9092,[::1]:9093", "kafka://a:9092, kafka://[::1]:9093,", " a:9092,[::1]:9093,"],
)
def test_a_kafka_is_named_with_or_without_the_scheme(given: str) -> None:
    assert load_settings(kafka=given).kafka == "a:9092,[::1]:9093"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mqtt_url": "mqtt://b", "mqtt_ca_file": "x.pem"}, "--mqtt-ca-file: has an effect with mqtt_url = mqtts://"),
        ({"mqtt_cert_file": "x.pem"}, "--mqtt-cert-file: has an effect with mqtt_url = mqtts://"),
        ({"mqtt_url": "mqtts://b", "mqtt_ca_file": "nowhere.pem"}, "--mqtt-ca-file: there is no file .*nowhere.pem"),
        ({"mqtt_url": "mqtts://b", "mqtt_key_file": __file__}, "mqtt_cert_file .*: not set; mqtt_key_file is its key"),
    ],
)
def test_settings_for_the_broker_that_do_not_go_together_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(**given)


def test_a_file_for_the_broker_that_is_no_certificate_is_named_before_anything_runs() -> None:
    Path("ca.pem").write_text("no certificate", "utf-8")
    with pytest.raises(SettingsError, match="WARDWATCH_MQTT_CA_FILE"):
        mqtt_tls(load_settings(mqtt_url="mqtts://b", mqtt_ca_file="ca.pem"))


def test_a_file_for_kafka_that_is_no_certificate_is_named_before_anything_runs() -> None:
    Path("ca.pem").write_text("no certificate", "utf-8")
    with pytest.raises(SettingsError, match="WARDWATCH_KAFKA_CA_FILE"):
        kafka_access(load_settings(**SASL, kafka_ca_file="ca.pem"))


def test_files_for_the_broker_reach_a_child_process_and_later_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("ca.pem").touch()
    settings = load_settings(
        mqtt_url="mqtts://b", mqtt_ca_file="ca.pem", data=Path("x"), database_url="postgresql://h/x"
    )
    note_addresses(settings)
    assert with_addresses(load_settings(data=Path("x"))) == settings
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings().mqtt_ca_file == Path("ca.pem").absolute()


def test_a_key_without_its_certificate_is_named() -> None:
    Path("key.pem").touch()
    with pytest.raises(SettingsError, match=r"kafka_cert_file .*kafka_key_file"):
        load_settings(**SASL, kafka_key_file="key.pem")


def test_settings_for_kafka_reach_a_child_process_and_later_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("ca.pem").touch()
    settings = load_settings(**SASL, kafka_ca_file="ca.pem", data=Path("x"), database_url="postgresql://h/x")
    assert "geheim" not in repr(settings)
    note_addresses(settings)
    assert with_addresses(load_settings(data=Path("x"))) == settings
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_the_embedded_log_stays_without_further_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in as_environment(load_settings()).items():
        monkeypatch.setenv(name, value)
    assert load_settings().kafka is None


def test_grafana_takes_a_token_or_a_user_with_a_password() -> None:
    assert load_settings(grafana_token="glsa_x").grafana_credential == "glsa_x"
    assert load_settings(grafana_token="admin:a:b").grafana_credential == ("admin", "a:b")
    assert load_settings().grafana_credential is None
