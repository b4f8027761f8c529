"""A port opened without any of the program's own code."""

from __future__ import annotations

import asyncio
import os
import tty
from typing import Self

_PATIENCE_S = 10.0


class RawPort:
    """Bytes to and from a terminal.

    Args:
        path: The terminal, or a link to it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._received = bytearray()
        self._news = asyncio.Event()

    def __enter__(self) -> Self:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._descriptor)
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _read(self) -> None:
        try:
            self._received += os.read(self._descriptor, 65536)
        except OSError:  # unplugged
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._news.set()

    def write(self, data: bytes) -> None:
        """Send a few bytes."""
        assert os.write(self._descriptor, data) == len(data)

    async def until(self, end: bytes) -> bytes:
        """What comes before the next `end`, if that is anything; waits for it."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                found, ended, rest = self._received.partition(end)
                if found and ended:
                    self._received = rest
                    return bytes(found)
                if ended:
                    self._received = rest
                    continue
                self._news.clear()
                await self._news.wait()
