"""How a Kafka is reached and who we are to it: one object for those who append and for the worker's consumer."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from faust.types.auth import CredentialsT

Security = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """`bootstrap` is `HOST:PORT[,HOST:PORT…]`: some of the brokers, from which the others are learned.

    The files are PEM. Without `ca_file` the machine's own certificate authorities are trusted; a broker's name is
    always checked against its certificate. `cert_file` with `key_file` is who we are to a broker that asks for it.
    """

    bootstrap: str
    security: Security = "plaintext"
    mechanism: Mechanism = "PLAIN"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @property
    def broker_url(self) -> str:
        """The URL under which Faust finds the brokers: `kafka://HOST:PORT[;…]`, without name or password."""
        return ";".join(f"kafka://{server.strip()}" for server in self.bootstrap.split(","))

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments of every client of aiokafka.

        Raises:
            OSError: a file is missing or is not what it should be (`ssl.SSLError`).
        """
        options: dict[str, Any] = {
            "bootstrap_servers": [server.strip() for server in self.bootstrap.split(",")],
            "security_protocol": self.security.upper(),
        }
        if self.security.endswith("ssl"):
            options["ssl_context"] = self._ssl_context()
        if self.security.startswith("sasl"):
            options["sasl_mechanism"] = self.mechanism
            options["sasl_plain_username"] = self.username
            options["sasl_plain_password"] = self.password
        return options

    def faust_credentials(self) -> CredentialsT | None:
        """What Faust's `broker_credentials` takes; None for plaintext. Raises as `client_options` does."""
        from faust import SASLCredentials, SSLCredentials  # takes a second, which those who only append need not wait

        context = self._ssl_context() if self.security.endswith("ssl") else None
        if self.security.startswith("sasl"):
            return SASLCredentials(
                username=self.username, password=self.password, mechanism=self.mechanism, ssl_context=context
            )
        return SSLCredentials(context) if context is not None else None

    def _ssl_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context
