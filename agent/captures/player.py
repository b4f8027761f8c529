"""Plays a capture on a pseudo-terminal, with the timing that it had."""

from __future__ import annotations

import asyncio
import os
import select
import termios
import tty
from contextlib import suppress
from fcntl import ioctl
from itertools import islice
from struct import unpack
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.captures.format import Piece

LOOK_S: Final = 0.02
SETTLE_S: Final = 0.25
"""Who opens a port sets it up first, and throws away what has come until then."""
_PIECES_AT_ONCE: Final = 64
_TAKEN_LOOKS: Final = 5
"""So often in a row nothing must be left: between two of the kernel's buffers it may seem so for a moment."""


class Terminal:
    """A pseudo-terminal as a port. What is written while nobody has it open is gone, as with a USB adapter.

    Args:
        link: A symbolic link to make, so that the port has a name that stays.
    """

    def __init__(self, link: Path | None = None) -> None:
        self._link = link
        self._master = -1
        self.path = ""

    def __enter__(self) -> Self:
        self._master, slave = os.openpty()
        try:
            tty.setraw(slave)
            os.set_blocking(self._master, False)
            self.path = os.ttyname(slave)
        finally:
            os.close(slave)
        if self._link is not None:
            try:
                self._link.symlink_to(self.path)
            except OSError:
                os.close(self._master)
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._link is not None:
            self._link.unlink(missing_ok=True)
        os.close(self._master)

    @property
    def has_reader(self) -> bool:
        """Whether somebody has it open."""
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        return not any(event & select.POLLHUP for _, event in poll.poll(0))

    async def reader(self) -> None:
        """Wait until somebody has it open."""
        while not self.has_reader:  # noqa: ASYNC110 (the kernel tells nobody that a terminal was opened)
            await asyncio.sleep(LOOK_S)

    async def write(self, data: bytes) -> None:
        """Send; waits while the reader does not take it."""
        view = memoryview(data)
        while view and self.has_reader:
            self._throw_away_requests()
            try:
                view = view[os.write(self._master, view) :]
            except BlockingIOError:
                await asyncio.sleep(LOOK_S)

    async def taken(self) -> None:
        """Wait until the reader has taken everything, or has gone: closing throws away what is left."""
        looks = 0
        while looks < _TAKEN_LOOKS and self.has_reader:
            looks = 0 if self._left() else looks + 1
            await asyncio.sleep(LOOK_S)

    def _left(self) -> int:
        """Bytes that the reader has not read yet."""
        slave = os.open(self.path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            left: int = unpack("i", ioctl(slave, termios.FIONREAD, bytes(4)))[0]
            return left
        finally:
            os.close(slave)

    def _throw_away_requests(self) -> None:
        """What the reader asks for is not answered; left unread, it would stop the reader."""
        with suppress(OSError):
            os.read(self._master, 65536)


async def play(pieces: Iterator[Piece], terminal: Terminal, speed: float) -> int:
    """Send a capture's bytes, each at its time after the first reader came; how many there were.

    Args:
        pieces: What arrived.
        terminal: Where to send it.
        speed: How many times as fast; infinite is as fast as the reader takes it.
    """
    loop = asyncio.get_running_loop()
    await terminal.reader()
    await asyncio.sleep(SETTLE_S)
    began_s = loop.time()
    sent_bytes = 0
    while batch := await asyncio.to_thread(lambda: list(islice(pieces, _PIECES_AT_ONCE))):
        for piece in batch:
            await asyncio.sleep(max(0.0, began_s + piece.t / speed - loop.time()))
            await terminal.write(piece.data)
            sent_bytes += len(piece.data)
    await terminal.taken()
    return sent_bytes
