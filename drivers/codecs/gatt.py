"""Values of GATT characteristics, as the Bluetooth SIG defines them.

A frame is what was read at one time, or one notification: for each characteristic

    size (1 byte: 2 or 16), UUID (so many bytes, as it is written), length of the value (2 bytes, lowest first), value

so that it says itself what its bytes mean. UUIDs are those of the SIG's Assigned Numbers, section 3.8; the values' formats
those of its GATT Specification Supplement. A value that the supplement calls 'not known' is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal
from uuid import UUID

from drivers.codecs.bluetooth_uuid import full_uuid, short_uuid, shown_uuid
from drivers.codecs.config import CodecConfig
from drivers.codecs.model import Decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from drivers.codecs.model import Codec

SHORT_BYTES, FULL_BYTES = 2, 16
"""Of a UUID."""
VALUE_BYTES_MAX: Final = 512
"""Of an attribute (Core Specification, volume 3, part F, 3.2.9)."""


@dataclass(frozen=True, slots=True)
class Number:
    """A characteristic that is one number.

    Args:
        metric: Its name.
        unit: After scaling, by SenML's registries (RFC 8428, RFC 8798).
        size: Bytes.
        signed: Whether it can be below zero.
        decimals: It counts in units of ten to the power of minus so many.
        unknown: The number that says that there is none; None where all are values.
    """

    metric: str
    unit: str
    size: int
    signed: bool = False
    decimals: int = 0
    unknown: int | None = None

    def values(self, value: bytes) -> Iterator[tuple[str, float, str]]:
        """Metric, value and unit.

        Raises:
            ValueError: It has another length.
        """
        if len(value) != self.size:
            raise ValueError(f"{self.metric} has {self.size} bytes, not {len(value)}: {value.hex(' ')}")
        number = int.from_bytes(value, "little", signed=self.signed)
        if number != self.unknown:
            yield self.metric, number / 10**self.decimals if self.decimals else number, self.unit


def _heart_rate(value: bytes) -> Iterator[tuple[str, bool | float, str]]:
    """Heart Rate Measurement (GATT Specification Supplement, 3.116; Heart Rate Service 1.0, 3.1).

    Flags (bit 0: two bytes of heart rate; 1: skin contact; 2: contact is sensed at all; 3: energy follows; 4: RR intervals
    follow), heart rate, energy expended since its reset in kilojoule, times between beats in 1/1024 s, oldest first.

    Raises:
        ValueError: It is cut off, or longer than it can be.
    """
    wide, contact, contact_sensed, energy, intervals = (
        (value[0] if value else 0) >> bit & 1 for bit in range(5)
    )
    place = 2 + wide
    needed = place + 2 * energy
    rest = value[needed:]
    if len(value) < needed or len(rest) % 2 or (rest and not intervals):
        raise ValueError(f"heart_rate: its flags do not fit its {len(value)} bytes: {value.hex(' ')}")
    yield "heart_rate", int.from_bytes(value[1:place], "little"), "beat/min"
    if contact_sensed:
        yield "contact", bool(contact), ""
    if energy:
        yield "energy_expended", int.from_bytes(value[place:needed], "little") * 1000, "J"
    for number in range(len(rest) // 2):
        interval = int.from_bytes(rest[2 * number : 2 * number + 2], "little")
        yield f"rr_interval.{number + 1}", interval / 1024, "s"


_NUMBERS: Final[Mapping[int, Number]] = {
    0x2A19: Number("battery", "%EL", 1),
    0x2A6C: Number("elevation", "m", 3, signed=True, decimals=2),
    0x2A6D: Number("pressure", "Pa", 4, decimals=1),
    0x2A6E: Number("temperature", "Cel", 2, signed=True, decimals=2, unknown=-0x8000),
    0x2A6F: Number("humidity", "%RH", 2, decimals=2, unknown=0xFFFF),
    0x2A70: Number("true_wind_speed", "m/s", 2, decimals=2),
    0x2A71: Number("true_wind_direction", "deg", 2, decimals=2),
    0x2A72: Number("apparent_wind_speed", "m/s", 2, decimals=2),
    0x2A73: Number("apparent_wind_direction", "deg", 2, decimals=2),
    0x2A74: Number("gust_factor", "", 1, decimals=1),
    0x2A75: Number("pollen", "1/m3", 3),
    0x2A76: Number("uv_index", "", 1),
    0x2A77: Number("irradiance", "W/m2", 2, decimals=1),
    0x2A78: Number("rainfall", "m", 2, decimals=3),
    0x2A79: Number("wind_chill", "Cel", 1, signed=True),
    0x2A7A: Number("heat_index", "Cel", 1, signed=True),
    0x2A7B: Number("dew_point", "Cel", 1, signed=True),
    0x2AFB: Number("illuminance", "lx", 3, decimals=2, unknown=0xFFFFFF),
    0x2B8C: Number("co2", "ppm", 2, unknown=0xFFFF),
}
"""Environmental Sensing and Battery Level. Wind chill, heat index and dew point are whole degrees; rainfall is millimetres."""

HEART_RATE: Final = 0x2A37

CHARACTERISTICS: Final[Mapping[str, str]] = {
    **{number.metric: full_uuid(short) for short, number in _NUMBERS.items()},
    "heart_rate": full_uuid(HEART_RATE),
}
"""UUIDs of the characteristics that are known, by the name of their metric."""


def encode(values: Iterable[tuple[str, bytes]]) -> bytes:
    """The frame of these characteristics: UUID in full, and value."""
    frame = bytearray()
    for uuid, value in values:
        short = short_uuid(uuid)
        is_short = short is not None and short < 1 << 8 * SHORT_BYTES
        identifier = UUID(uuid).bytes[2:4] if is_short else UUID(uuid).bytes
        frame += bytes([len(identifier)]) + identifier + len(value).to_bytes(2, "little") + value
    return bytes(frame)


def parse(frame: bytes) -> list[tuple[str, bytes]]:
    """UUID in full and value of each characteristic in a frame.

    Raises:
        ValueError: It is none.
    """
    found: list[tuple[str, bytes]] = []
    place = 0
    while place < len(frame):
        size = frame[place]
        head = frame[place + 1 : place + 3 + size]
        if size not in {SHORT_BYTES, FULL_BYTES} or len(head) < size + 2:
            raise ValueError(f"no UUID and length of a value at byte {place}")
        length = int.from_bytes(head[size:], "little")
        place += 3 + size
        value = frame[place : place + length]
        if length > VALUE_BYTES_MAX or len(value) < length:
            raise ValueError(f"the value at byte {place} should have {length} bytes and has {len(value)}")
        identifier = head[:size]
        full = str(UUID(bytes=identifier)) if size == FULL_BYTES else full_uuid(identifier.hex())
        found.append((full, value))
        place += length
    return found


def decode(frame: bytes) -> list[Decoded]:
    """The reading in a frame; none when every value is 'not known'.

    Raises:
        ValueError: It is no frame, or a characteristic is not known or has no value of its format.
    """
    values: dict[str, bool | int | float | str] = {}
    units: dict[str, str] = {}
    found = parse(frame)
    if not found:
        raise ValueError("an empty frame: it has no characteristic")
    for uuid, value in found:
        for metric, number, unit in _decoder(uuid)(value):
            name = metric
            place = 1
            while name in values:  # a sensor may have several of a kind
                place += 1
                name = f"{metric}.{place}"
            values[name] = number
            if unit:
                units[name] = unit
    return [Decoded(values, units=units)] if values else []


def _decoder(uuid: str) -> Callable[[bytes], Iterator[tuple[str, bool | float, str]]]:
    short = short_uuid(uuid)
    if short == HEART_RATE:
        return _heart_rate
    number = None if short is None else _NUMBERS.get(short)
    if number is None:
        raise ValueError(
            f"the characteristic {shown_uuid(uuid)} is not among those that are known; "
            'a codec such as { type = "struct" } can say what its bytes mean'
        )
    return number.values


class GattConfig(CodecConfig):
    """The SIG's characteristics."""

    summary: ClassVar[str] = "values of Bluetooth characteristics: Environmental Sensing, Battery, Heart Rate"
    example: ClassVar[str] = 'codec = "gatt"'

    type: Literal["gatt"] = "gatt"

    def codec(self) -> Codec:
        """The function that decodes."""
        return decode
