"""A link with a round trip and a bandwidth, for measuring: a delay line, on which many packets are under way at once.

`tests.rigs.proxy` is for faults; it holds each chunk back before it takes the next, so nothing fills it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_READ_BYTES = 16384
_QUEUE_S = 1.0
"""What the link's queue holds beyond what is under way: then the sender has to wait, as with TCP."""


class SlowLink:
    """A TCP proxy on loopback.

    Args:
        port: Where the other end listens, on loopback.
        round_trip_s: Half of it in each direction.
        bytes_s: From the client to the server; infinite back.

    Attributes:
        port: Where it listens itself.
        passed_bytes: From the client, delivered.
    """

    def __init__(self, port: int, *, round_trip_s: float, bytes_s: float) -> None:
        self.port = 0
        self.passed_bytes = 0
        self._target = port
        self._half_s = round_trip_s / 2
        self._bytes_s = bytes_s
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, up_writer}
        try:
            up = asyncio.create_task(self._line(reader, up_writer, self._bytes_s), name="link-up")
            down = asyncio.create_task(self._line(up_reader, writer, float("inf")), name="link-down")
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            up_writer.transport.abort()
            writer.transport.abort()
            await asyncio.wait((up, down))
        finally:
            self._tasks.discard(task)
            self._writers -= {writer, up_writer}
            writer.close()
            up_writer.close()

    async def _line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bytes_s: float) -> None:
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        limited = bytes_s < float("inf")

        async def arrive() -> None:
            while True:
                at_s, data = await under_way.get()
                await asyncio.sleep(at_s - loop.time())
                writer.write(data)
                await writer.drain()
                self.passed_bytes += len(data) if limited else 0

        arriving = asyncio.create_task(arrive(), name="link-arrivals")
        try:
            free_s = loop.time()
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(_READ_BYTES):
                    free_s = max(free_s, loop.time()) + len(data) / bytes_s
                    under_way.put_nowait((free_s + self._half_s, data))
                    await asyncio.sleep(max(0.0, free_s - loop.time() - _QUEUE_S))
        finally:
            arriving.cancel()
