"""What a Bluetooth source needs to know. Importing this costs no bleak."""

from __future__ import annotations

from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from collectors.suggestion import nearest
from collectors.units import DurationS
from drivers.ble.identifiers import Adapter, Address, Company, Uuid
from drivers.codecs.bluetooth_uuid import full_uuid, shown_uuid
from drivers.codecs.gatt import CHARACTERISTICS
from drivers.codecs.makers import MAKERS

DAY_S = 86400.0
GATT = "gatt"
"""The codec for the SIG's characteristics; it gets each value with its UUID."""


def _characteristic(identifier: Any) -> str:
    """A characteristic: its UUID, or the name of what it measures.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(identifier, str) and identifier in CHARACTERISTICS:
        return CHARACTERISTICS[identifier]
    try:
        return full_uuid(identifier)
    except ValueError as error:
        meant = nearest(str(identifier), CHARACTERISTICS)
        hint = (
            f"; did you mean `{meant}`?" if meant is not None else f"; or one of {', '.join(CHARACTERISTICS)}"
        )
        raise ValueError(f"{error}{hint}") from None


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class RadioConfig(BaseModel):
    """What both kinds of Bluetooth sources share."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    adapter: Adapter = "hci0"
    """Its name; or its address, which stays the same when adapters are plugged in another order."""
    manage_adapter: bool = True
    """Switch the adapter on when it is off; off and on again when it has gone deaf."""
    silent_after: Annotated[DurationS, Field(le=30 * DAY_S)] | None = None
    """How long the sensor may say nothing. Unset, four times what is usual for it."""

    @model_validator(mode="after")
    def _has_its_library(self) -> Self:
        """An extra that is not installed is a problem of the configuration.

        Raises:
            ValueError: It is not.
        """
        if find_spec("bleak") is None:
            raise ValueError("Bluetooth needs a package that is not installed: pip install 'outstation[ble]'")
        return self


class BleConfig(RadioConfig):
    """Which advertisements to take. Every filter that is given must fit, and one at least must be given."""

    address: (
        Annotated[
            list[Address],
            Field(min_length=1),
            BeforeValidator(_several, json_schema_input_type=str | list[str]),
        ]
        | None
    ) = None
    """Of the sensor, or of several."""
    name: Annotated[str, Field(min_length=1)] | None = None
    """What the sensor calls itself; `*` stands for any characters."""
    service: Uuid | None = None
    """A service that it says it has, or has data of."""
    manufacturer: Company | None = None
    """A company whose data it sends."""
    scan: Literal["auto", "passive", "active"] = "auto"
    """Passive scanning costs the sensors nothing and less here, and needs a bluetoothd that allows it. Active scanning also
    gets names and what else sensors say only when asked. `auto` is passive where that is possible and enough."""
    interval: Annotated[DurationS, Field(le=DAY_S)] | None = None
    """The sensor's own time from one measurement to the next: the same data within it is the same reading. Unset, it is
    learned from how often the data changes."""
    numbered: bool | None = None
    """Whether each measurement carries a number, so that the same data is always the same reading. Unset, by the codec."""

    @model_validator(mode="after")
    def _selects(self) -> Self:
        """Taking everything on the air would be somebody else's sensors, too.

        Raises:
            ValueError: There is no filter, or the scan cannot see what it filters by.
        """
        if self.address is None and self.name is None and self.service is None and self.manufacturer is None:
            raise ValueError(
                "which sensors? Give at least one of `address`, `name`, `service` and `manufacturer`"
            )
        if self.scan == "passive" and self.name is not None:
            raise ValueError(
                "sensors often tell their name only to an active scan: leave `scan` at auto, or filter otherwise"
            )
        return self

    def check_codec(self, name: str) -> None:
        """Whether it follows which bytes of an advertisement are for a codec.

        Raises:
            ValueError: It does not; says what would be right.
        """
        if name == GATT:
            raise ValueError('reads characteristics, not advertisements: that is `driver = "gatt"`')
        if name not in MAKERS and (self.service is None) == (self.manufacturer is None):
            raise ValueError(
                f"which bytes of an advertisement are for the codec {name!r}? "
                "Give `manufacturer` or `service`, one of them"
            )

    def names_fit(self, name: str | None) -> bool:
        """Whether a sensor with this name is meant, as far as names go."""
        return self.name is None or (name is not None and fnmatchcase(name, self.name))


Characteristic = Annotated[str, BeforeValidator(_characteristic, json_schema_input_type=int | str)]


class GattConfig(RadioConfig):
    """A sensor to connect to, and what to get from it."""

    address: Address
    """Of the sensor."""
    notify: list[Characteristic] = Field(default_factory=list)
    """Characteristics that the sensor sends by itself, as UUIDs or by the names of what they measure. The connection stays."""
    read: list[Characteristic] = Field(default_factory=list)
    """Characteristics that are asked for, all together."""
    interval: Annotated[DurationS, Field(ge=0.1, le=DAY_S)] = 60.0
    """From one asking to the next."""
    connect_timeout: Annotated[DurationS, Field(ge=0.1, le=60)] = 15.0
    """For the connection and the discovery of its services, once the sensor was heard."""
    connections_max: Annotated[int, Field(ge=1, le=20)] = 4
    """Connections that the adapter has at a time, to all sensors; when sources say different numbers, the smallest counts."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        """What is wanted is said once.

        Raises:
            ValueError: Nothing is wanted, or something twice.
        """
        if not self.notify and not self.read:
            raise ValueError("what from it? Give `notify`, `read`, or both: lists of characteristics")
        for uuid in {*self.notify, *self.read}:
            if self.notify.count(uuid) + self.read.count(uuid) > 1:
                raise ValueError(f"the characteristic {shown_uuid(uuid)} is there twice")
        return self

    def check_codec(self, name: str) -> None:
        """Whether a codec reads values of characteristics.

        Raises:
            ValueError: It reads advertisements.
        """
        if name in MAKERS:
            raise ValueError('reads advertisements, not characteristics: that is `driver = "ble"`')
