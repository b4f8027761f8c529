"""A WebSocket that looks like the socket underneath, for paho: `recv`, `send`, `close`."""

from __future__ import annotations

import base64
import contextlib
import os
from typing import TYPE_CHECKING, Final

from drivers.transport.websocket import (
    BINARY,
    CLOSE,
    HEAD_BYTES_MAX,
    PONG,
    FrameReader,
    WebSocketError,
    check_upgrade,
    encode_frame,
    upgrade_request,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from drivers.transport.tls import TlsStream

_PONG_BYTES_MAX: Final = 4096
"""Owed to a server; one that floods us with pings and does not read gets no more answers than that."""


class WebSocketStream:
    """The MQTT stream in a WebSocket. The handshake blocks; after that it does as its socket is set to.

    Args:
        sock: Connected, with TLS or without, with a time-out.
        host: As in the header `Host`.
        path: With its query.

    Attributes:
        closed: Why the server closed it, once it has said so.

    Raises:
        OSError: The server does not answer, or not with a WebSocket for MQTT (`WebSocketError`).
    """

    def __init__(self, sock: socket.socket | TlsStream, host: str, path: str) -> None:
        self._sock = sock
        self._decrypted: Callable[[], int] = getattr(sock, "pending", lambda: 0)
        """How much TLS holds, where there is TLS."""
        self._reader = FrameReader()
        self._outbox = b""
        """What was begun to be sent and is not yet sent: whole frames, the first perhaps cut at its beginning."""
        self._claimed = 0
        """So many bytes of the stream are in the outbox: the caller will give us the same ones again."""
        self._pongs = b""
        """Whole frames to be sent once the outbox is empty."""
        self._early = self._shake_hands(host, path)

    @property
    def closed(self) -> str | None:
        """Why the server closed it, once it has said so."""
        return self._reader.closed

    def _shake_hands(self, host: str, path: str) -> bytes:
        """Upgrade the connection; what came behind the answer."""
        key = base64.b64encode(os.urandom(16)).decode()
        self._sock.sendall(upgrade_request(host, path, key))
        answer = b""
        while b"\r\n\r\n" not in answer:
            if len(answer) > HEAD_BYTES_MAX:
                raise WebSocketError(
                    f"the server's answer to the WebSocket upgrade exceeds {HEAD_BYTES_MAX} bytes"
                )
            try:
                piece = self._sock.recv(4096)
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise WebSocketError(
                    "the server closes the connection at the WebSocket upgrade: is it a WebSocket port?"
                )
            answer += piece
        head, _, rest = answer.partition(b"\r\n\r\n")
        check_upgrade(head, key)
        return rest

    def recv(self, size: int) -> bytes:
        """Bytes of the stream, `size` at most; empty at its end.

        Raises:
            BlockingIOError: There are none now.
            WebSocketError: The server breaks the protocol.
        """
        while True:
            if self._reader.closed is not None:
                return b""
            if self._early:
                data, self._early = self._early[:size], self._early[size:]
            else:
                data = self._sock.recv(size)
                if not data:
                    return b""
            found = self._reader.feed(data)
            self._answer_pings()
            if found:
                return found

    def send(self, data: bytes | bytearray) -> int:
        """Send all of it as one frame.

        Raises:
            BlockingIOError: Not all of it left: the same bytes have to be given again.
        """
        if not self._claimed:
            self._outbox += encode_frame(BINARY, bytes(data), os.urandom(4))
            self._claimed = len(data)
        self._flush()
        if self._outbox:
            raise BlockingIOError
        sent, self._claimed = self._claimed, 0
        return sent

    def close(self) -> None:
        """Say goodbye if that needs no waiting, and close the socket."""
        if self._reader.closed is None and not self._outbox:
            with contextlib.suppress(OSError):
                self._sock.send(encode_frame(CLOSE, (1000).to_bytes(2, "big"), os.urandom(4)))
        self._sock.close()

    def fileno(self) -> int:
        """The socket's."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 (the socket's own signature)
        """Whether to wait in `recv` and `send`."""
        self._sock.setblocking(flag)

    def pending(self) -> int:
        """Bytes that are here already, of which the kernel knows nothing."""
        return self._decrypted() + len(self._early)

    def _answer_pings(self) -> None:
        pings, self._reader.pings = self._reader.pings, []
        for content in pings:
            if len(self._pongs) < _PONG_BYTES_MAX:
                self._pongs += encode_frame(PONG, content, os.urandom(4))
        if pings:
            with contextlib.suppress(BlockingIOError):
                self._flush()

    def _flush(self) -> None:
        while self._outbox or self._pongs:
            if not self._outbox:
                self._outbox, self._pongs = self._pongs, b""
            sent = self._sock.send(self._outbox)
            self._outbox = self._outbox[sent:]
