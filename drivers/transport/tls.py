"""TLS over a connected socket, seen as the socket underneath. Importing this loads OpenSSL: only who needs TLS does."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket


class TlsStream:
    """A TLS connection that raises what a socket raises: `BlockingIOError` when it has to wait, be it to read or to write.

    Args:
        sock: Connected, with a time-out. It is detached, and its file closed when the handshake fails.
        context: Certificates and what is trusted.
        host: The name that the other end's certificate has to have.

    Raises:
        OSError: The handshake failed (`ssl.SSLError`).
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._sock = context.wrap_socket(sock, server_hostname=host)

    def recv(self, size: int) -> bytes:
        """Decrypted bytes, `size` at most; empty at the end.

        Raises:
            BlockingIOError: There are none now.
        """
        try:
            return self._sock.recv(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error

    def send(self, data: bytes | bytearray) -> int:
        """Send some of it; how much.

        Raises:
            BlockingIOError: Nothing can be sent now: the same bytes have to be given again.
        """
        try:
            return self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error

    def sendall(self, data: bytes) -> None:
        """Send all of it, within the time-out."""
        self._sock.sendall(data)

    def pending(self) -> int:
        """Decrypted bytes that are here already, of which the kernel knows nothing."""
        return self._sock.pending()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def fileno(self) -> int:
        """The socket's."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 (the socket's own signature)
        """Whether to wait in `recv` and `send`."""
        self._sock.setblocking(flag)


def is_of_certificate(error: BaseException | None) -> bool:
    """Whether the other end's certificate did not pass."""
    return isinstance(error, ssl.SSLCertVerificationError)
