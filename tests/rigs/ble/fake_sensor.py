"""A sensor that the fake bluetoothd can hear, connect to, read and be notified by."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dbus_fast import Variant

from tests.rigs.ble.fake_objects import CHARACTERISTIC, DEVICE, SERVICE, BluezError, Interfaces, Properties
from tests.rigs.ble.world import Advertisement, Characteristic, uuid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.rigs.ble.fake_bluez import FakeBluez

ADVERTISING_INTERVAL_S = 0.03
GENERIC_ATTRIBUTE = 0x1801


class FakeSensor:
    """One sensor.

    Args:
        bluez: Who hears it.
        address: Its own.
        gatt: Its services, if it can be connected to.

    Attributes:
        rssi: How well it is heard, dBm.
        connect_errors: What the next attempts to connect meet.
        read_errors: What the next reads meet.
        connect_takes_s: How long a connection takes.
        disconnect_takes_s: How long it takes to end one.
        resolves: Whether its services can be discovered.
        subscriptions: Who is notified of which object, by the bus name of the subscriber.
        connects: How often it was connected to.
    """

    def __init__(
        self, bluez: FakeBluez, address: str, gatt: Mapping[int, Sequence[Characteristic]] | None = None
    ) -> None:
        self.address = address
        self.rssi = -60
        self.connect_errors: list[BluezError] = []
        self.read_errors: list[BluezError] = []
        self.connect_takes_s = 0.0
        self.disconnect_takes_s = 0.0
        self.resolves = True
        self.subscriptions: set[tuple[str, str]] = set()
        self.connects = 0
        self._bluez = bluez
        self._gatt = gatt or {}
        self._advertisement: Advertisement | None = None
        self._in_range = True

    # What it does by itself

    async def advertise(self, advertisement: Advertisement) -> None:
        """Send this again and again, until told otherwise."""
        self._advertisement = advertisement
        self.say(advertisement)

    async def fall_silent(self) -> None:
        """Send nothing any more."""
        self._advertisement = None

    async def live(self) -> None:
        """Advertise at the interval, while in range and not connected."""
        while True:
            await asyncio.sleep(ADVERTISING_INTERVAL_S)
            if self._advertisement is not None:
                self.say(self._advertisement)

    def say(self, advertisement: Advertisement) -> None:
        """Send one advertisement."""
        if not self._in_range or self.connected:
            return
        active = self._bluez.hears(advertisement)
        if active is None:
            return
        properties = self._properties(advertisement, with_name=active)
        tree = self._bluez.tree
        if self.path in tree:
            known = tree.objects[self.path][DEVICE]
            # A passive scan tells what has changed only.
            if active or any(known.get(name) != value for name, value in properties.items()):
                tree.change(self.path, DEVICE, properties)
            return
        flags = ("Paired", "Bonded", "Trusted", "Blocked", "Connected", "ServicesResolved", "LegacyPairing")
        base = {
            "Address": Variant("s", self.address),
            "AddressType": Variant("s", "random"),
            "Alias": Variant("s", self.address.replace(":", "-")),
            "Adapter": Variant("o", self._bluez.adapter),
            **{name: Variant("b", False) for name in flags},  # noqa: FBT003 (a D-Bus value)
        }
        tree.add(self.path, {DEVICE: base | properties})

    def _properties(self, advertisement: Advertisement, *, with_name: bool) -> Properties:
        resolved = [uuid(GENERIC_ATTRIBUTE), *map(uuid, self._gatt)] if self.connects else []
        found: Properties = {
            "RSSI": Variant("n", self.rssi),
            # Once connected, bluetoothd mixes what it found by GATT into what is advertised.
            "UUIDs": Variant("as", list(dict.fromkeys([*map(uuid, advertisement.services), *resolved]))),
        }
        if advertisement.manufacturer_data:
            data = {
                company: Variant("ay", value) for company, value in advertisement.manufacturer_data.items()
            }
            found["ManufacturerData"] = Variant("a{qv}", data)
        if advertisement.service_data:
            services = {
                uuid(short): Variant("ay", value) for short, value in advertisement.service_data.items()
            }
            found["ServiceData"] = Variant("a{sv}", services)
        if advertisement.tx_power is not None:
            found["TxPower"] = Variant("n", advertisement.tx_power)
        if advertisement.name is not None and with_name:
            found |= {"Name": Variant("s", advertisement.name), "Alias": Variant("s", advertisement.name)}
        return found

    @property
    def subscribed(self) -> bool:
        """Whether somebody is connected and wants notifications."""
        return bool(self.subscriptions)

    async def notify(self, short: int, value: bytes) -> bool:
        """Notify whoever is subscribed; whether anybody is."""
        subscribed = {path for _, path in self.subscriptions}
        paths = [path for path, known in self._paths() if known.short == short and path in subscribed]
        for path in paths:
            self._bluez.tree.change(path, CHARACTERISTIC, {"Value": Variant("ay", value)})
        await self._bluez.tree.room()
        return bool(paths)

    async def drop(self) -> None:
        """End the connection, from the sensor's side."""
        self.go_down()

    async def leave(self) -> None:
        """Go out of range: an open connection ends by its supervision time-out."""
        self._in_range = False
        self.go_down()

    async def come_back(self) -> None:
        """Be in range again."""
        self._in_range = True

    def forget(self) -> None:
        """What bluetoothd does with a device that it has not heard for a while."""
        self.go_down()
        self._bluez.tree.remove(self.path)

    # What bluetoothd does with it

    @property
    def path(self) -> str:
        """Of its object."""
        return f"{self._bluez.adapter}/dev_{self.address.replace(':', '_')}"

    @property
    def connected(self) -> bool:
        """Whether a client is connected."""
        return self.path in self._bluez.tree and bool(self._bluez.tree.get(self.path, DEVICE, "Connected"))

    def _paths(self) -> Iterator[tuple[str, Characteristic]]:
        handle = 10
        for characteristics in self._gatt.values():
            service_path = f"{self.path}/service{handle:04x}"
            handle += 1
            for characteristic in characteristics:
                yield f"{service_path}/char{handle:04x}", characteristic
                handle += 3

    async def connect(self) -> None:
        """Answer a client's Connect."""
        await asyncio.sleep(self.connect_takes_s)
        while not self._in_range:
            await asyncio.sleep(ADVERTISING_INTERVAL_S)
        if self.connect_errors:
            raise self.connect_errors.pop(0)
        if self.connected:
            return
        self.connects += 1
        self._bluez.tree.change(self.path, DEVICE, {"Connected": Variant("b", True)})  # noqa: FBT003 (a D-Bus value)
        if self.resolves:
            self._show_services()

    def _show_services(self) -> None:
        tree, services = self._bluez.tree, list(self._gatt)
        for path, characteristic in self._paths():
            service_path = path.rpartition("/")[0]
            if service_path not in tree:
                tree.add(service_path, self._service(services.pop(0)))
            if path not in tree:
                tree.add(path, self._characteristic(service_path, characteristic))
        properties = {
            "UUIDs": Variant("as", [uuid(GENERIC_ATTRIBUTE), *map(uuid, self._gatt)]),
            "ServicesResolved": Variant("b", True),  # noqa: FBT003 (a D-Bus value)
        }
        tree.change(self.path, DEVICE, properties)

    def _service(self, short: int) -> Interfaces:
        return {
            SERVICE: {
                "UUID": Variant("s", uuid(short)),
                "Device": Variant("o", self.path),
                "Primary": Variant("b", True),  # noqa: FBT003 (a D-Bus value)
                "Includes": Variant("ao", []),
            }
        }

    @staticmethod
    def _characteristic(service_path: str, characteristic: Characteristic) -> Interfaces:
        return {
            CHARACTERISTIC: {
                "UUID": Variant("s", uuid(characteristic.short)),
                "Service": Variant("o", service_path),
                "Value": Variant("ay", b""),
                "Notifying": Variant("b", False),  # noqa: FBT003 (a D-Bus value)
                "Flags": Variant("as", list(characteristic.flags)),
                "MTU": Variant("q", 247),
            }
        }

    def go_down(self) -> None:
        """The connection ends. Its objects stay, as those of bluetoothd do."""
        self.subscriptions.clear()
        if self.connected:
            down = {name: Variant("b", False) for name in ("ServicesResolved", "Connected")}  # noqa: FBT003 (a D-Bus value)
            self._bluez.tree.change(self.path, DEVICE, down)

    def read(self, path: str) -> bytes:
        """Answer a client's ReadValue."""
        if not self.connected:
            raise BluezError("Failed", "Not connected")
        if self.read_errors:
            raise self.read_errors.pop(0)
        value = dict(self._paths())[path].read()
        # A read is signalled, too, as a notification is.
        self._bluez.tree.change(path, CHARACTERISTIC, {"Value": Variant("ay", value)})
        return value

    def subscribe(self, sender: str, path: str) -> None:
        """Answer a client's StartNotify."""
        if not self.connected:
            raise BluezError("Failed", "Not connected")
        if not {"notify", "indicate"} & set(self._bluez.tree.get(path, CHARACTERISTIC, "Flags")):
            raise BluezError("NotSupported", "Operation is not supported")
        self.subscriptions.add((sender, path))
        self._bluez.tree.change(path, CHARACTERISTIC, {"Notifying": Variant("b", True)})  # noqa: FBT003 (a D-Bus value)
