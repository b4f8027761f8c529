"""One open connection to a port: bytes in, frames out, with bounded memory.

Bytes are kept as they arrive, stamped, and cut into frames only when somebody asks for one. When nobody does,
reading pauses at `QUEUE_BYTES_MAX`; then the kernel's buffer fills, and then flow control, where there is any, stops
the device.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from collectors.clock import Clock
    from drivers.framing import FrameError, Framer

QUEUE_BYTES_MAX = 64 * 1024
"""Reading pauses above this and goes on below half of it: 0.7 s of a line at 921,600 baud."""

PIECE_BYTES = 4096
"""How much is cut into frames at a time; it bounds the frames in memory and the time between two turns of the loop."""

CLOSE_TIMEOUT_S = 5.0
"""How long closing may take before it is reported as stuck."""


class Arrival(NamedTuple):
    """A frame, or what was not one, and when its last byte arrived."""

    frame: bytes | FrameError
    timestamp: datetime
    up_ns: int


class _Chunk(NamedTuple):
    data: bytes
    timestamp: datetime
    up_ns: int


class SerialLink(asyncio.Protocol):
    """The protocol of one connection; a new one for each.

    Args:
        name: The port, for messages.
        framer: Cuts the stream into frames.
        clock: Stamps what arrives.
        gap_s: A pause on the line after which a frame that is not complete is given up; None: never.
    """

    def __init__(self, name: str, framer: Framer, clock: Clock, *, gap_s: float | None = None) -> None:
        self.framer = framer
        self._gap_s = gap_s
        self._cut_up_ns: int | None = None
        """When the bytes arrived that the framer had last, if a pause after them is yet to be seen."""
        self._name = name
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._chunks: deque[_Chunk] = deque()
        self._queued_bytes = 0
        self._paused = False
        self._frames: deque[Arrival] = deque()
        self._news = asyncio.Event()
        self._lost = asyncio.Event()
        self._finished = False
        self._why = ""

    @property
    def queued_bytes(self) -> int:
        """Bytes that arrived and are not yet cut into frames."""
        return self._queued_bytes

    @property
    def is_open(self) -> bool:
        """Whether bytes can still arrive."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The event loop begins to read."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        self._chunks.append(_Chunk(data, self._clock.now(), self._clock.boottime_ns()))
        self._queued_bytes += len(data)
        self._news.set()
        if self._queued_bytes > QUEUE_BYTES_MAX and not self._paused:
            self._paused = True
            assert self._transport is not None
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The port is closed, by us or because the device is gone."""
        if not self._why:
            self._why = f"connection lost: {exc}" if exc else "the other side closed the connection"
        self._lost.set()
        self._news.set()

    async def next_arrival(self) -> Arrival:
        """The next frame, or what was not one; waits for it. What arrived before a loss is given out first.

        Raises:
            ConnectionError: The connection has ended, and everything that arrived was given out.
        """
        while not self._frames:
            if self._chunks:
                self._cut()
                if self._chunks:
                    # Who never has to wait must leave turns to everything else on this loop.
                    await asyncio.sleep(0)
            elif self._lost.is_set():
                self._finish()
            elif not await self._more():
                self._pause()
        return self._frames.popleft()

    async def _more(self) -> bool:
        """Wait for bytes, or the end of the connection; False when the line pauses instead."""
        self._news.clear()
        if self._gap_s is None or self._cut_up_ns is None:
            await self._news.wait()
            return True
        left_s = self._gap_s - (self._clock.boottime_ns() - self._cut_up_ns) / 1e9
        try:
            async with asyncio.timeout(left_s):
                await self._news.wait()
        except TimeoutError:
            return self._news.is_set()
        return True

    def _pause(self) -> None:
        """The line has paused: what comes next is a new beginning."""
        self._cut_up_ns = None
        now, up_ns = self._clock.now(), self._clock.boottime_ns()
        self._frames.extend(Arrival(frame, now, up_ns) for frame in self.framer.finish())

    async def close(self) -> None:
        """Close the port at once; nothing that is still to be written is waited for. Idempotent.

        Raises:
            ConnectionError: It did not close in time: the adapter may be stuck.
        """
        transport = self._transport
        if transport is None or self._lost.is_set():
            return
        self._why = self._why or "closed"
        # A transport that is closing must not be aborted again, unless it only waits for a peer to read.
        if not transport.is_closing() or transport.get_write_buffer_size():
            transport.abort()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._lost.wait()
        except TimeoutError:
            raise ConnectionError(
                f"{self._name}: not closed within {CLOSE_TIMEOUT_S:g} s: the adapter may be stuck"
            ) from None

    def _cut(self) -> None:
        """Cut the oldest bytes into frames, a piece at most."""
        chunk = self._chunks.popleft()
        piece = chunk.data[:PIECE_BYTES]
        if len(chunk.data) > PIECE_BYTES:
            self._chunks.appendleft(chunk._replace(data=chunk.data[PIECE_BYTES:]))
        self._queued_bytes -= len(piece)
        if self._gap_s is not None:
            if self._cut_up_ns is not None and chunk.up_ns - self._cut_up_ns > self._gap_s * 1e9:
                self._pause()
            self._cut_up_ns = chunk.up_ns
        self._frames.extend(Arrival(frame, chunk.timestamp, chunk.up_ns) for frame in self.framer.feed(piece))
        if self._paused and self._queued_bytes <= QUEUE_BYTES_MAX // 2:
            self._paused = False
            assert self._transport is not None
            self._transport.resume_reading()

    def _finish(self) -> None:
        """The connection has ended and everything that arrived was cut: what is left is no frame.

        Raises:
            ConnectionError: Nothing is left.
        """
        if not self._finished:
            self._finished = True
            self._pause()
        if not self._frames:
            raise ConnectionError(f"{self._name}: {self._why}")
