"""Which codecs read whole advertisements, and where in these their measurements are. Pure, and imports no library.

The libraries are those of Home Assistant's Bluetooth integrations, all of one kind (`bluetooth_sensor_state_data`), so one
adapter, `drivers.codecs.sensor_state`, serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drivers.codecs.bluetooth_uuid import full_uuid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ENCRYPTED, ADDRESS_INCLUDED = 0x01, 0x02
"""Bits of the first byte of BTHome's service data."""
PACKET_ID: Final = 0x00
"""BTHome's object for it; objects come in the order of their numbers, so this one is the first."""
_ADDRESS_BYTES: Final = 6


@dataclass(frozen=True, slots=True)
class Maker:
    """A format of advertisements."""

    name: str
    """As people know it."""
    library: str
    """`module:class` of its parser."""
    extra: str
    """The extra of ours that brings the library."""
    service: str | None
    """UUID of the service whose data holds the measurement; None when it is manufacturer data."""
    is_numbered: Callable[[bytes], bool]
    """Whether this data holds a number that changes with each measurement."""


def bthome_is_numbered(data: bytes) -> bool:
    """Whether BTHome v2 service data has a packet id, or the counter of an encrypted payload (bthome.io/format)."""
    if not data:
        return False
    if data[0] & ENCRYPTED:
        return True
    first = 1 + _ADDRESS_BYTES if data[0] & ADDRESS_INCLUDED else 1
    return len(data) > first and data[first] == PACKET_ID


def _always(_data: bytes) -> bool:
    return True


def _never(_data: bytes) -> bool:
    return False


MAKERS: Final[Mapping[str, Maker]] = {
    "bthome": Maker(
        "BTHome", "bthome_ble:BTHomeBluetoothDeviceData", "bthome", full_uuid(0xFCD2), bthome_is_numbered
    ),
    # MiBeacon's frame counter is in every frame.
    "xiaomi": Maker("Xiaomi", "xiaomi_ble:XiaomiBluetoothDeviceData", "xiaomi", full_uuid(0xFE95), _always),
    "govee": Maker("Govee", "govee_ble:GoveeBluetoothDeviceData", "govee", None, _never),
}
"""By the name of the codec."""
