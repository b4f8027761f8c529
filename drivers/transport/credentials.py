"""Secrets and certificates in files, read when a connection is made, so that a rotated one is used.

Everything here blocks on the disk: it is for a thread.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path


def read_secret(file: Path | None) -> str | None:
    """What a file of credentials says, without the newline that editors add; None for no file.

    A relative name is looked up in systemd's credentials folder first.

    Raises:
        OSError: It cannot be read.
    """
    if file is None:
        return None
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder and (Path(folder) / file).exists():
        file = Path(folder) / file
    return file.read_text(encoding="utf-8").rstrip("\r\n")


@dataclass(frozen=True)
class TlsFiles:
    """Where certificates are.

    Args:
        ca_file: PEM of the authorities to trust; the system's when None.
        cert_file: PEM of this client's certificate, when the other end asks for one.
        key_file: PEM of its key; None when it is in `cert_file`.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Read the files.

        Raises:
            OSError: A file cannot be read, or is none (`ssl.SSLError`).
        """
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context
