"""What can go wrong with the services on this machine: one class for each thing a caller can act on."""

from __future__ import annotations

from pathlib import Path


class LocalPartsError(RuntimeError):
    """A service on this machine cannot be had or does not run; the message says what to do."""


class DataFolderBusyError(LocalPartsError):
    """Another process owns the data folder."""

    def __init__(self, data: Path) -> None:
        super().__init__(
            f"The data folder {data} is in use by another wardwatch process. Stop that one, or name another folder."
        )
        self.data = data


class PartUnavailableError(LocalPartsError):
    """A part is not given, not installed and cannot be fetched."""

    def __init__(self, part: str, variable: str, packages: str, reason: str) -> None:
        super().__init__(
            f"No {part} is at hand: {reason}\n"
            f"The choices:\n"
            f"  1. give the address of a running one in {variable};\n"
            f"  2. install {packages} so that it is found on PATH;\n"
            f"  3. run on Debian or Ubuntu with access to the package archive once, where it is fetched by itself."
        )
        self.part = part
        self.reason = reason


class KafkaUnavailableError(LocalPartsError):
    """Kafka is asked for on this machine and cannot run here."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"No Kafka is at hand: {reason}\n"
            f"The choices:\n"
            f"  1. give the address of a running one in WARDWATCH_KAFKA or --kafka (HOST:PORT);\n"
            f"  2. install Java 17 or later and Maven so that java and mvn are found on PATH, and let Maven reach a\n"
            f"     repository once (Debian and Ubuntu: apt install default-jre-headless maven);\n"
            f"  3. do without Kafka: leave WARDWATCH_KAFKA unset, and the log is one file."
        )
        self.reason = reason


class FetchError(LocalPartsError):
    """The package archive did not deliver."""


class PartFailedError(LocalPartsError):
    """A part was started and did not come up, or ended."""

    def __init__(self, part: str, reason: str, log: Path) -> None:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:]) if log.exists() else ""
        super().__init__(f"The {part} {reason}. Its log is {log}, which ends with:\n{tail}")
        self.part = part
        self.log = log


class NotOursError(LocalPartsError):
    """A part that was given by its address cannot be stopped or started from here."""

    def __init__(self, part: str) -> None:
        super().__init__(f"The {part} was given by its address; it is not ours to stop or start.")
        self.part = part
