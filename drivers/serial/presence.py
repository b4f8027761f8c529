"""Notices that a port has come back: a cable that is plugged in again need not wait for the next attempt."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from drivers.serial.trouble import PortError
from drivers.serial.usb import find_port
from drivers.transport.apart import run_apart

if TYPE_CHECKING:
    from drivers.serial.config import SerialConfig

LOOK_S: Final = 0.5


class _Node(NamedTuple):
    """Which device file it is. Plugged in again it is another one; when udev has given it to its group it has changed."""

    device: int
    inode: int
    terminal: int
    changed_ns: int


class Presence:
    """Whether there is a port where there was none, or another one.

    Args:
        config: The port.
    """

    def __init__(self, config: SerialConfig) -> None:
        self._config = config
        self._tried: _Node | None = None

    def note(self) -> None:
        """It is about to be opened; blocks."""
        self._tried = self._look()

    async def changed(self) -> None:
        """Return when opening it may succeed where the last attempt did not."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                node = await run_apart(f"look {self._config.name}", self._look)
            except ConnectionError:  # a look hangs
                continue
            if node is not None and node != self._tried:
                return

    def _look(self) -> _Node | None:
        try:
            path = self._config.port or find_port(self._config.configured_usb)
            found = os.stat(path)  # noqa: PTH116 (it follows the link, and costs a system call)
        except (OSError, PortError):
            return None
        return _Node(found.st_dev, found.st_ino, found.st_rdev, found.st_ctime_ns)
