"""Writes down what a port says, through disconnections, until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, Final

from agent.captures.format import Piece, encode_header, encode_note, encode_piece
from collectors.interfaces import Reappearing
from collectors.metadata_keys import UP_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, BinaryIO

    from collectors.clock import Clock
    from collectors.interfaces import IDataSource

RETRY_S: Final = 1.0


class Recorder:
    """One recording.

    Args:
        source: Gives what arrives, unframed.
        file: Unbuffered: a line that was written is in the file, whatever happens to this program.
        settings: Of the port, for the header.
        clock: The time.
        tell: Takes what happens to the port, for people.
    """

    def __init__(
        self,
        source: IDataSource,
        file: BinaryIO,
        settings: Mapping[str, Any],
        clock: Clock,
        tell: Callable[[str], None],
    ) -> None:
        self.pieces = 0
        self.received_bytes = 0
        self._source = source
        self._file = file
        self._settings = settings
        self._clock = clock
        self._tell = tell
        self._began_ns = 0

    @property
    def elapsed_s(self) -> float:
        """Since the port was first open."""
        return (self._clock.boottime_ns() - self._began_ns) / 1e9 if self._began_ns else 0.0

    async def run(self) -> None:
        """Record until cancelled.

        Raises:
            ConnectionError: The port cannot be opened at the start.
            OSError: The file takes no more; it holds whole lines.
        """
        await self._source.connect()
        try:
            self._began_ns = self._clock.boottime_ns()
            started = self._clock.now().isoformat()
            await self._write(encode_header({"started": started, **self._settings}))
            while True:
                try:
                    await self._listen()
                except ConnectionError as error:
                    await self._note(str(error))
                await self._come_back()
        finally:
            await self._source.disconnect()

    async def _listen(self) -> None:
        async for data in self._source.collect_stream():
            self.pieces += 1
            self.received_bytes += len(data.raw_data)
            t = (data.metadata[UP_NS] - self._began_ns) / 1e9
            await self._write(encode_piece(Piece(max(0.0, t), data.raw_data)))

    async def _come_back(self) -> None:
        """Open the port again, for as long as it takes."""
        while True:
            await self._pause()
            try:
                await self._source.disconnect()
                await self._source.connect()
            except ConnectionError:
                continue
            await self._note("connected again")
            return

    async def _pause(self) -> None:
        if not isinstance(self._source, Reappearing):
            await asyncio.sleep(RETRY_S)
            return
        try:
            async with asyncio.timeout(RETRY_S):
                await self._source.reappeared()
        except TimeoutError:
            return

    async def _note(self, note: str) -> None:
        self._tell(note)
        await self._write(encode_note(self.elapsed_s, note))

    async def _write(self, line: bytes) -> None:
        await asyncio.to_thread(_append, self._file, line)


def _append(file: BinaryIO, line: bytes) -> None:
    """Add a line, or nothing.

    Raises:
        OSError: The disk takes no more.
    """
    size = file.tell()
    try:
        whole = file.write(line) == len(line)
    except OSError:
        file.truncate(size)
        raise
    if not whole:
        file.truncate(size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
