"""Certificates in files, read when a connection is made, so that a renewed one is used.

Everything here blocks on the disk: it is for a thread.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, ValidationInfo

if TYPE_CHECKING:
    import ssl

from drivers.transport.secret import Secret


def _found(path: Path, info: ValidationInfo) -> Path:
    """Where a file of a configuration is.

    A relative name is looked up in systemd's credentials folder, then in the folder of the configuration.
    The validation context says which that is (`folder`), and whether to look if the file can be read
    (`check_files`).

    Raises:
        ValueError: It cannot be read.
    """
    context = info.context or {}
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    # os.path's, since Path's raise where the user may not look, and for a name that is too long.
    if credentials and os.path.exists(Path(credentials) / path):  # noqa: PTH110
        path = Path(credentials) / path
    elif "folder" in context:
        path = context["folder"] / path
    if context.get("check_files"):
        if not os.path.isfile(path):  # noqa: PTH113
            raise ValueError(f"there is no file {path}")
        if not os.access(path, os.R_OK):
            raise ValueError(f"{path} cannot be read by this user")
    return path


ConfiguredFile = Annotated[Path, AfterValidator(_found)]
"""A file that a configuration names."""


def read_secret(file: Path | None) -> str | None:
    """The secret in a file that a command was given; None for no file.

    Raises:
        SecretError: It cannot be read, or is empty.
    """
    return None if file is None else Secret(file=file).read()


@dataclass(frozen=True)
class TlsFiles:
    """Where certificates are.

    Args:
        ca_file: PEM of the authorities to trust; the system's when None.
        cert_file: PEM of this client's certificate, when the other end asks for one.
        key: PEM of its key; None when it is in `cert_file`.
        alpn: What is asked for by ALPN, where one port serves several protocols.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key: Secret | None = None
    alpn: tuple[str, ...] = ()

    def context(self) -> ssl.SSLContext:
        """Read the files.

        Raises:
            OSError: A file cannot be read, or is none (`ssl.SSLError`); or the key is not there.
        """
        import ssl  # OpenSSL: only who needs TLS loads it

        context = ssl.create_default_context(cafile=self.ca_file)
        if self.alpn:
            context.set_alpn_protocols(self.alpn)
        if self.cert_file is not None:
            if self.key is None:
                context.load_cert_chain(self.cert_file)
            else:
                with self.key.as_file() as key_file:
                    context.load_cert_chain(self.cert_file, key_file)
        return context
