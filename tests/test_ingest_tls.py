"""A broker that speaks TLS, with a certificate of its own making, and asks who we are."""

import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import self_signed
from ingest_help import PATIENCE_S, running
from test_ingest_bridge import MemoryLog

from ingest.bridge import Bridge
from ingest.connection import address, make_client
from ingest.directory import DeviceDirectory
from ingest.settings import BridgeConfig, Tls
from schema.catalogue import load_catalogue
from simulator.publisher import play
from simulator.scenario import Scenario
from wardwatch.local import mosquitto
from wardwatch.local.parts import default_parts
from wardwatch.local.process import LOOPBACK, free_port, listens, wait_until

CONFIGURATION = """\
listener {port} {host}
cafile client.pem
certfile server.pem
keyfile server.key
require_certificate true
allow_anonymous true
max_inflight_messages 0
max_queued_messages 0
user root
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`server.pem` for 127.0.0.1 and `client.pem`, each of which signs itself, and their keys."""
    folder = tmp_path_factory.mktemp("tls")
    self_signed(folder, "server", "IP:127.0.0.1")
    self_signed(folder, "client")
    return folder


@pytest.fixture(scope="module")
def mqtts_url(folder: Path) -> Iterator[str]:
    """A Mosquitto that takes nobody without a certificate."""
    port = free_port()
    (folder / "mosquitto.conf").write_text(CONFIGURATION.format(port=port, host=LOOPBACK), "utf-8")
    program = mosquitto.find(default_parts(), lambda _: None)
    with subprocess.Popen([program, "-c", "mosquitto.conf"], cwd=folder) as broker:
        try:
            assert wait_until(lambda: listens(port), PATIENCE_S)
            yield f"mqtts://{LOOPBACK}:{port}"
        finally:
            broker.terminate()


def test_bridge_and_simulator_reach_a_broker_that_asks_for_their_certificate(folder: Path, mqtts_url: str) -> None:
    tls = Tls(folder / "server.pem", folder / "client.pem", folder / "client.key")
    scenario, log = Scenario(11, devices=2, customers=1, days=1), MemoryLog()
    config = BridgeConfig(mqtt_url=mqtts_url, source="b", partitions=1, clock="simulated", tls=tls)
    directory = DeviceDirectory(1, scenario.registry.devices)
    bridge = Bridge(config, catalogue=load_catalogue(), directory=directory, append=log.append, last_ticks={})
    with running(bridge):
        totals = play(scenario, mqtts_url, tls=tls.context())
    assert len(log.messages()) >= totals.messages > 0


def test_a_broker_whose_certificate_nobody_vouches_for_is_not_talked_to(mqtts_url: str) -> None:
    with socket.create_connection(address(mqtts_url)) as plain, pytest.raises(ssl.SSLCertVerificationError):
        Tls().context().wrap_socket(plain, server_hostname=LOOPBACK)


def test_a_client_without_its_certificate_is_sent_away(folder: Path, mqtts_url: str) -> None:
    client = make_client(mqtts_url, "nobody", Tls(folder / "server.pem"), reconnect=False)
    greeted: list[object] = []
    client.on_connect = lambda *_: greeted.append(_)
    client.connect(*address(mqtts_url))
    assert client.loop_forever() != 0
    assert greeted == []
