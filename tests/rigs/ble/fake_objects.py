"""The tree of objects that a fake bluetoothd shows on the bus, and its signals."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from typing import TYPE_CHECKING, Any

from dbus_fast import Message, Variant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbus_fast.aio import MessageBus

ADAPTER, DEVICE = "org.bluez.Adapter1", "org.bluez.Device1"
SERVICE, CHARACTERISTIC = "org.bluez.GattService1", "org.bluez.GattCharacteristic1"
MONITORS = "org.bluez.AdvertisementMonitorManager1"
OBJECT_MANAGER, PROPERTIES = "org.freedesktop.DBus.ObjectManager", "org.freedesktop.DBus.Properties"

_UNREAD_BYTES_MAX = 32 * 1024
"""Of a socket that holds 208 KiB unless the system says otherwise."""

Properties = dict[str, Variant]
Interfaces = dict[str, Properties]


class BluezError(Exception):
    """An error reply.

    Args:
        name: Of the error; a short one is below org.bluez.Error.
        text: Its message.
    """

    def __init__(self, name: str, text: str = "") -> None:
        super().__init__(name, text)
        self.name = name if "." in name else f"org.bluez.Error.{name}"
        self.text = text


class ObjectTree:
    """Objects with interfaces and properties; every change is a signal, as bluetoothd sends it.

    Args:
        bus: Where the signals go.
    """

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self.objects: dict[str, Interfaces] = {}

    def __contains__(self, path: object) -> bool:
        return path in self.objects

    def get(self, path: str, interface: str, name: str) -> Any:
        """The value of a property."""
        return self.objects[path][interface][name].value

    def add(self, path: str, interfaces: Interfaces) -> None:
        """A new object."""
        self.objects[path] = interfaces
        self._signal("/", OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", [path, interfaces])

    def remove(self, path: str) -> None:
        """An object goes, and those below it before it."""
        for below in sorted(self.objects, reverse=True):
            if below == path or below.startswith(f"{path}/"):
                interfaces = list(self.objects.pop(below))
                self._signal("/", OBJECT_MANAGER, "InterfacesRemoved", "oas", [below, interfaces])

    def change(
        self, path: str, interface: str, properties: Properties, invalidated: Sequence[str] = ()
    ) -> None:
        """Properties have new values, or none any more."""
        there = self.objects[path][interface]
        there.update(properties)
        gone = [name for name in invalidated if there.pop(name, None) is not None]
        if properties or gone:
            self._signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", [interface, properties, gone])

    async def room(self) -> None:
        """Wait until the bus has taken most of what was told: dbus-fast gives up a connection whose socket is full."""
        while (
            int.from_bytes(fcntl.ioctl(self._bus._fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
            > _UNREAD_BYTES_MAX
        ):
            await asyncio.sleep(0.001)

    def _signal(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        if self._bus.connected:
            self._bus.send(Message.new_signal(path, interface, member, signature, body))
