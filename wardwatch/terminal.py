"""What the commands share: options, the console for what is not their result, an orderly stop."""

import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

console = Console(stderr=True)

DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of all that a run leaves.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
KafkaOption = Annotated[
    str | None,
    typer.Option("--kafka", help="Kafka is the log: [kafka://]HOST:PORT[,…] of one that runs, or local: start one."),
]


def stop_on_signals() -> threading.Event:
    """First SIGINT or SIGTERM: stop in order. Second: at once."""
    stop = threading.Event()

    def ask(number: int, _frame: Any) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return stop
