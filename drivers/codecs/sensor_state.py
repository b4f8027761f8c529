"""BTHome, Xiaomi and Govee advertisements, read by the libraries that Home Assistant keeps for them.

They are of one kind: a parser is given advertisements and keeps what it learned. That is made for a screen that shows the
latest values; a record of readings must not have a value in it that the packet at hand does not hold. So every advertisement
gets a parser of its own here, and what it says after that one advertisement is what the advertisement says. That costs 0.1 ms.
Repetitions and replays are recognised before, by the driver.

What else the libraries do quietly is said here: a key that is missing or wrong, data in the clear where a key is given,
data that means nothing to them.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from pydantic import model_validator

from collectors.models import INT_MAX, INT_MIN
from drivers.codecs.advertisement import parse
from drivers.codecs.config import CodecConfig
from drivers.codecs.makers import MAKERS
from drivers.codecs.model import Decoded
from drivers.transport.secret import Secret, SecretError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from drivers.codecs.advertisement import Advertisement
    from drivers.codecs.makers import Maker
    from drivers.codecs.model import Codec

LEFT_OUT: Final = frozenset({"signal_strength", "packet_id"})
"""How it was received, and which repetition it is: not measured by the sensor."""

UNITS: Final[Mapping[str, str]] = {
    "°C": "Cel",
    "°": "deg",
    "L": "l",
    "mL": "ml",
    "m³": "m3",
    "m²": "m2",
    "m/s²": "m/s2",
    "m³/h": "m3/h",
    "µg/m³": "ug/m3",
    "mg/m³": "mg/m3",
    "W/m²": "W/m2",
    "µS/cm": "uS/cm",
    "mbar": "hPa",
    "UV index": "",
}
"""Their units that have another name in SenML's registries (RFC 8428, RFC 8798), or characters that fit nowhere."""

PERCENT: Final[Mapping[str, str]] = {"humidity": "%RH", "battery": "%EL"}
"""SenML has its own names for what a percentage is of."""

KEY_BYTES: Final = (16, 12)
"""AES-128; Xiaomi's older devices leave four bytes away that are always the same."""


@dataclass(slots=True)
class _Heard:
    """What the parsers look at."""

    address: str
    name: str
    manufacturer_data: dict[int, bytes]
    service_data: dict[str, bytes]
    service_uuids: list[str]
    tx_power: int | None
    rssi: int = 0
    source: str = ""
    time: float = 0.0
    raw: bytes | None = None
    device: Any = None
    advertisement: Any = None
    connectable: bool = False


@dataclass(frozen=True)
class Keys:
    """The keys of encrypted sensors.

    Args:
        by_address: For one sensor each.
        any_sensor: For every other.
    """

    by_address: Mapping[str, bytes] = field(default_factory=dict)
    any_sensor: bytes | None = None

    def of(self, address: str) -> bytes | None:
        """The key of a sensor."""
        return self.by_address.get(address, self.any_sensor)


def read_keys(secret: Secret) -> Keys:
    """The keys in a secret: one in hexadecimal, or on each line an address and its key. `#` begins a remark.

    Raises:
        ValueError: It cannot be read, or something in it is no key. A key is never part of the message.
    """
    try:
        lines = secret.read().splitlines()
    except SecretError as error:
        raise ValueError(f"the keys cannot be read: {error}") from error
    by_address: dict[str, bytes] = {}
    any_sensor: bytes | None = None
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        key = _key(words[-1])
        if key is None or len(words) > 2:  # noqa: PLR2004 (address and key)
            raise ValueError(
                f"{secret.place}, line {number}: should be a key of 32 hexadecimal digits (Xiaomi also 24), or an address and its key"
            )
        if len(words) == 1:
            any_sensor = key
        else:
            by_address[words[0].upper()] = key
    return Keys(by_address, any_sensor)


def _key(text: str) -> bytes | None:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        return None
    return key if len(key) in KEY_BYTES else None


def check_installed(maker: Maker) -> None:
    """Whether there is the library for a maker's sensors.

    Raises:
        ValueError: There is not; says how to get it.
    """
    if find_spec(maker.library.partition(":")[0]) is None:
        raise ValueError(
            f"{maker.name} needs a package that is not installed: pip install 'outstation[{maker.extra}]'"
        )


