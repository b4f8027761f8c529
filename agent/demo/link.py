"""The link to the cloud, which the demo can cut: a TCP relay on loopback.

Cut, it resets what is connected and refuses what comes, as a modem that lost its network does.
"""

from __future__ import annotations

import asyncio
from typing import Self

_CHUNK_BYTES = 65536
_HOST = "127.0.0.1"


class Link:
    """A relay from a port of its own to `target_port`; an asynchronous context manager."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.restore()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    @property
    def up(self) -> bool:
        """Whether anything gets through."""
        return self._server is not None

    async def restore(self) -> None:
        """Let everything through."""
        self._server = await asyncio.start_server(self._relay, _HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Reset every connection, and refuse new ones."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await server.wait_closed()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(_HOST, self._target_port)
        except OSError:
            self._drop(writer)
            return
        self._writers.add(far_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer), name="demo-link-up")
                group.create_task(self._pump(far_reader, writer), name="demo-link-down")
        finally:
            self._drop(writer)
            self._drop(far_writer)

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.transport.abort()

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass  # the other direction sees the end as well
        finally:
            # Half-open connections are not shown here: one end gone is both gone.
            writer.transport.abort()
