"""A certificate authority for an hour: TLS tests without files in the repository."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """Where the PEM files are."""

    ca_file: Path
    server_cert_file: Path
    server_key_file: Path
    client_cert_file: Path
    client_key_file: Path


def make_certificates(folder: Path, *, server_name: str = "localhost", days: int = 1) -> Certificates:
    """An authority, a server certificate for `server_name`, and a client certificate for `client`.

    Args:
        folder: Where to.
        server_name: Whom the server's is for.
        days: For how long server's and client's are good; below 0 they have expired.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ca_key = _key(folder / "ca.key")
    ca = folder / "ca.crt"
    usage = "keyUsage=critical,keyCertSign"  # which Python 3.13 asks of an authority
    subject = ("-subj", "/CN=Test authority", "-addext", usage)
    _openssl("req", "-x509", "-new", "-key", ca_key, *subject, "-days", "1", "-out", ca)
    server = _signed(folder, "server", server_name, f"subjectAltName=DNS:{server_name}", ca, ca_key, days)
    client = _signed(folder, "client", "client", "extendedKeyUsage=clientAuth", ca, ca_key, days)
    return Certificates(ca, *server, *client)


def _signed(
    folder: Path, file_name: str, subject: str, extension: str, ca: Path, ca_key: Path, days: int
) -> tuple[Path, Path]:
    key = _key(folder / f"{file_name}.key")
    request, certificate = folder / f"{file_name}.csr", folder / f"{file_name}.crt"
    extensions = folder / f"{file_name}.ext"
    extensions.write_text(f"{extension}\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n")
    _openssl("req", "-new", "-key", key, "-subj", f"/CN={subject}", "-out", request)
    _openssl(
        *("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial"),
        *("-days", str(days), "-extfile", extensions, "-out", certificate),
    )
    return certificate, key


def _key(path: Path) -> Path:
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
    return path


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
