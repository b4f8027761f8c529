"""The way to another end: its name, a connection, TLS, and until when certificates are good."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from agent.doctor.x509 import NotACertificateError, ends_of
from agent.status.text import span
from drivers.examination import ok, problem, unreachable, warning
from drivers.transport.apart import run_apart

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

    from drivers.examination import Finding
    from drivers.transport.credentials import TlsFiles

_PORTS: Final = {
    "mqtt": 1883,
    "mqtts": 8883,
    "ws": 80,
    "wss": 443,
    "http": 80,
    "https": 443,
    "nats": 4222,
    "tls": 4222,
}
_TLS: Final = frozenset({"mqtts", "wss", "https"})
"""Who begins with TLS. NATS begins without it, so that only its log-in can tell (`agent.sync.examination`)."""
_CONNECT_S: Final = 10.0
_SOON: Final = timedelta(days=30)
_AT_ONCE: Final = timedelta(days=7)
_EXPIRED, _NOT_YET, _HOSTNAME, _ADDRESS = 10, 9, 62, 64
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
"""X509_V_ERR_... of OpenSSL."""


@dataclass(frozen=True, slots=True)
class Place:
    """Another end."""

    subject: str
    """Which source or upstream."""
    url: str
    tls: TlsFiles

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken from the beginning."""
        return urlsplit(self.url).scheme in _TLS


async def findings(place: Place) -> list[Finding]:
    """What is known about the way there."""
    host, port = place.address
    found = list(await run_apart("certificates", lambda: list(_files(place))))
    try:
        addresses = await run_apart(
            f"resolve-{host}", lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
    except OSError as error:
        remedy = f"`resolvectl query {host}` and `ip route` say more; correct the url"
        return [
            *found,
            unreachable(place.subject, f"{host}: its name cannot be resolved: {_text(error)}", remedy),
        ]
    context: ssl.SSLContext | None = None
    if place.secure:
        try:
            context = await run_apart("certificates", place.tls.context)
        except (OSError, ValueError) as error:
            remedy = "correct `ca_file`, `cert_file` and `key`, or run this as the user the agent runs as"
            return [*found, unreachable(place.subject, f"certificates cannot be used: {error}", remedy)]
    return [*found, *await _connect(place, [address[4] for address in addresses], context)]


async def _connect(place: Place, addresses: list[Any], context: ssl.SSLContext | None) -> list[Finding]:
    host, port = place.address
    failure: BaseException = OSError("it has no address")
    for address in addresses:
        try:
            async with asyncio.timeout(_CONNECT_S):
                options: dict[str, Any] = {} if context is None else {"ssl": context, "server_hostname": host}
                _, writer = await asyncio.open_connection(address[0], port, **options)
        except (OSError, TimeoutError) as error:
            failure = error
            if _is_certificate(error):
                break
            continue
        certificate = writer.get_extra_info("peercert") or {}
        cipher = writer.get_extra_info("cipher")
        writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await writer.wait_closed()
        if context is None:
            return [ok(place.subject, f"{host}:{port} answers")]
        return [
            ok(place.subject, f"{host}:{port} answers; {cipher[1]}, its certificate is trusted"),
            *_until(
                place.subject, "the server's certificate", _not_after(certificate), "have it renewed there"
            ),
        ]
    return [_failed(place, failure)]


def _is_certificate(error: BaseException) -> bool:
    return hasattr(error, "verify_code")


def _failed(place: Place, error: BaseException) -> Finding:
    host, port = place.address
    if _is_certificate(error):
        return _untrusted(place, error)
    if isinstance(error, TimeoutError):
        what = f"{host}:{port} does not answer within {_CONNECT_S:g} s"
        return unreachable(place.subject, what, "is there a firewall on the way? `ip route`, `ping`")
    if type(error).__name__.startswith("SSL"):
        what = f"{host}:{port}: no TLS: {_text(error)}"
        return unreachable(
            place.subject, what, "is the port one for TLS, and does it want a client's certificate?"
        )
    remedy = "is the server running, and the port right?"
    return unreachable(place.subject, f"{host}:{port}: {_text(error)}", remedy)


def _untrusted(place: Place, error: BaseException) -> Finding:
    """A certificate that did not pass."""
    host, port = place.address
    code = getattr(error, "verify_code", 0)
    said = getattr(error, "verify_message", str(error))
    remedies = {
        _EXPIRED: "have it renewed there; or this device's clock is ahead",
        _NOT_YET: "this device's clock is behind: see what is said about the clock",
        _HOSTNAME: "write the url with a name that the certificate is for",
        _ADDRESS: "write the url with a name that the certificate is for",
    }
    remedy = remedies.get(code, "have the server's certificate put right")
    if code in _UNKNOWN_AUTHORITY:
        remedy = "name the authority's PEM as `ca_file`; a server must send all certificates but the root's"
    return unreachable(place.subject, f"{host}:{port}: its certificate is not trusted: {said}", remedy)


def _not_after(certificate: dict[str, Any]) -> datetime | None:
    import ssl  # OpenSSL, which TLS has loaded

    text = certificate.get("notAfter")
    return None if text is None else datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)


def _until(subject: str, what: str, end: datetime | None, remedy: str) -> Iterator[Finding]:
    if end is None:
        return
    left = end - datetime.now(UTC)
    when = f"{end:%Y-%m-%d}"
    if left <= timedelta(0):
        yield problem(subject, f"{what} has expired on {when}", remedy)
    elif left <= _AT_ONCE:
        yield problem(subject, f"{what} expires on {when}, in {span(left.total_seconds())}", remedy)
    elif left <= _SOON:
        yield warning(subject, f"{what} expires on {when}, in {span(left.total_seconds())}", remedy)
    else:
        yield ok(subject, f"{what} is good until {when}")


def _files(place: Place) -> Iterator[Finding]:
    """Until when the certificates in our own files are good. Blocks."""
    files: dict[str, Path | None] = {"cert_file": place.tls.cert_file, "ca_file": place.tls.ca_file}
    for name, file in files.items():
        if file is None:
            continue
        try:
            end = min(ends_of(file.read_bytes()))
        except (OSError, NotACertificateError) as error:
            yield problem(place.subject, f"{name} {file}: {_text(error)}", "name a PEM file that can be read")
        else:
            yield from _until(place.subject, f"{name} {file}", end, "have a new one made, and put it there")


def _text(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    if (
        isinstance(number, int) and number in errno.errorcode and type(error).__module__ == "builtins"
    ):  # asyncio has words of its own
        return os.strerror(number)
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
