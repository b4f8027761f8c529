"""MQTT in a WebSocket, as a web server before a broker carries it. Debian's Mosquitto has no WebSockets of its own.

    async with WebSocketGateway(broker.port) as gateway:
        connect(f"ws://127.0.0.1:{gateway.port}/mqtt")

aiohttp's implementation of the protocol, which is not the program's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Self

from aiohttp import WSCloseCode, WSMsgType, web

if TYPE_CHECKING:
    from types import TracebackType

    from tests.rigs.certificates import Certificates

READ_BYTES = 65536


class WebSocketGateway:
    """Carries each WebSocket at `/mqtt` to a broker.

    Args:
        broker_port: On loopback.
        certificates: TLS with these.
        heartbeat_s: How often it pings; a client that does not answer is cut off.
        frame_bytes: Cut what the broker says into frames of this size; 0 leaves it as it comes.

    Attributes:
        port: Where it listens.
        asked: Path and query of each upgrade.
    """

    def __init__(
        self,
        broker_port: int,
        *,
        certificates: Certificates | None = None,
        heartbeat_s: float | None = None,
        frame_bytes: int = 0,
    ) -> None:
        self.port = 0
        self.asked: list[str] = []
        self._broker_port = broker_port
        self._certificates = certificates
        self._heartbeat_s = heartbeat_s
        self._frame_bytes = frame_bytes
        self._open: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/mqtt", self._serve)
        app.router.add_get("/other", self._serve_other)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        tls = None
        if self._certificates is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(self._certificates.server_cert_file, self._certificates.server_key_file)
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close_all(WSCloseCode.GOING_AWAY, b"")
        assert self._runner is not None
        await self._runner.cleanup()

    async def close_all(self, code: int, text: bytes) -> None:
        """Close every WebSocket, with a code and a text."""
        for socket in list(self._open):
            await socket.close(code=code, message=text)

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        self.asked.append(request.path_qs)
        socket = web.WebSocketResponse(
            protocols=("mqtt",), heartbeat=self._heartbeat_s, max_msg_size=0, compress=False
        )
        await socket.prepare(request)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._broker_port)
        self._open.add(socket)
        down = asyncio.create_task(self._down(reader, socket))
        try:
            async for message in socket:
                assert message.type is WSMsgType.BINARY
                writer.write(message.data)
                await writer.drain()
        finally:
            self._open.discard(socket)
            down.cancel()
            writer.close()
        return socket

    async def _down(self, reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(READ_BYTES):
                size = self._frame_bytes or len(data)
                for start in range(0, len(data), size):
                    await socket.send_bytes(data[start : start + size])
            await socket.close()

    async def _serve_other(self, request: web.Request) -> web.WebSocketResponse:
        """A WebSocket that is not for MQTT."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        return socket
