"""Prometheus asks over HTTP: `GET /metrics`, and nothing else. No library: one request a connection, answered and closed.

What is missing of each device's readings is looked up beside it, over a connection of its own to the database, and for at most a
twentieth of the time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Self

from agent.receiver.gaps import by_device
from agent.receiver.meter import CONTENT_TYPE
from agent.receiver.store import StoreError

if TYPE_CHECKING:
    from agent.receiver.meter import Meter
    from agent.receiver.store import ReadingStore

_log = logging.getLogger(__name__)

GAPS_EVERY_S = 60.0
"""At least so long between two looks for what is missing."""
_GAPS_SHARE = 20
"""And so many times as long as the last one took."""
_REQUEST_TIMEOUT_S = 5.0
_REQUEST_LINES_MAX = 100
_CONNECTIONS_MAX = 20


class MetricsServer:
    """Answers Prometheus; an asynchronous context manager.

    Args:
        host: Where to listen.
        port: Likewise; 0 takes a free one.
        meter: What there is to tell.
    """

    def __init__(self, host: str, port: int, meter: Meter) -> None:
        self.url = ""
        self._address = (host, port)
        self._meter = meter
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            OSError: The address cannot be had.
        """
        self._server = await asyncio.start_server(self._accept, *self._address, limit=8192)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening; who is being answered is cut off."""
        assert self._server is not None
        self._server.close()
        for task in self._answering:
            task.cancel()
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            if len(self._answering) <= _CONNECTIONS_MAX:
                async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                    writer.write(self._answer(await _request_line(reader)))
                    await writer.drain()
        except (OSError, ValueError, EOFError) as error:
            _log.debug("receive: metrics: %s", error)
        finally:
            self._answering.discard(task)
            writer.close()

    def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        path = rest.split(b" ")[0].split(b"?")[0]
        if path != b"/metrics":
            return _response("404 Not Found", "text/plain", b"it is /metrics\n")
        if method not in {b"GET", b"HEAD"}:
            return _response("405 Method Not Allowed", "text/plain", b"GET\n")
        body = self._meter.text().encode()
        return _response("200 OK", CONTENT_TYPE, body, head_only=method == b"HEAD")


async def watch_gaps(store: ReadingStore, meter: Meter) -> None:
    """Look for what is missing, again and again, until cancelled.

    Args:
        store: A connection of its own: commits do not wait behind it.
        meter: Is told.
    """
    failing = False
    while True:
        began = time.monotonic()
        try:
            async with store:
                meter.missing(by_device(await store.coverage()))
            failing = False
        except StoreError as error:
            if not failing:
                _log.warning("receive: cannot look for what is missing: %s", error)
            failing = True
        await asyncio.sleep(max(GAPS_EVERY_S, _GAPS_SHARE * (time.monotonic() - began)))


async def _request_line(reader: asyncio.StreamReader) -> bytes:
    """The first line, once the head of the request is complete."""
    first = await reader.readuntil(b"\n")
    for _ in range(_REQUEST_LINES_MAX):
        if not (await reader.readuntil(b"\n")).strip():
            return first
    raise ValueError("a request with too many lines")


def _response(status: str, content_type: str, body: bytes, *, head_only: bool = False) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + (b"" if head_only else body)
