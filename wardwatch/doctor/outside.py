"""What stands around the engine: the MQTT broker, the endpoints of the roles, Grafana."""

import json
import threading
from typing import Any
from urllib.error import URLError
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from grafana import publish
from streams.guarded import one_line
from wardwatch.access import mqtt_tls
from wardwatch.doctor.check import ANSWER_WITHIN_S, Case, Check
from wardwatch.roles import metrics_file
from wardwatch.settings import SettingsError

VERSION = "$SYS/broker/version"
DROPPED = "$SYS/broker/publish/messages/dropped"
SYS_WITHIN_S = 1.0


def broker(case: Case) -> list[Check]:
    """Whether the broker takes a connection, and what it says of itself."""
    address = case.settings.mqtt_url
    if address is None:
        return [Check("broker", "fail", "no address", "set WARDWATCH_MQTT_URL, or start wardwatch up")]
    url = urlsplit(address)
    name = f"{url.hostname}:{url.port or (8883 if url.scheme == 'mqtts' else 1883)}"
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    client.connect_timeout = ANSWER_WITHIN_S
    if url.username is not None:
        client.username_pw_set(unquote(url.username), None if url.password is None else unquote(url.password))
    if url.scheme == "mqtts":
        try:
            client.tls_set_context(mqtt_tls(case.settings).context())
        except SettingsError as error:
            return [Check("broker", "fail", one_line(error), "name PEM files")]
    told: dict[str, str] = {}
    answered, complete = threading.Event(), threading.Event()
    refusals: list[str] = []

    def connected(client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            refusals.append(str(reason))
        else:
            client.subscribe([(VERSION, 0), (DROPPED, 0)])
        answered.set()

    def said(_client: Client, _data: Any, message: MQTTMessage) -> None:
        told[message.topic] = message.payload.decode(errors="replace")
        if len(told) == 2:
            complete.set()

    client.on_connect = connected
    client.on_message = said
    try:
        client.connect(url.hostname or "", url.port or (8883 if url.scheme == "mqtts" else 1883))
        client.loop_start()
        if answered.wait(ANSWER_WITHIN_S) and not refusals:
            complete.wait(SYS_WITHIN_S)
    except OSError as error:
        return [Check("broker", "fail", f"{name}: {one_line(error)}", "start it, or correct WARDWATCH_MQTT_URL")]
    finally:
        client.disconnect()
        client.loop_stop()
    if not answered.is_set():
        return [Check("broker", "fail", f"{name} does not answer", "is it an MQTT 5 broker? see WARDWATCH_MQTT_URL")]
    if refusals:
        return [Check("broker", "fail", f"{name} refuses us: {refusals[0]}", "correct user or password in the URL")]
    return [_of_itself(name, told)]


def _of_itself(name: str, told: dict[str, str]) -> Check:
    says = f"{name}, {told.get(VERSION, 'which does not say what it is')}"
    dropped = told.get(DROPPED, "")
    if dropped.isdigit() and int(dropped):
        advice = "raise its queue limits (Mosquitto: max_queued_messages 0), and see whether the bridge keeps up"
        return Check("broker", "warn", f"{says}, has dropped {dropped} messages", advice)
    return Check("broker", "ok", says + (", has dropped none" if dropped else ""))


def endpoints(case: Case) -> list[Check]:
    """Whether the roles answer scrapes, where it is known that they should."""
    noted = metrics_file(case.settings.data)
    addresses: dict[str, str] = json.loads(noted.read_text("utf-8")) if noted.is_file() else {}
    checks = []
    for role, url in sorted(addresses.items()):
        try:
            with urlopen(url, timeout=ANSWER_WITHIN_S) as answer:  # noqa: S310 # http, as `up` noted it
                size = len(answer.read())
            checks.append(Check(f"metrics of {role}", "ok", f"{url}, {size} bytes"))
        except (URLError, OSError, ValueError) as error:
            where = case.settings.data / "log" / f"{role}.log"
            checks.append(Check(f"metrics of {role}", "warn", f"{url}: {one_line(error)}", f"does it run? see {where}"))
    return checks


def boards(case: Case) -> list[Check]:
    """Whether Grafana takes our token and has the boards of this version."""
    url, token = case.settings.grafana_url, case.settings.grafana_token
    if url is None and token is None:
        return []
    if url is None or token is None:
        return [Check("Grafana", "warn", "half configured", "set WARDWATCH_GRAFANA_URL and WARDWATCH_GRAFANA_TOKEN")]
    try:
        stale = publish.outdated(url, token, timeout_s=ANSWER_WITHIN_S)
    except publish.GrafanaError as error:
        return [Check("Grafana", "fail", one_line(error), "is it there, and is the token of an editor?")]
    if stale:
        return [Check("Grafana", "warn", f"{url} has other boards: {', '.join(stale)}", "wardwatch grafana apply")]
    return [Check("Grafana", "ok", f"{url}, boards are up to date")]
