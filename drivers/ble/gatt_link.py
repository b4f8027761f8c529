"""One connection to one sensor: from being heard to being let go."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from bleak import BleakClient
from bleak.backends.device import BLEDevice
from bleak.exc import BleakGATTProtocolError

from drivers.ble.radio import bluez_errors
from drivers.codecs.bluetooth_uuid import shown_uuid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bleak.args.bluez import BlueZClientArgs
    from bleak.backends.characteristic import BleakGATTCharacteristic

    from drivers.ble.config import GattConfig
    from drivers.ble.radio import Radio

logger = logging.getLogger(__name__)

ANSWER_TIMEOUT_S: Final = 10.0
"""A sensor has 30 s for an answer by the specification (volume 3, part F, 3.3.3); one that takes a third of it is lost to us."""
TURN_TIMEOUT_S: Final = 120.0
"""Longer than a turn of all that are waiting should take."""
CLEANUP_S: Final = 5.0
"""What bleak may take beyond its own time-out, to break off an attempt."""
SENDING: Final = ("notify", "indicate")


class ReadRefused(ValueError):
    """The sensor answered, and not with a value; the connection goes on."""


class GattLink:
    """A connection, used once.

    Args:
        radio: Over which adapter.
        config: To whom.
        lost: Called once when it ends, unless `close` ends it.
    """

    def __init__(self, radio: Radio, config: GattConfig, lost: Callable[[], None]) -> None:
        self._radio = radio
        self._config = config
        self._lost = lost
        self._client: BleakClient | None = None
        self._closing = False

    @property
    def is_open(self) -> bool:
        """Whether the sensor is connected, as far as bleak knows."""
        return self._client is not None and self._client.is_connected

    async def open(self, device: BLEDevice) -> None:
        """Connect, when there is a place for a connection, and find what is wanted.

        Raises:
            ConnectionError: It cannot be connected to, or has not what is wanted.
        """
        config, radio = self._config, self._radio
        await self._acquire()
        try:
            async with radio.connections.making:
                arguments: BlueZClientArgs = {"adapter": radio.name}
                client = BleakClient(
                    device,
                    disconnected_callback=self._disconnected,
                    timeout=config.connect_timeout,
                    bluez=arguments,
                )
                limit_s = config.connect_timeout + CLEANUP_S
                async with bluez_errors(f"{config.address}: no connection", limit_s, slow=_slow(config)):
                    await client.connect()
            self._client = client
            for uuid in config.notify:
                self.find(uuid, "notify")
            for uuid in config.read:
                self.find(uuid, "read")
        except BaseException:
            await self.close()
            raise
        radio.alive()

    async def _acquire(self) -> None:
        connections, most = self._radio.connections, self._config.connections_max
        try:
            async with asyncio.timeout(TURN_TIMEOUT_S):
                await connections.acquire(self, most)
        except TimeoutError:
            raise ConnectionError(
                f"{self._config.address}: {self._radio.name} had no connection to spare for {TURN_TIMEOUT_S:g} s: "
                f"{connections.held} are held; is `connections_max` large enough?"
            ) from None

    def find(self, uuid: str, use: str) -> Sequence[BleakGATTCharacteristic]:
        """The characteristics with this UUID: most sensors have one of a kind.

        Raises:
            ConnectionError: There is none that can be used so.
        """
        assert self._client is not None
        there = list(self._client.services.characteristics.values())
        found = [one for one in there if one.uuid == uuid]
        uses = SENDING if use == "notify" else ("read",)
        usable = [one for one in found if set(uses) & set(one.properties)]
        if usable:
            return usable
        name = f"{self._config.address}: the characteristic {shown_uuid(uuid)}"
        if found:
            raise ConnectionError(f"{name} cannot be used to {use}, only to {', '.join(found[0].properties)}")
        listed = ", ".join(sorted({shown_uuid(one.uuid) for one in there})) or "none"
        raise ConnectionError(f"{name} is not there; there are {listed}")

    async def read(self, uuid: str) -> list[bytes]:
        """The values of the characteristics with this UUID.

        Raises:
            ReadRefused: The sensor says no.
            ConnectionError: It does not answer.
        """
        values = [await self._read(characteristic) for characteristic in self.find(uuid, "read")]
        self._radio.alive()
        return values

    async def _read(self, characteristic: BleakGATTCharacteristic) -> bytes:
        assert self._client is not None
        what = f"{self._config.address}: {shown_uuid(characteristic.uuid)} cannot be read"
        async with bluez_errors(what, ANSWER_TIMEOUT_S, slow="it does not answer"):
            try:
                return bytes(await self._client.read_gatt_char(characteristic))
            except BleakGATTProtocolError as error:
                raise ReadRefused(f"{what}: {error.args[1]}") from error

    async def subscribe(self, uuid: str, take: Callable[[str, bytes], None]) -> None:
        """Let the sensor send a characteristic by itself.

        Raises:
            ConnectionError: It does not let itself be asked to.
        """
        assert self._client is not None
        for characteristic in self.find(uuid, "notify"):
            what = f"{self._config.address}: {shown_uuid(uuid)} does not notify"
            async with bluez_errors(what, ANSWER_TIMEOUT_S, slow="it does not answer"):
                await self._client.start_notify(characteristic, lambda _, value: take(uuid, bytes(value)))

    async def answers(self) -> bool | None:
        """Whether the sensor answers a question; None when there is nothing to ask for but what it notifies.

        BlueZ tells a value that was read as if it had been notified, so that must not be read.
        """
        assert self._client is not None
        for characteristic in self._client.services.characteristics.values():
            if "read" in characteristic.properties and characteristic.uuid not in self._config.notify:
                try:
                    await self._read(characteristic)
                except ReadRefused:
                    return True
                except ConnectionError:
                    return False
                return True
        return None

    async def close(self) -> None:
        """End the connection, if there is one, and give its place to the next.

        Raises:
            ConnectionError: bluetoothd did not end it.
        """
        self._closing = True
        client, self._client = self._client, None
        try:
            if client is not None:
                async with bluez_errors(f"{self._config.address}: not disconnected", ANSWER_TIMEOUT_S):
                    await client.disconnect()
        finally:
            self._radio.connections.release(self)

    def _disconnected(self, _client: BleakClient) -> None:
        if not self._closing:
            self._closing = True
            self._lost()


def _slow(config: GattConfig) -> str:
    return f"it did not connect within {config.connect_timeout:g} s, though it was heard: is it connected to somebody else, or at the edge of the range?"


def connected_device(address: str, details: dict[str, object]) -> BLEDevice:
    """A device that bluetoothd is connected to already, as bleak wants it."""
    return BLEDevice(address, None, details)


async def first_heard(found: asyncio.Future[BLEDevice], address: str, timeout_s: float) -> BLEDevice:
    """Wait until a sensor was heard.

    Raises:
        ConnectionError: It was not.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await found
    except TimeoutError:
        raise ConnectionError(
            f"{address}: not heard for {timeout_s:g} s: it is out of range or off, its battery is empty, or somebody else is connected to it"
        ) from None
