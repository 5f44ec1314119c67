"""Mosquitto 2 on loopback: found on PATH or fetched, with the limits that a stream of QoS 1 messages needs."""

# ruff: noqa: S603 - starting programs, without a shell, is what this module is for
from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wardwatch.local.account import Account
from wardwatch.local.errors import FetchError, PartUnavailableError
from wardwatch.local.process import LOOPBACK, Service, listens, stop_leftovers
from wardwatch.local.unpacked import unpacked

CONFIGURATION = """\
listener {port} {host}
allow_anonymous true
set_tcp_nodelay true
# The defaults drop acknowledged messages beyond 1000 queued for a client, and allow 20 in flight.
max_queued_messages 0
max_inflight_messages 0
max_queued_bytes 0
# What the protocol allows; from 2.1 on the default is 2 MB.
max_packet_size 268435455
persistence true
persistence_location {folder}/
autosave_interval 60
log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages false
"""


def find(parts: Path, on_progress: Callable[[str], None]) -> Path:
    """A Mosquitto of version 2 or later from PATH, where servers are not always on it, else fetched into `parts`.

    Raises:
        PartUnavailableError: there is none and none can be fetched.

    """
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
    if (found := shutil.which("mosquitto", path=places)) is not None:
        about = subprocess.run([found, "-h"], capture_output=True, text=True, check=False).stdout
        version = re.match(r"mosquitto version (\d+)", about)
        if version is not None and int(version[1]) >= 2:
            return Path(found).resolve()
        on_progress(f"{found} is older than version 2")
    try:
        root = unpacked("mosquitto", parts, "mosquitto", "(?!)", "usr/sbin/mosquitto", on_progress)
    except FetchError as error:
        raise PartUnavailableError("MQTT broker", "WARDWATCH_MQTT_URL", "Mosquitto 2", str(error)) from error
    return root / "usr" / "sbin" / "mosquitto"


def service(program: Path, home: Path, log: Path, account: Account, port: int, spawner: ThreadPoolExecutor) -> Service:
    """A broker on a loopback port, not yet started, with its store below `home`; ends one that a crash has left there.

    Raises:
        LocalPartsError: one of another user is left there.

    """
    folder = home / "mosquitto"
    folder.mkdir(mode=0o700, exist_ok=True)
    configuration = folder / "mosquitto.conf"
    configuration.write_text(CONFIGURATION.format(port=port, host=LOOPBACK, folder=folder))
    for path in (folder, *folder.iterdir()):
        account.give(path)
    named = os.fsencode(configuration)
    stop_leftovers(lambda command_line, _: named in command_line.split(b"\0"), signal.SIGTERM, patience_s=5.0)
    return Service(
        name="MQTT broker",
        command=[str(program), "-c", str(configuration)],
        folder=folder,
        log=log,
        account=account,
        stop_signal=signal.SIGTERM,
        abrupt_signal=signal.SIGKILL,
        ready=lambda: listens(port),
        spawner=spawner,
    )
