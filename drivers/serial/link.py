"""One open connection to a port: bytes in, frames out, with bounded memory.

Bytes are kept as they arrive, stamped, and cut into frames only when somebody asks for one. When nobody does,
reading pauses at `QUEUE_BYTES_MAX`; then the kernel's buffer fills, and then flow control, where there is any, stops
the device.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from drivers.framing import FrameError
from drivers.serial.trouble import PortError, TroubleKind

if TYPE_CHECKING:
    from datetime import datetime

    from collectors.clock import Clock
    from drivers.framing import Framer

_log = logging.getLogger(__name__)

QUEUE_BYTES_MAX = 64 * 1024
"""Reading pauses above this and goes on below half of it: 0.7 s of a line at 921,600 baud."""

PIECE_BYTES = 512
"""How much is cut into frames at a time; it bounds the frames in memory and the time between two turns of the loop. On a
line that is stuck on the byte that frames begin with, each byte costs a check sequence over the longest frame."""

CLOSE_TIMEOUT_S = 5.0
"""How long closing may take before it is reported as stuck."""

SETTLE_GAP_S: Final = 0.3
"""A device that restarts says nothing for longer than this: what it had begun to say before it will not end."""

WITHIN_FRAME_S: Final = 0.1
"""A device that has begun a frame goes on within this: adapters hand bytes over every 16 ms, serial servers less often."""

_TURNS_TO_READ: Final = 3
"""Of the event loop: in the first it sees that there is something to read, in the next it has read it."""

_NS: Final = 1_000_000_000


class Arrival(NamedTuple):
    """A frame, or what was not one, and when its last byte arrived."""

    frame: bytes | FrameError
    timestamp: datetime
    up_ns: int


class _Chunk(NamedTuple):
    data: bytes
    timestamp: datetime
    up_ns: int
    late: bool
    """Whether it may have come long before it was read."""


class SerialLink(asyncio.Protocol):
    """The protocol of one connection; a new one for each.

    Args:
        name: The port, for messages.
        framer: Cuts the stream into frames.
        clock: Stamps what arrives.
        gap_s: A pause on the line after which a frame that is not complete is given up; None: never.
        silence_s: The connection has failed when no good frame comes for so long; None: never.
        settle_s: How long what is no frame is left out, since the device restarts.
    """

    def __init__(
        self,
        name: str,
        framer: Framer,
        clock: Clock,
        *,
        gap_s: float | None = None,
        silence_s: float | None = None,
        settle_s: float = 0.0,
    ) -> None:
        self.framer = framer
        self.floods = 0
        """How often reading had to pause."""
        self.settled_ns = 0
        """When the device has restarted (CLOCK_BOOTTIME)."""
        self._name = name
        self._clock = clock
        self._gap_ns = None if gap_s is None else round(gap_s * _NS)
        self._silence_ns = None if silence_s is None else round(silence_s * _NS)
        self._silence_s = silence_s
        self._settle_ns = round(settle_s * _NS)
        self._cut_ns: int | None = None
        """When the bytes arrived that the framer had last, if a pause after them is yet to be seen."""
        self._heard_ns = 0
        """When the latest good frame arrived, or the connection was made."""
        self._transport: asyncio.Transport | None = None
        self._chunks: deque[_Chunk] = deque()
        self._queued_bytes = 0
        self._paused = False
        self._resumed = False
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

    @property
    def speaks_until_ns(self) -> int | None:
        """Until when more may come of what the device has begun to say (CLOCK_BOOTTIME); None: it has said it all."""
        if self._cut_ns is None or self._cut_ns <= self._heard_ns:
            return None
        until_ns = self._cut_ns + round(WITHIN_FRAME_S * _NS)
        return until_ns if until_ns > self._clock.boottime_ns() else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The event loop begins to read."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._heard_ns = self._clock.boottime_ns()
        self.settled_ns = self._heard_ns + self._settle_ns

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        self._chunks.append(_Chunk(data, self._clock.now(), self._clock.boottime_ns(), self._resumed))
        self._resumed = False
        self._queued_bytes += len(data)
        self._news.set()
        if self._queued_bytes > QUEUE_BYTES_MAX and not self._paused:
            self._paused = True
            assert self._transport is not None
            self._transport.pause_reading()
            self.floods += 1
            if self.floods == 1:
                _log.warning(
                    "%s: %s",
                    self._name,
                    "the device sends faster than its frames are taken: the port is not read for a while, and what the"
                    " system cannot hold is lost unless flow control stops the device",
                )

    def connection_lost(self, exc: Exception | None) -> None:
        """The port is closed, by us or because the device is gone."""
        if not self._why:
            self._why = f"connection lost: {exc}" if exc else "the other side closed the connection"
        self._lost.set()
        self._news.set()

    @property
    def is_flooded(self) -> bool:
        """Whether reading pauses, since more has come than was taken."""
        return self._paused

    async def next_arrival(self) -> Arrival:
        """The next frame, or what was not one; waits for it. What arrived before a loss is given out first.

        Raises:
            PortError: The connection has ended, and everything that arrived was given out; or it is silent.
        """
        if self._frames:
            return self._frames.popleft()
        arrival = await self.arrival_until(None)
        assert arrival is not None
        return arrival

    async def arrival_until(self, deadline_ns: int | None) -> Arrival | None:
        """Like `next_arrival`, but None when nothing comes before a time (CLOCK_BOOTTIME).

        Raises:
            PortError: The connection has ended, and everything that arrived was given out; or it is silent.
        """
        while not self._frames:
            if self._chunks:
                self._cut()
                if self._chunks:
                    # Who never has to wait must leave turns to everything else on this loop.
                    await asyncio.sleep(0)
            elif self._lost.is_set():
                self._finish()
            elif not await self._more(deadline_ns):
                now_ns = self._clock.boottime_ns()
                if (pause_ns := self._pause_ns()) is not None and now_ns >= pause_ns:
                    self._pause()
                elif (silent_ns := self._silent_ns()) is not None and now_ns >= silent_ns:
                    if await self._is_quiet():
                        self._fall_silent()
                elif deadline_ns is not None and now_ns >= deadline_ns:
                    return None
        return self._frames.popleft()

    async def _more(self, deadline_ns: int | None) -> bool:
        """Wait for bytes, or the end of the connection; False when something else is due before."""
        self._news.clear()
        due = [at for at in (deadline_ns, self._pause_ns(), self._silent_ns()) if at is not None]
        if not due:
            await self._news.wait()
            return True
        left_ns = min(due) - self._clock.boottime_ns()
        if left_ns <= 0:
            return False
        try:
            async with asyncio.timeout(left_ns / _NS):
                await self._news.wait()
        except TimeoutError:
            return self._news.is_set()
        return True

    async def _is_quiet(self) -> bool:
        """Whether nothing waits to be read either: this program itself may have been held up for so long."""
        for _ in range(_TURNS_TO_READ):
            await asyncio.sleep(0)
        return not self._news.is_set()

    def _pause_ns(self) -> int | None:
        """When the line has paused, if nothing comes until then."""
        if self._cut_ns is None:
            return None
        gap_ns = self._gap_after(self._cut_ns)
        return None if gap_ns is None else self._cut_ns + gap_ns

    def _gap_after(self, at_ns: int) -> int | None:
        if at_ns >= self.settled_ns:
            return self._gap_ns
        settle_gap_ns = round(SETTLE_GAP_S * _NS)
        return settle_gap_ns if self._gap_ns is None else min(self._gap_ns, settle_gap_ns)

    def _silent_ns(self) -> int | None:
        """When the device has been silent for too long, if nothing comes until then."""
        return None if self._silence_ns is None else self._heard_ns + self._silence_ns

    def _fall_silent(self) -> None:
        counts = self.framer.counts
        what = "nothing" if not (counts.frames or counts.dropped_bytes) else "no good frame"
        raise PortError(
            TroubleKind.SILENT,
            f"{self._name}: {what} for {self._silence_s:g} s (`silent_after`): the port is opened anew",
        )

    def _pause(self) -> None:
        """The line has paused: what comes next is a new beginning."""
        came_ns, self._cut_ns = self._cut_ns, None
        now, up_ns = self._clock.now(), self._clock.boottime_ns()
        self._take(self.framer.finish(), now, up_ns, up_ns if came_ns is None else came_ns)

    def end_frame(self) -> list[Arrival]:
        """Give up a frame that is not complete by now; what is to be said of it."""
        while self._chunks:
            self._cut()
        self._pause()
        ended = list(self._frames)
        self._frames.clear()
        return ended

    def _take(self, found: list[bytes | FrameError], timestamp: datetime, up_ns: int, came_ns: int) -> None:
        """Queue what the framer has found in bytes, the latest of which came at `came_ns`."""
        for frame in found:
            if not isinstance(frame, FrameError):
                self._heard_ns = max(self._heard_ns, up_ns)
            elif came_ns < self.settled_ns:
                continue  # the device restarts
            self._frames.append(Arrival(frame, timestamp, up_ns))

    def write(self, data: bytes) -> bool:
        """Send a few bytes; False when the device has not taken yet what it was sent before."""
        if not self.is_open:
            return False  # whoever reads will be told
        assert self._transport is not None
        if self._transport.get_write_buffer_size():
            return False
        self._transport.write(data)
        return True

    async def close(self) -> None:
        """Close the port at once; nothing that is still to be written is waited for. Idempotent.

        Raises:
            PortError: It did not close in time: the adapter may be stuck.
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
            raise PortError(
                TroubleKind.STUCK,
                f"{self._name}: not closed within {CLOSE_TIMEOUT_S:g} s: the adapter may be stuck",
            ) from None

    def _cut(self) -> None:
        """Cut the oldest bytes into frames, a piece at most."""
        chunk = self._chunks.popleft()
        piece = chunk.data[:PIECE_BYTES]
        if len(chunk.data) > PIECE_BYTES:
            self._chunks.appendleft(chunk._replace(data=chunk.data[PIECE_BYTES:]))
        self._queued_bytes -= len(piece)
        if not chunk.late and (pause_ns := self._pause_ns()) is not None and chunk.up_ns > pause_ns:
            self._pause()
        self._cut_ns = chunk.up_ns
        self._take(self.framer.feed(piece), chunk.timestamp, chunk.up_ns, chunk.up_ns)
        if self._paused and self._queued_bytes <= QUEUE_BYTES_MAX // 2:
            self._paused, self._resumed = False, True
            self._heard_ns = self._clock.boottime_ns()  # it was not the device that was silent
            assert self._transport is not None
            self._transport.resume_reading()

    def _finish(self) -> None:
        """The connection has ended and everything that arrived was cut: what is left is no frame.

        Raises:
            PortError: Nothing is left.
        """
        if not self._finished:
            self._finished = True
            self._pause()
        if not self._frames:
            raise PortError(TroubleKind.LOST, f"{self._name}: {self._why}")
