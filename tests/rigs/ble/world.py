"""What a test of Bluetooth holds in its hand, whether BlueZ is real or not: sensors on the air, and faults.

`FakeWorld` (an `org.bluez` of our own on a real dbus-daemon, milliseconds) and `VirtualWorld` (the real bluetoothd and
kernel in a virtual machine, bumble as controller and sensors) have this face, so the same tests run on both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

UUID_TAIL = "-0000-1000-8000-00805f9b34fb"
ENVIRONMENTAL_SENSING, TEMPERATURE, HUMIDITY = 0x181A, 0x2A6E, 0x2A6F
BTHOME = 0xFCD2
RUUVI = 0x0499
"""Company identifier of Ruuvi Innovations."""


def uuid(short: int) -> str:
    """The whole UUID of one that the Bluetooth SIG has assigned."""
    return f"{short:08x}{UUID_TAIL}"


def bthome(packet_id: int, centidegrees: int) -> bytes:
    """Service data of BTHome v2, not encrypted: a packet id and a temperature of so many hundredths of a degree."""
    return bytes([0x40, 0x00, packet_id & 0xFF, 0x02]) + centidegrees.to_bytes(2, "little", signed=True)


def centidegrees(value: int) -> bytes:
    """The value of the characteristic Temperature, 0x2A6E."""
    return value.to_bytes(2, "little", signed=True)


@dataclass(frozen=True)
class Advertisement:
    """What a sensor sends to everybody."""

    name: str | None = None
    services: Sequence[int] = ()
    service_data: Mapping[int, bytes] = field(default_factory=dict)
    manufacturer_data: Mapping[int, bytes] = field(default_factory=dict)
    tx_power: int | None = None


@dataclass
class Characteristic:
    """One value that a connected client can read or be notified of."""

    short: int
    value: bytes | Callable[[], bytes]
    flags: Sequence[str] = ("read", "notify")

    def read(self) -> bytes:
        """What it is now."""
        return self.value() if callable(self.value) else self.value


class Sensor(Protocol):
    """A sensor on the air."""

    address: str

    async def advertise(self, advertisement: Advertisement) -> None:
        """Send this again and again, several times a second, until told otherwise."""

    async def fall_silent(self) -> None:
        """Send nothing any more."""

    @property
    def subscribed(self) -> bool:
        """Whether somebody is connected and wants notifications."""

    async def notify(self, short: int, value: bytes) -> bool:
        """Notify whoever is subscribed; whether anybody is."""

    async def drop(self) -> None:
        """End the connection, from the sensor's side."""

    async def leave(self) -> None:
        """Go out of range."""

    async def come_back(self) -> None:
        """Be in range again."""


class World(Protocol):
    """Sensors, an adapter, and the daemon."""

    bus_address: str

    async def sensor(
        self, address: str, gatt: Mapping[int, Sequence[Characteristic]] | None = None
    ) -> Sensor:
        """Put a sensor on the air; silent at first. `gatt` is its services, by their short UUIDs."""

    async def power(self, *, on: bool) -> None:
        """Switch the adapter, as `bluetoothctl power off` does."""

    def deafen(self) -> None:
        """The controller says that it scans and reports nothing any more, until it is switched off and on."""

    async def kill_bluetoothd(self) -> None:
        """SIGKILL; it stays away."""

    async def start_bluetoothd(self) -> None:
        """Start it again; returns when the adapter is there."""