class AdvertisementCodec:
    """Decodes the advertisements of one maker.

    Args:
        maker: Whose.
        keys: Of encrypted sensors.

    Raises:
        ValueError: The library is not installed.
    """

    def __init__(self, maker: Maker, keys: Keys) -> None:
        check_installed(maker)
        module, _, name = maker.library.partition(":")
        self._parser = getattr(import_module(module), name)
        # What it has to say comes with each packet, and is said here.
        logging.getLogger(module).setLevel(logging.CRITICAL)
        self._maker = maker
        self._keys = keys

    def __call__(self, raw: bytes) -> list[Decoded]:
        """The reading in an advertisement.

        Raises:
            ValueError: There is none; says why.
        """
        advertisement = parse(raw)
        key = self._keys.of(advertisement.address)
        parser = self._parser() if key is None else self._parser(bindkey=key)
        try:
            update = parser.update(_heard(advertisement))
        except Exception as error:
            # Whatever the library stumbles over (an IndexError for empty service data, for one): it is not in the format.
            raise ValueError(f"not {self._maker.name}: {type(error).__name__}: {error}") from error
        self._check_encryption(parser, key)
        values: dict[str, bool | int | float | str] = {}
        units: dict[str, str] = {}
        for metric, value, unit in _measured(update):
            values[metric] = value
            if unit:
                units[metric] = unit
        if not values:
            raise ValueError(f"there is nothing in it that is known of {self._maker.name}")
        return [Decoded(values, units=units)]

    def _check_encryption(self, parser: Any, key: bytes | None) -> None:
        """Say what the library keeps to itself.

        Raises:
            ValueError: The data cannot be read, or should not be believed.
        """
        if getattr(parser, "downgrade_detected", False):
            raise ValueError(
                "it is not encrypted although there is a key for this sensor: anybody can have sent it"
            )
        scheme = getattr(getattr(parser, "encryption_scheme", None), "value", "none")
        if scheme == "none" or getattr(parser, "bindkey_verified", True):
            return
        if key is None:
            raise ValueError("it is encrypted, and there is no key for this sensor: say where it is as `key`")
        raise ValueError(
            "it does not decrypt with the key that is there for this sensor: is it the right one?"
        )


def _heard(advertisement: Advertisement) -> _Heard:
    return _Heard(
        address=advertisement.address,
        name=advertisement.name or advertisement.address,
        manufacturer_data=dict(advertisement.manufacturer_data),
        service_data=dict(advertisement.service_data),
        service_uuids=list(advertisement.services),
        tx_power=advertisement.tx_power,
    )


def _measured(update: Any) -> Iterator[tuple[str, bool | int | float | str, str]]:
    """Metric, value and unit of everything in an update."""
    units = {key: found.native_unit_of_measurement for key, found in update.entity_descriptions.items()}
    for key, found in (*update.entity_values.items(), *update.binary_entity_values.items()):
        value = _value(found.native_value)
        if key.key not in LEFT_OUT and value is not None:
            yield _metric(key), value, _unit(key.key, units.get(key))
    for key, event in update.events.items():
        yield _metric(key), str(event.event_type), ""
        for name, property_value in (event.event_properties or {}).items():
            value = _value(property_value)
            if value is not None:
                yield f"{_metric(key)}.{name}", value, ""


def _metric(key: Any) -> str:
    return f"{key.device_id}.{key.key}" if key.device_id else str(key.key)


def _value(value: object) -> bool | int | float | str | None:
    """A value as a reading takes it; None for one that it has no place for."""
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if INT_MIN <= value <= INT_MAX else None
    return value if isinstance(value, str) else None


def _unit(metric: str, unit: object) -> str:
    if unit is None:
        return ""
    name = str(getattr(unit, "value", unit)).replace(
        "\u03bc", "\u00b5"
    )  # two letters that look the same: mu and micro
    if name == "%":
        return next((senml for part, senml in PERCENT.items() if part in metric), "%")
    return UNITS.get(name, name)


class _MakerConfig(CodecConfig):
    """What all of them need."""

    @model_validator(mode="after")
    def _has_its_library(self) -> Self:
        """An extra that is not installed is a problem of the configuration.

        Raises:
            ValueError: It is not.
        """
        check_installed(MAKERS[self.type])
        return self


class _KeyedConfig(_MakerConfig):
    """What those take whose sensors encrypt."""

    key: Secret | None = None
    """Where the sensor's key is, in hexadecimal; or, for several sensors, an address and its key on each line."""

    def codec(self) -> Codec:
        """The function that decodes. Reads the keys: blocks on the disk.

        Raises:
            ValueError: The library is not installed, or the keys cannot be read.
        """
        return AdvertisementCodec(MAKERS[self.type], Keys() if self.key is None else read_keys(self.key))


class BTHomeConfig(_KeyedConfig):
    """BTHome, version 2, encrypted or not (bthome.io/format)."""

    summary: ClassVar[str] = "BTHome v2, encrypted or not (Bluetooth advertisements)"
    example: ClassVar[str] = 'codec = { type = "bthome", key = { file = "hall.key" } }'

    type: Literal["bthome"] = "bthome"


class XiaomiConfig(_KeyedConfig):
    """Xiaomi's MiBeacon."""

    summary: ClassVar[str] = "Xiaomi sensors: MiBeacon, encrypted or not (Bluetooth advertisements)"
    example: ClassVar[str] = 'codec = { type = "xiaomi", key = { file = "bath.key" } }'

    type: Literal["xiaomi"] = "xiaomi"


class GoveeConfig(_MakerConfig):
    """Govee's thermometers and hygrometers."""

    summary: ClassVar[str] = "Govee sensors (Bluetooth advertisements)"
    example: ClassVar[str] = 'codec = "govee"'

    type: Literal["govee"] = "govee"

    def codec(self) -> Codec:
        """The function that decodes.

        Raises:
            ValueError: The library is not installed.
        """
        return AdvertisementCodec(MAKERS["govee"], Keys())
