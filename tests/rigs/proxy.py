"""A TCP proxy on loopback that misbehaves on demand: a bad network in one process.

    async with ChaosProxy(("127.0.0.1", broker.port)) as proxy:
        connect(proxy.port)
        proxy.reset_all()

Directions are named from the client: `up` is what it sends, `down` what it receives.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from types import TracebackType

Direction = Literal["up", "down"]
DIRECTIONS: tuple[Direction, Direction] = ("up", "down")
READ_BYTES = 65536


@dataclass
class Weather:
    """What the network does to one direction."""

    latency_s: float = 0.0
    """Delay of each chunk."""
    jitter_s: float = 0.0
    """Up to this much more or less."""
    chunk_bytes: int = 0
    """Pass pieces of this size, 0 as they come."""
    rate_bytes_s: float = 0.0
    """Bytes a second, 0 is unlimited."""
    cut_after_bytes: int | None = None
    """Let exactly this many more bytes through, then reset the connection they were on."""


@dataclass(eq=False)
class Link:
    """One proxied connection."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    passed: dict[Direction, int] = field(default_factory=lambda: dict.fromkeys(DIRECTIONS, 0))


class ChaosProxy:
    """Forwards connections to `upstream`, and does to them what a test asks for.

    Attributes:
        port: Where it listens (after start).
        connections: How many connections were accepted.
        refuse: Reset every new connection.
        weather: How each direction behaves, for links old and new.
        passed: Bytes forwarded so far, by direction.
    """

    def __init__(self, upstream: tuple[str, int], *, rng: random.Random | None = None) -> None:
        self.upstream = upstream
        self.port = 0
        self.connections = 0
        self.refuse = False
        self.weather: dict[Direction, Weather] = {direction: Weather() for direction in DIRECTIONS}
        self.passed: dict[Direction, int] = dict.fromkeys(DIRECTIONS, 0)
        self._rng = rng or random.Random(1)
        self._open: dict[Direction, asyncio.Event] = {}
        self._links: set[Link] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, port: int = 0) -> None:
        """Listen on loopback; port 0 takes a free one."""
        self._open = {direction: asyncio.Event() for direction in DIRECTIONS}
        self.heal()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Reset every connection and stop listening; returns when all is closed."""
        if self._server is None:
            return
        self._server.close()
        self.heal()  # nobody waits in a black hole any more
        while self._handlers:
            self.reset_all()  # again, for one that was just connecting
            await asyncio.wait(self._handlers, timeout=0.02)
        await self._server.wait_closed()
        self._server = None

    @property
    def links(self) -> int:
        """How many connections are open now."""
        return len(self._links)

    def set_weather(self, *directions: Direction, **changes: float | None) -> None:
        """Change fields of `Weather`, for the given directions or for both."""
        for direction in directions or DIRECTIONS:
            for name, value in changes.items():
                if not hasattr(self.weather[direction], name):
                    raise AttributeError(f"Weather has no field {name}")
                setattr(self.weather[direction], name, value)

    def blackhole(self, *directions: Direction) -> None:
        """Hold every byte, keep sockets open: a pulled cable, a half-open link. `heal` lets them go."""
        for direction in directions or DIRECTIONS:
            self._open[direction].clear()

    def heal(self) -> None:
        """A perfect network again; bytes held in a black hole are delivered."""
        self.refuse = False
        for direction in DIRECTIONS:
            self.weather[direction] = Weather()
            self._open[direction].set()

    def reset_all(self) -> None:
        """RST on both sides of every open connection."""
        for link in list(self._links):
            _reset(link.client)
            _reset(link.server)

    def half_close(self) -> None:
        """The server's side dies by RST; the client's stays open and hears nothing any more."""
        self.blackhole()
        for link in list(self._links):
            _reset(link.server)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            if self.refuse:
                _reset(writer)
                return
            try:
                up_reader, up_writer = await asyncio.open_connection(*self.upstream)
            except OSError:
                _reset(writer)
                return
            await self._forward(reader, Link(writer, up_writer), up_reader)
        finally:
            self._handlers.discard(task)

    async def _forward(
        self, reader: asyncio.StreamReader, link: Link, up_reader: asyncio.StreamReader
    ) -> None:
        for writer in (link.client, link.server):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, link.server, "up", link), name="proxy-up")
                group.create_task(self._pump(up_reader, link.client, "down", link), name="proxy-down")
        finally:
            self._links.discard(link)
            for writer in (link.client, link.server):
                writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction, link: Link
    ) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):  # the link was reset under us
            while data := await reader.read(READ_BYTES):
                if not await self._deliver(data, writer, direction, link):
                    return
            await self._open[direction].wait()
            if writer.can_write_eof():
                writer.write_eof()

    async def _deliver(
        self, data: bytes, writer: asyncio.StreamWriter, direction: Direction, link: Link
    ) -> bool:
        """Forward one chunk through the weather; False when it cut the link."""
        await self._open[direction].wait()
        weather = self.weather[direction]
        if weather.latency_s or weather.jitter_s:
            delay = weather.latency_s + self._rng.uniform(-weather.jitter_s, weather.jitter_s)
            await asyncio.sleep(max(0.0, delay))
        cut = weather.cut_after_bytes
        if cut is not None:
            weather.cut_after_bytes = max(0, cut - len(data))
            data = data[:cut]
        size = weather.chunk_bytes or len(data) or 1
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            writer.write(piece)
            await writer.drain()
            self.passed[direction] += len(piece)
            link.passed[direction] += len(piece)
            await asyncio.sleep(len(piece) / weather.rate_bytes_s if weather.rate_bytes_s else 0)
        if weather.cut_after_bytes == 0:
            weather.cut_after_bytes = None
            writer.close()  # what was written leaves first: exactly so many bytes arrive
            await asyncio.sleep(0)
            _reset(link.server if writer is link.client else link.client)
            return False
        return True


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close by RST, which throws away what is not yet sent."""
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
