"""Delivery through Apprise (mail, chat, DingTalk, WeCom, Feishu, webhooks …), and to a local file for a demo."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import apprise

from alerting.delivery import DeliveryFailed, Note


class FileSink(apprise.NotifyBase):  # type: ignore[misc]  # Apprise publishes no type information
    """Appends each message to a file as one JSON line `{"subject", "body"}`; Apprise has no file target of its own."""

    service_name = "Local file"
    title_maxlen = 250
    body_maxlen = 32768

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def send(self, body: str, title: str = "", **_kwargs: object) -> bool:
        """Append one line; false if the file cannot be written."""
        line = json.dumps({"subject": title, "body": body}, ensure_ascii=False) + "\n"
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            self.logger.warning("cannot write to %s: %s", self._path, error)
            return False
        return True

    def url(self, *_args: object, **_kwargs: object) -> str:
        """The sink's address."""
        return self._path.as_uri()


class AppriseNotifier:
    """Sends a message to all addresses of its audience.

    `addresses` maps audiences to Apprise URLs (or `file:///path`); those of the empty string are for every audience
    that is not named.

    Raises:
        ValueError: Apprise does not understand an address; the message names the audience, not the address, which may
            hold a password.
    """

    def __init__(self, addresses: Mapping[str, Sequence[str]]) -> None:
        self._sinks = {audience: _sinks(audience, urls) for audience, urls in addresses.items()}

    def __call__(self, note: Note) -> None:
        """Deliver to every address.

        Raises:
            DeliveryFailed: one of them failed, or there is none; all are tried again later.
        """
        sinks = self._sinks.get(note.audience, self._sinks.get("", ()))
        if not sinks:
            raise DeliveryFailed(f"no address for {note.audience}")
        failed = [index for index, sink in enumerate(sinks) if not sink.notify(body=note.text, title=note.subject)]
        if failed:
            raise DeliveryFailed(f"address {', '.join(str(index + 1) for index in failed)} of {note.audience} failed")


def _sinks(audience: str, urls: Sequence[str]) -> tuple[apprise.Apprise, ...]:
    sinks = []
    for index, url in enumerate(urls):
        sink = apprise.Apprise()
        parts = urlsplit(url)
        if not sink.add(FileSink(Path(unquote(parts.path))) if parts.scheme == "file" else url):
            raise ValueError(f"address {index + 1} of audience {audience or '(all others)'} is not understood")
        sinks.append(sink)
    return tuple(sinks)
