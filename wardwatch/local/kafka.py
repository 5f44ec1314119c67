"""Apache Kafka 4 on loopback, in KRaft mode: each process is broker and controller.

The programs are jars that Maven copies once, from whatever repository it is set up for, into the folder of parts;
`pom.xml` beside this file names them. A Kafka is one such process, or three that elect their controller and keep three
copies of what they are given.
"""

# ruff: noqa: S603 - starting programs, without a shell, is what this module is for
from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from wardwatch.local.account import Account
from wardwatch.local.errors import KafkaUnavailableError, PartFailedError
from wardwatch.local.process import ENVIRONMENT, LOOPBACK, Service, free_port, launched, stop_leftovers
from wardwatch.local.unpacked import made_once

LOCAL = "local"
"""In the place of an address: start one here."""
POM = Path(__file__).with_name("pom.xml")
FOLDER = "kafka-4.3.0"
JAVA_VERSION = 17
CLUSTER_ID = "d2FyZHdhdGNoLWxvY2FsMQ"  # 16 bytes in base 64; what keeps clusters apart is that each is on its own ports
JVM = (
    "-Xms96m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:-UsePerfData",
    "-Djava.net.preferIPv4Stack=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)  # fmt: skip
"""For a quick start beside other work: one collector thread, no optimising compiler."""
CONFIGURATION = """\
process.roles=broker,controller
node.id={number}
controller.quorum.voters={voters}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={store}
auto.create.topics.enable=false
delete.topic.enable=true
# Whoever makes a topic says how long it keeps what; nothing goes by itself.
log.retention.ms=-1
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
offsets.topic.num.partitions=1
offsets.topic.replication.factor={copies}
log.cleaner.dedupe.buffer.size=8388608
num.network.threads=2
num.io.threads=4
# A group begins with its first member; a broker that was killed is noticed after 3 s and not 9.
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""


@dataclass(frozen=True, slots=True)
class Node:
    """One process of a Kafka: its number, from 1, and its two loopback ports, for clients and for controllers."""

    number: int
    port: int
    controller_port: int

    @classmethod
    def on(cls, port: int, number: int = 1) -> Node:
        """A node for clients on `port`, with another free port for controllers."""
        controller_port = free_port()
        while controller_port == port:
            controller_port = free_port()
        return cls(number, port, controller_port)


def missing(parts: Path) -> str | None:
    """What must be installed before Kafka can run here; None if nothing."""
    if shutil.which("java") is None:
        return f"no Java on PATH (version {JAVA_VERSION} or later is needed)"
    if not (parts / FOLDER).is_dir() and shutil.which("mvn") is None:
        return "no Maven (mvn) on PATH, which fetches the programs once"
    return None


def look(parts: Path) -> None:
    """Look whether Kafka can run here; fetches nothing.

    Raises:
        KafkaUnavailableError: Java is missing or too old, or Maven is missing where it is needed.

    """
    if (reason := missing(parts)) is not None:
        raise KafkaUnavailableError(reason)
    about = subprocess.run([_java(), "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', about)
    if version is None or int(version[1]) < JAVA_VERSION:
        raise KafkaUnavailableError(f"{_java()} is not version {JAVA_VERSION} or later: {about.strip()}")


def find(parts: Path, on_progress: Callable[[str], None]) -> Path:
    """The folder with Kafka's jars, in `parts`; fetched by Maven if it is not there.

    Raises:
        KafkaUnavailableError: it cannot run here (`look`), or the jars cannot be had.

    """
    look(parts)

    def copy(folder: Path) -> None:
        on_progress("fetching Kafka with Maven (about 45 MB)")
        _copy_jars(folder)

    return made_once(parts / FOLDER, copy)


def _copy_jars(folder: Path) -> None:
    command = [
        shutil.which("mvn") or "mvn", "--batch-mode", "--quiet", "--strict-checksums", "-f", str(POM),
        "dependency:copy-dependencies", f"-DoutputDirectory={folder}", "-DincludeScope=runtime",
    ]  # fmt: skip
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        told = "\n".join((done.stdout + done.stderr).strip().splitlines()[:6])
        raise KafkaUnavailableError(f"Maven could not fetch it; it said:\n{told}")
    for jar in folder.iterdir():
        jar.chmod(0o644)


def _java() -> str:
    return shutil.which("java") or "java"


def service(
    jars: Path,
    folder: Path,
    log: Path,
    account: Account,
    node: Node,
    spawner: ThreadPoolExecutor,
    *,
    others: Sequence[Node] = (),
    further: str = "",
) -> Service:
    """A Kafka process, not yet started, with its store in `folder`; a start ends one that a crash has left there.

    Args:
        jars: what `find` returned.
        folder: of this process alone, made and its store set up if need be; kept, it goes on with what is there.
        log: file that collects the output.
        account: who runs it.
        node: number and ports; a later start may choose other ports.
        spawner: see `Service`.
        others: the other nodes of the same Kafka: none, or two.
        further: lines that end the configuration, and so win over what stands there already.

    Raises:
        PartFailedError: the store could not be set up.

    """
    folder.mkdir(mode=0o700, exist_ok=True)
    nodes = sorted((node, *others), key=lambda each: each.number)
    configuration = folder / "kafka.properties"
    named = os.fsencode(configuration)
    configuration.write_text(
        CONFIGURATION.format(
            host=LOOPBACK,
            number=node.number,
            port=node.port,
            controller_port=node.controller_port,
            voters=",".join(f"{each.number}@{LOOPBACK}:{each.controller_port}" for each in nodes),
            store=folder / "store",
            copies=min(3, len(nodes)),
        )
        + further
    )
    configuration.chmod(0o600)
    for path in (folder, configuration):
        account.give(path)
    java = [_java(), *JVM, f"-Djava.io.tmpdir={folder}", "-cp", f"{jars}/*"]
    _set_up_store(java, folder, configuration, log, account)
    return Service(
        name="Kafka" if not others else f"Kafka {node.number}",
        command=[*java, "kafka.Kafka", str(configuration)],
        folder=folder,
        log=log,
        account=account,
        stop_signal=signal.SIGTERM,
        abrupt_signal=signal.SIGKILL,
        ready=lambda: serves(node.port),
        spawner=spawner,
        prepare=lambda: stop_leftovers(
            lambda command_line, _: named in command_line.split(b"\0"), signal.SIGTERM, patience_s=5.0
        ),
    )


def _set_up_store(java: Sequence[str], folder: Path, configuration: Path, log: Path, account: Account) -> None:
    """Format the store once; one that was only half made, which has no note of being done, is made anew."""
    done = folder / "formatted"
    if done.exists():
        return
    shutil.rmtree(folder / "store", ignore_errors=True)
    command = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(configuration)]
    with log.open("ab") as output:
        ended = subprocess.run(
            launched(command, account, signal.SIGKILL),
            cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            check=False,
        )  # fmt: skip
    if ended.returncode != 0:
        raise PartFailedError("Kafka", "could not set up its store", log)
    done.touch()


def serves(port: int, *, brokers: int = 1) -> bool:
    """Whether the broker on a loopback port answers and knows of so many that its controller lets clients use.

    Asks what any client asks first: a Metadata request (key 3, version 1) about no topic. A broker that is not yet
    admitted answers with an empty list of brokers.
    """
    request = struct.pack(">hhih", 3, 1, 0, -1) + struct.pack(">i", 0)
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2.0) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(12, socket.MSG_WAITALL)
    except OSError:
        return False
    if len(answer) < 12:
        return False
    _length, _correlation, found = struct.unpack(">iii", answer)
    return bool(found >= brokers)
