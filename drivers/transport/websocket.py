"""The WebSocket protocol (RFC 6455), as far as a client of MQTT needs it. Pure: bytes in, bytes out.

MQTT over WebSocket (MQTT 5, section 6.0) is a stream: its bytes come in binary frames whose bounds mean nothing. So frames are
not put together here; what they carry is handed on as it comes.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

CONTINUATION: Final = 0x0
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

HEAD_BYTES_MAX: Final = 16384
"""Of the server's answer to the upgrade."""
_ACCEPT_SUFFIX: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""
_CONTROL_BYTES_MAX: Final = 125
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127
_CODE_BYTES: Final = 2
_STATUS_WORDS: Final = 2
_HINTS: Final = {
    "401": "it asks for a log-in before MQTT's own",
    "403": "it does not allow it",
    "404": "is the path right? It stands behind the port: ws://HOST:PORT/mqtt",
    "400": "is it a WebSocket port, and the path right?",
    "200": "it is a web server, but no WebSocket at this path",
    "426": "it wants another protocol",
    "502": "the broker behind it does not answer",
    "503": "the broker behind it does not answer",
    "504": "the broker behind it does not answer",
}


class WebSocketError(ConnectionError):
    """The other side does not speak WebSocket as it should, or not with us."""


def upgrade_request(host: str, path: str, key: str) -> bytes:
    """The request that makes a connection a WebSocket.

    Args:
        host: As in the header `Host`, with the port unless it is the scheme's own.
        path: With its query.
        key: 16 random bytes in base64.
    """
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: mqtt",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def check_upgrade(head: bytes, key: str) -> None:
    """Check the server's answer, up to its empty line.

    Raises:
        WebSocketError: It is no upgrade to our WebSocket; says what it is instead.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if not first.startswith("HTTP/") or len(words) < _STATUS_WORDS:
        raise WebSocketError(f"no web server: its answer begins with {head[:20]!r}")
    if words[1] != "101":
        hint = f": {_HINTS[words[1]]}" if words[1] in _HINTS else ""
        raise WebSocketError(f"the server answers {' '.join(words[1:])!r} to the WebSocket upgrade{hint}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    digest = hashlib.sha1(key.encode() + _ACCEPT_SUFFIX, usedforsecurity=False).digest()
    if headers.get("sec-websocket-accept") != base64.b64encode(digest).decode():
        raise WebSocketError(
            "the server's answer to the WebSocket upgrade is not to our request: is a proxy between?"
        )
    if headers.get("sec-websocket-protocol", "").lower() != "mqtt":
        raise WebSocketError("the server speaks WebSocket, but not MQTT over it: is the path right?")


def encode_frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """One whole frame of a client, which has to be masked (section 5.3).

    Args:
        opcode: What it is.
        payload: Its content; of a control frame 125 bytes at most.
        mask: Four random bytes.
    """
    size = len(payload)
    if size < _LENGTH_16:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 0x80 | _LENGTH_16)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0x80 | _LENGTH_64)) + size.to_bytes(8, "big")
    # As one large number: a loop over bytes takes a hundred times as long.
    key = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return head + mask + masked.to_bytes(size, "big")


class FrameReader:
    """The frames of a server: gives out what they carry, and keeps what has to be answered.

    Memory is bounded by what is fed, and one control frame.

    Attributes:
        pings: The content of pings not yet answered; the caller takes them out.
        closed: Why the server closes, once it has said so: its code and text, such as `1001 going away`.
    """

    def __init__(self) -> None:
        self.pings: list[bytes] = []
        self.closed: str | None = None
        self._head = b""
        self._opcode = CONTINUATION
        self._left = 0
        self._control = b""

    def feed(self, data: bytes) -> bytes:
        """The bytes of the MQTT stream that `data` carries.

        Raises:
            WebSocketError: The server breaks the protocol.
        """
        found: list[bytes] = []
        while data and self.closed is None:
            if not self._left:
                data = self._read_head(data)
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                if self._opcode < CLOSE:
                    found.append(piece)
                else:
                    self._control += piece
            if not self._left and not self._head and self._opcode >= CLOSE:
                self._end_control()
        return b"".join(found)

    def _read_head(self, data: bytes) -> bytes:
        """Take a frame's header from `data`, or what there is of it; the rest."""
        head = self._head + data[:14]
        size = 2
        if len(head) >= size:
            length = head[1] & 0x7F
            size = {_LENGTH_16: 4, _LENGTH_64: 10}.get(length, 2)
        taken = size - len(self._head)
        if len(head) < size:
            self._head = head
            return b""
        rest, self._head = data[taken:], b""
        self._check_head(head[0], head[1])
        self._left = length if size == 2 else int.from_bytes(head[2:size], "big")  # noqa: PLR2004 (no extended length)
        return rest

    def _check_head(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if first & 0x70 or second & 0x80:
            raise WebSocketError("the server sends a frame with flags that nobody agreed on")
        if opcode not in {CONTINUATION, BINARY, CLOSE, PING, PONG}:
            raise WebSocketError(
                f"the server sends a frame of kind {opcode}; MQTT comes in binary frames only"
            )
        if opcode >= CLOSE and (not first & 0x80 or second & 0x7F > _CONTROL_BYTES_MAX):
            raise WebSocketError("the server sends a control frame that is too long, or in parts")
        self._opcode = opcode

    def _end_control(self) -> None:
        """A control frame is whole."""
        content, self._control = self._control, b""
        opcode, self._opcode = self._opcode, CONTINUATION
        if opcode == PING:
            self.pings.append(content)
        elif opcode == CLOSE:
            code = int.from_bytes(content[:_CODE_BYTES], "big") if len(content) >= _CODE_BYTES else 1005
            self.closed = f"{code} {content[_CODE_BYTES:].decode(errors='replace')}".strip()
