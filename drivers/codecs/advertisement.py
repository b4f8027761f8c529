"""An advertisement as bytes: who sent it, and what it holds.

    address (6 bytes, in the order in which it is written)
    AD structures: length (1 byte), type (1 byte), length - 1 bytes of data

The AD structures are those that are on the air (Core Specification, volume 3, part C, section 11; their types: Assigned
Numbers, section 2.3), in a fixed order, so that the same advertisement always gives the same bytes. Everything that a
decoder may need is in them: whose data it is (an encrypted payload cannot be read without the address), and under which
number. BlueZ gives the parts only, so they are put together again here.

The codecs of `drivers.codecs.makers` read this form. Others take the service data or the manufacturer data alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID

from drivers.codecs.bluetooth_uuid import UUID_TAIL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ADDRESS_BYTES: Final = 6
DATA_BYTES_MAX: Final = 254
"""The length of a structure is one byte and counts its type."""

UUIDS_16, UUIDS_128, NAME, TX_POWER = 0x03, 0x07, 0x09, 0x0A
UUIDS_16_SOME, UUIDS_128_SOME, NAME_SHORTENED = 0x02, 0x06, 0x08
SERVICE_DATA_16, SERVICE_DATA_128, MANUFACTURER_DATA = 0x16, 0x21, 0xFF

_UUID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Advertisement:
    """What one sensor sends to everybody."""

    address: str
    """Of the sender, in capitals."""
    name: str | None = None
    services: tuple[str, ...] = ()
    """UUIDs of the services that it says it has; in full, in small letters."""
    service_data: Mapping[str, bytes] = field(default_factory=dict)
    """By the UUID of the service."""
    manufacturer_data: Mapping[int, bytes] = field(default_factory=dict)
    """By company identifier, which is not repeated in the bytes."""
    tx_power: int | None = None
    """How strongly it sends, dBm."""


def encode(advertisement: Advertisement) -> bytes:
    """The bytes of an advertisement. What is too long for a structure is left out: no sender can have sent it."""
    raw = bytearray.fromhex(advertisement.address.replace(":", ""))
    for kind, data in _structures(advertisement):
        if len(data) <= DATA_BYTES_MAX:
            raw += bytes([len(data) + 1, kind]) + data
    return bytes(raw)


def _structures(advertisement: Advertisement) -> Iterator[tuple[int, bytes]]:
    short = [uuid for uuid in advertisement.services if _is_16_bit(uuid)]
    if short:
        yield UUIDS_16, b"".join(map(uuid_bytes, short))
    for uuid in advertisement.services:
        if not _is_16_bit(uuid):
            yield UUIDS_128, uuid_bytes(uuid)
    if advertisement.name is not None:
        yield NAME, advertisement.name.encode()
    if advertisement.tx_power is not None:
        yield TX_POWER, advertisement.tx_power.to_bytes(1, "little", signed=True)
    for uuid, data in sorted(advertisement.service_data.items()):
        yield SERVICE_DATA_16 if _is_16_bit(uuid) else SERVICE_DATA_128, uuid_bytes(uuid) + data
    for company, data in sorted(advertisement.manufacturer_data.items()):
        yield MANUFACTURER_DATA, company.to_bytes(2, "little") + data


def parse(raw: bytes) -> Advertisement:
    """The advertisement in its bytes. Types that it has no place for are passed over.

    Raises:
        ValueError: It is cut off, or a structure is shorter than its type demands.
    """
    if len(raw) < ADDRESS_BYTES:
        raise ValueError(
            f"{len(raw)} bytes are no advertisement: it begins with an address of {ADDRESS_BYTES}"
        )
    address = ":".join(f"{byte:02X}" for byte in raw[:ADDRESS_BYTES])
    name: str | None = None
    tx_power: int | None = None
    services: list[str] = []
    service_data: dict[str, bytes] = {}
    manufacturer_data: dict[int, bytes] = {}
    for kind, data in _cut(raw):
        if kind in {NAME, NAME_SHORTENED}:
            name = data.decode("utf-8", "replace")
        elif kind in {UUIDS_16, UUIDS_16_SOME}:
            services += _uuids(data, 2, kind)
        elif kind in {UUIDS_128, UUIDS_128_SOME}:
            services += _uuids(data, _UUID_BYTES, kind)
        elif kind == TX_POWER:
            tx_power = int.from_bytes(_at_least(data, 1, kind)[:1], "little", signed=True)
        elif kind == SERVICE_DATA_16:
            service_data[_uuid(_at_least(data, 2, kind)[:2])] = data[2:]
        elif kind == SERVICE_DATA_128:
            service_data[_uuid(_at_least(data, _UUID_BYTES, kind)[:_UUID_BYTES])] = data[_UUID_BYTES:]
        elif kind == MANUFACTURER_DATA:
            manufacturer_data[int.from_bytes(_at_least(data, 2, kind)[:2], "little")] = data[2:]
    return Advertisement(address, name, tuple(services), service_data, manufacturer_data, tx_power)


def _cut(raw: bytes) -> Iterator[tuple[int, bytes]]:
    place = ADDRESS_BYTES
    while place < len(raw):
        length = raw[place]
        structure = raw[place + 1 : place + 1 + length]
        if len(structure) < length:
            raise ValueError(
                f"the AD structure at byte {place} is cut off: it has {len(structure)} of {length} bytes"
            )
        if length:  # an empty one ends what a sender has to say; the rest is padding
            yield structure[0], structure[1:]
        place += 1 + length


def _at_least(data: bytes, count: int, kind: int) -> bytes:
    if len(data) < count:
        raise ValueError(f"an AD structure of type 0x{kind:02X} needs {count} bytes and has {len(data)}")
    return data


def _uuids(data: bytes, size: int, kind: int) -> list[str]:
    if len(data) % size:
        raise ValueError(
            f"an AD structure of type 0x{kind:02X} has {len(data)} bytes, not a multiple of {size}"
        )
    return [_uuid(data[place : place + size]) for place in range(0, len(data), size)]


def _is_16_bit(uuid: str) -> bool:
    return uuid.startswith("0000") and uuid.endswith(UUID_TAIL)


def uuid_bytes(uuid: str) -> bytes:
    """As it is on the air: the lowest byte first."""
    return bytes.fromhex(uuid[4:8])[::-1] if _is_16_bit(uuid) else UUID(uuid).bytes[::-1]


def _uuid(data: bytes) -> str:
    if len(data) == _UUID_BYTES:
        return str(UUID(bytes=data[::-1]))
    return f"{int.from_bytes(data, 'little'):08x}{UUID_TAIL}"
