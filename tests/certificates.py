"""Certificates for tests of TLS."""

import subprocess
from pathlib import Path


def self_signed(folder: Path, name: str, *alternative: str) -> None:
    """Make NAME.pem, which signs itself and is good for a day, and NAME.key; `alternative` as `IP:127.0.0.1`."""
    further = ["-addext", f"subjectAltName={','.join(alternative)}"] if alternative else []
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", f"/CN={name}", *further, "-keyout", f"{name}.key", "-out", f"{name}.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
