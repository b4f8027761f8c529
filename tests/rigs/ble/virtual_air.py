"""The air of the virtual machine: its controller, and sensors with controllers of their own, all played by bumble.

What bumble 0.0.236 does otherwise than Linux expects is mended here, so that version is pinned.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

from bumble import hci
from bumble.controller import Controller
from bumble.core import UUID, AdvertisingData
from bumble.device import AdvertisingType, Device
from bumble.gatt import Characteristic as BumbleCharacteristic
from bumble.gatt import CharacteristicValue, Service
from bumble.host import Host
from bumble.link import LocalLink

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.rigs.ble.world import Advertisement, Characteristic

ADVERTISING_INTERVAL_MS = 100
SUPERVISION_TIMEOUT = 0x08
"""Error code: the other side was not heard for too long."""
_FLAGS = b"\x06"
_SENDING = {"notify", "indicate"}


class Air(LocalLink):
    """Carries what controllers send.

    bumble labels every packet of a connection with the sender's random address, but Linux connects with its public one.
    """

    def send_acl_data(self, sender: Any, destination: Any, transport: Any, data: bytes) -> None:
        connection = sender.le_connections.get(destination)
        if connection is None:
            super().send_acl_data(sender, destination, transport, data)
        elif peer := self.find_le_controller(destination):
            loop = asyncio.get_running_loop()
            loop.call_soon(peer.on_link_acl_data, connection.self_address, transport, data)


class MachineController(Controller):
    """The controller that Linux has.

    It is one of Bluetooth 4.2: with extended advertising and privacy, Linux waits for an enhanced event of a connection
    that bumble never sends. And it reports event types, scan responses and signal strengths as real ones do, and ends what
    it is told to end: bumble goes on to connect when that was cancelled, and Linux waits for the event that says so.
    """

    le_features = Controller.le_features & ~(
        hci.LeFeatureMask.LL_PRIVACY
        | hci.LeFeatureMask.LE_EXTENDED_ADVERTISING
        | hci.LeFeatureMask.LE_PERIODIC_ADVERTISING
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scan_responses: dict[hci.Address, bytes] = {}
        self.only_advertising: set[hci.Address] = set()
        self.out_of_range: set[hci.Address] = set()
        self.deaf = False

    def on_hci_reset_command(self, command: Any) -> Any:
        """What Linux begins with when it switches a controller on."""
        self.deaf = self.le_scan_enable = False
        self.pending_le_connection = None
        return super().on_hci_reset_command(command)

    def on_hci_le_create_connection_cancel_command(self, command: Any) -> Any:
        """What Linux sends when it has waited for a sensor long enough."""
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        ended = hci.HCI_LE_Connection_Complete_Event(
            status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
            connection_handle=0,
            role=hci.Role.CENTRAL,
            peer_address_type=pending.peer_address_type,
            peer_address=pending.peer_address,
            connection_interval=0,
            peripheral_latency=0,
            supervision_timeout=0,
            central_clock_accuracy=0,
        )
        asyncio.get_running_loop().call_soon(self.send_hci_packet, ended)  # after the answer to the command
        return super().on_hci_le_create_connection_cancel_command(command)

    def on_advertising_pdu(self, pdu: Any) -> None:
        sender = pdu.advertiser_address
        if self.deaf or sender in self.out_of_range:
            return
        kinds = hci.HCI_LE_Advertising_Report_Event.EventType
        if self.le_scan_enable:
            connectable = sender not in self.only_advertising
            self._report(sender, kinds.ADV_IND if connectable else kinds.ADV_SCAN_IND, pdu.data)
            if self.le_scan_type == 1:
                self._report(sender, kinds.SCAN_RSP, self.scan_responses.get(sender, b""))
        pending = self.pending_le_connection
        if pending and pending.peer_address == sender:
            self.create_le_connection(sender)

    def _report(self, sender: hci.Address, kind: Any, data: bytes) -> None:
        report = hci.HCI_LE_Advertising_Report_Event.Report(
            event_type=kind, address_type=sender.address_type, address=sender, data=data, rssi=-60
        )
        self.send_hci_packet(hci.HCI_LE_Advertising_Report_Event([report]))

    def part(self, address: hci.Address) -> None:
        """Out of range: nothing is heard any more, and a connection ends on both sides by its time-out."""
        self.out_of_range.add(address)
        connection = self.le_connections.get(address)
        if connection is None:
            return
        peer = self.link.find_le_controller(address)
        if peer and (theirs := peer.le_connections.get(connection.self_address)):
            peer.on_le_disconnected(theirs, SUPERVISION_TIMEOUT)
        self.on_le_disconnected(connection, SUPERVISION_TIMEOUT)


class VirtualSensor:
    """A sensor on the air.

    Args:
        machine: The controller that hears it.
        air: Carries what it sends.
        address: Its own.
        gatt: Its services, if it can be connected to.
    """

    def __init__(
        self,
        machine: MachineController,
        air: Air,
        address: str,
        gatt: Mapping[int, Sequence[Characteristic]] | None = None,
    ) -> None:
        self.address = address
        self._machine = machine
        self._hci_address = hci.Address(address)
        self._device = Device(name=address, address=self._hci_address, host=Host())
        self._device.host.controller = Controller(address, link=air)
        self._characteristics: dict[int, BumbleCharacteristic] = {}
        self._connectable = bool(gatt)
        for short, characteristics in (gatt or {}).items():
            made = [self._made(one) for one in characteristics]
            self._device.add_service(Service(UUID.from_16_bits(short), made))

    def _made(self, one: Characteristic) -> BumbleCharacteristic:
        flags = BumbleCharacteristic.Properties(0)
        for name in one.flags:
            flags |= BumbleCharacteristic.Properties[name.upper()]
        value = CharacteristicValue(read=lambda _connection: one.read())
        made = BumbleCharacteristic(UUID.from_16_bits(one.short), flags, BumbleCharacteristic.READABLE, value)
        self._characteristics[one.short] = made
        return made

    async def start(self) -> None:
        """Be there, silent."""
        if not self._connectable:
            self._machine.only_advertising.add(self._hci_address)
        await self._device.power_on()

    async def advertise(self, advertisement: Advertisement) -> None:
        """Send this again and again, until told otherwise."""
        name = advertisement.name
        self._machine.scan_responses[self._hci_address] = (
            b""
            if name is None
            else bytes(AdvertisingData([(AdvertisingData.COMPLETE_LOCAL_NAME, name.encode())]))
        )
        kind = (
            AdvertisingType.UNDIRECTED_CONNECTABLE_SCANNABLE
            if self._connectable
            else AdvertisingType.UNDIRECTED_SCANNABLE
        )
        await self._device.start_advertising(
            advertising_type=kind,
            auto_restart=True,
            advertising_interval_min=ADVERTISING_INTERVAL_MS,
            advertising_interval_max=ADVERTISING_INTERVAL_MS,
            advertising_data=_structures(advertisement),
        )

    async def fall_silent(self) -> None:
        """Send nothing any more."""
        await self._device.stop_advertising()

    @property
    def subscribed(self) -> bool:
        """Whether a client is connected and wants notifications."""
        subscribers = self._device.gatt_server.subscribers
        return any(value[0] & 1 for by_handle in subscribers.values() for value in by_handle.values())

    async def notify(self, short: int, value: bytes) -> bool:
        """Notify whoever is subscribed; whether anybody is."""
        subscribed = self.subscribed
        await self._device.notify_subscribers(self._characteristics[short], value)
        return subscribed

    async def drop(self) -> None:
        """End the connection, from the sensor's side."""
        for connection in list(self._device.connections.values()):
            await connection.disconnect()

    async def leave(self) -> None:
        """Go out of range."""
        self._machine.part(self._hci_address)

    async def come_back(self) -> None:
        """Be in range again."""
        self._machine.out_of_range.discard(self._hci_address)


def _structures(advertisement: Advertisement) -> bytes:
    items: list[tuple[int, bytes]] = [(AdvertisingData.FLAGS, _FLAGS)]
    if advertisement.services:
        listed = b"".join(struct.pack("<H", short) for short in advertisement.services)
        items.append((AdvertisingData.COMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS, listed))
    if advertisement.tx_power is not None:
        items.append((AdvertisingData.TX_POWER_LEVEL, struct.pack("b", advertisement.tx_power)))
    for short, data in advertisement.service_data.items():
        items.append((AdvertisingData.SERVICE_DATA_16_BIT_UUID, struct.pack("<H", short) + data))
    for company, data in advertisement.manufacturer_data.items():
        items.append((AdvertisingData.MANUFACTURER_SPECIFIC_DATA, struct.pack("<H", company) + data))
    return bytes(AdvertisingData(items))
