"""Sensors without hardware: one on a pseudo-terminal, one behind a TCP socket (`socket://`), with the same face.

A pseudo-terminal has no baud rate, parity or modem lines. Unplugging it throws away what the reader has not read yet:
let it read first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tty
from pathlib import Path
from typing import Protocol, Self


class Sensor(Protocol):
    """A sensor that the test holds in its hand."""

    port: str

    async def write(self, data: bytes) -> None:
        """Send; returns when the other side's buffers have taken it all."""

    async def plug(self) -> None:
        """Come (back) under the same name."""

    async def unplug(self) -> None:
        """Go away, as a cable that is pulled."""


class PtySensor:
    """A sensor on a pseudo-terminal that keeps its name (a symbolic link, like those in by-id) when replugged.

    Args:
        directory: Where the link is made.
    """

    def __init__(self, directory: Path) -> None:
        self.port = str(directory / "usb-sensor-if00")
        self.master = -1
        self._slave = -1

    async def __aenter__(self) -> Self:
        await self.plug()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.unplug()

    async def plug(self) -> None:
        self._make()

    async def unplug(self) -> None:
        if self.master >= 0:
            self._remove()

    def _make(self) -> None:
        self.master, self._slave = os.openpty()
        # Held open, so that writing before anyone reads is no error; raw, so that nothing is echoed.
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        Path(self.port).symlink_to(os.ttyname(self._slave))

    def _remove(self) -> None:
        Path(self.port).unlink()
        os.close(self.master)
        os.close(self._slave)
        self.master = self._slave = -1

    async def write(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.master, view) :]
            except BlockingIOError:
                writable = asyncio.Event()
                loop.add_writer(self.master, writable.set)
                try:
                    await writable.wait()
                finally:
                    loop.remove_writer(self.master)

    def read_available(self) -> bytes:
        """What the other side has written so far."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self.master, 65536)
        return b""


class SocketSensor:
    """A sensor behind a serial server; unplugging it resets the connection and refuses new ones."""

    def __init__(self) -> None:
        self.port = ""
        self._number = 0
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._connected = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.plug()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.unplug()

    async def plug(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._number)
        self._number = self._server.sockets[0].getsockname()[1]
        self.port = f"socket://127.0.0.1:{self._number}"

    async def unplug(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._connected.clear()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def hang_up(self) -> None:
        """End the connection in an orderly way, as a serial server that is restarted."""
        for writer in self._writers:
            writer.close()
            await writer.wait_closed()
        self._writers.clear()
        self._connected.clear()

    async def write(self, data: bytes) -> None:
        await self._connected.wait()
        for writer in self._writers:
            writer.write(data)
            await writer.drain()

    def _accept(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._connected.set()
