"""Whether bluetoothd really runs a passive scan that it was asked for.

It answers RegisterMonitor before it asks the kernel. What came of that it says by calling the monitor, an object of ours:
`Activate` when the scan runs, `Release` when it does not, or not any more (org.bluez.AdvertisementMonitor(5)). bleak answers
both calls and takes note of neither: it calls a scan running that hears nothing. So these calls are listened to here.

Kernels refuse monitors more often than one would think. Up to Linux 6.6 at least, a monitor that is added while the adapter is
switched off makes the kernel answer 'busy' to every later one, whoever asks, until the adapter is switched off once more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bleak.backends.bluezdbus.manager import get_global_bluez_manager
from dbus_fast import Message, MessageType

if TYPE_CHECKING:
    from collections.abc import Callable

    from bleak import BleakScanner
    from dbus_fast.aio import MessageBus

_MONITOR: Final = "org.bluez.AdvertisementMonitor1"
_ACTIVATE: Final = "Activate"
_RELEASE: Final = "Release"


class Monitors:
    """The monitors of an event loop, behind the passive scans of all its adapters."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._bus: MessageBus | None = None
        self._said: dict[str, str | ConnectionError] = {}
        """What bluetoothd called last, or why it can call nothing any more, by the path of the monitor."""
        self._released: dict[str, Callable[[], None]] = {}
        self._news = asyncio.Event()

    async def start(self, scanner: BleakScanner, released: Callable[[], None]) -> str:
        """Start a passive scan; `activated` must follow.

        Args:
            scanner: Not started yet.
            released: Called when bluetoothd ends it.

        Returns:
            The path of its monitor.

        Raises:
            BleakError: bluetoothd refuses it.
        """
        async with self._lock:  # so that the one that is new is this scanner's
            bus = await self._listen()
            before = self._paths(bus)
            self._forget_all_but(before)
            await scanner.start()
            (path,) = self._paths(bus) - before
        self._released[path] = released
        return path

    async def activated(self, path: str) -> bool:
        """Wait for what bluetoothd says about a monitor: whether the scan runs.

        Raises:
            ConnectionError: What `fail` was given.
        """
        while path not in self._said:
            self._news.clear()
            await self._news.wait()
        said = self._said[path]
        if isinstance(said, ConnectionError):
            raise said
        return said == _ACTIVATE

    def fail(self, path: str, error: ConnectionError) -> None:
        """Nothing more will be said about a monitor, and why."""
        self._said[path] = error
        self._news.set()

    async def _listen(self) -> MessageBus:
        """The bus over which bluetoothd calls: bleak's, which has no method for this."""
        bus = (await get_global_bluez_manager())._bus  # noqa: SLF001 (see above)
        assert bus is not None
        if bus is not self._bus:
            self._bus = bus
            bus.add_message_handler(self._handle)
        return bus

    def _paths(self, bus: MessageBus) -> set[str]:
        return {path for path, interfaces in bus._path_exports.items() if _MONITOR in interfaces}  # noqa: SLF001 (no method tells)

    def _forget_all_but(self, paths: set[str]) -> None:
        self._said = {path: member for path, member in self._said.items() if path in paths}
        self._released = {path: released for path, released in self._released.items() if path in paths}

    def _handle(self, message: Message) -> None:
        if message.message_type is not MessageType.METHOD_CALL or message.interface != _MONITOR:
            return
        if message.member in {_ACTIVATE, _RELEASE}:
            path, member = str(message.path), str(message.member)
            ran = self._said.get(path) == _ACTIVATE
            self._said[path] = member
            self._news.set()
            if member == _RELEASE and ran and self._is_ours(path):
                self._released[path]()

    def _is_ours(self, path: str) -> bool:
        """Whether the scan was not stopped meanwhile."""
        return self._bus is not None and path in self._released and path in self._paths(self._bus)
