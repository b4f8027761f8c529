"""Listens to the air for a while, and proposes sources for the sensors that were heard.

The scan is an active one, since many sensors say their name only when asked. Nothing is connected to, and an adapter that is off
stays off.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from collectors.clock import SystemClock
from drivers.ble.scan import Want
from drivers.ble.station import station
from drivers.codecs.bluetooth_uuid import full_uuid
from drivers.codecs.makers import ENCRYPTED, MAKERS
from drivers.discovery import Finding

if TYPE_CHECKING:
    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData

DEVICES_MAX: Final = 1000
_WAIT_S: Final = 2.0
"""For bluetoothd and the adapter."""
_ENVIRONMENTAL_SENSING: Final = full_uuid(0x181A)


class BleScout:
    """Listens on one adapter.

    Args:
        adapter: Its name.
    """

    def __init__(self, adapter: str = "hci0") -> None:
        self.want: Want | None = Want("active")
        self._adapter = adapter
        self._clock = SystemClock()
        self._heard: dict[str, Finding | None] = {}
        """By address; None for a device of which nothing is known."""
        self._lost: asyncio.Future[None] | None = None
        """Done when nothing can be heard any more, or need be."""

    @property
    def place(self) -> str:
        """The adapter."""
        return f"Bluetooth adapter {self._adapter}"

    async def look(self, seconds: float) -> list[Finding]:
        """Listen for so long.

        Raises:
            ConnectionError: bluetoothd or the adapter cannot be used.
        """
        shared = station(self._clock)
        self._lost = asyncio.get_running_loop().create_future()
        try:
            radio = await shared.enter(self, self._adapter, manage=False, wait_s=min(_WAIT_S, seconds))
            await radio.join(self)
            try:
                await asyncio.wait({self._lost}, timeout=seconds)
            finally:
                await radio.leave(self)
        finally:
            await shared.leave(self)
        if self._lost.done():
            self._lost.result()
        found = [finding for finding in self._heard.values() if finding is not None]
        unknown = len(self._heard) - len(found)
        if unknown:
            found.append(Finding(f"{unknown} further Bluetooth devices say nothing that is known"))
        return found or [Finding(f"{self.place}: nothing was heard")]

    def enough(self) -> None:
        """Listen no longer."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)

    def heard(self, device: BLEDevice, data: AdvertisementData) -> None:
        """An advertisement was heard, of anybody (called by the radio)."""
        address = device.address.upper()
        if self._heard.get(address) is None and (address in self._heard or len(self._heard) < DEVICES_MAX):
            self._heard[address] = propose(address, data)

    def lost(self, error: ConnectionError) -> None:
        """Nothing can be heard any more (called by the radio)."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_exception(error)


def propose(address: str, data: AdvertisementData) -> Finding | None:
    """The source for a sensor that advertises this; None when it is nothing that is known."""
    name = data.local_name or address
    proposed = f"{data.local_name or 'ble'}-{address[-5:]}".replace(":", "").lower()
    source: dict[str, Any] = {"id": proposed, "driver": "ble", "address": address}
    for codec, maker in MAKERS.items():
        payload = data.service_data.get(maker.service) if maker.service is not None else None
        if payload is None:
            continue
        notes = [f"needs the extra: pip install 'outstation[{maker.extra}]'"]
        if codec == "bthome" and payload and payload[0] & ENCRYPTED:
            notes.append('it encrypts: codec = { type = "bthome", key = { file = "..." } }')
        return Finding(f"{name}: {maker.name}, {data.rssi} dBm", {**source, "codec": codec}, notes)
    if _ENVIRONMENTAL_SENSING in data.service_uuids:
        source |= {"driver": "gatt", "codec": "gatt", "read": ["temperature", "humidity"]}
        notes = ["connects to read: leave out of `read` what it does not have"]
        return Finding(f"{name}: Environmental Sensing, {data.rssi} dBm", source, notes)
    return None
