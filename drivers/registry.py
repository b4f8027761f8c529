"""The drivers by name. A driver, and the libraries it needs, are imported when somebody asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from collectors.suggestion import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from collectors.clock import Clock
    from collectors.interfaces import IDataSource


class SourceClass(Protocol):
    """How every source is made."""

    def __call__(self, source_id: str, config: Any, *, data_format: str, clock: Clock) -> IDataSource:
        """A source that is not yet connected; `config` is an instance of the driver's configuration class."""
        ...


@dataclass(frozen=True, slots=True)
class Driver:
    """Where the parts of a driver are: `module:class`. The module of the configuration imports no library."""

    config: str
    source: str
    summary: str
    registration: Mapping[str, object] = field(default_factory=dict)
    """What its sources are registered with (`collectors.registration.SourceRegistration`)."""
    presets: str | None = None
    """Where its ready configurations are, by name: `module:mapping`."""


DRIVERS: Mapping[str, Driver] = {
    "ble": Driver(
        config="drivers.ble.config:BleConfig",
        source="drivers.ble.source:BleSource",
        summary="what Bluetooth LE sensors advertise",
        registration={"retry_cap_s": 5.0},  # it waits by itself for what is missing
    ),
    "gatt": Driver(
        config="drivers.ble.config:GattConfig",
        source="drivers.ble.gatt_source:GattSource",
        summary="characteristics of a Bluetooth LE sensor that is connected to",
        # Until the sensor is heard, another one is done, it is connected to, and its services are known.
        registration={"retry_cap_s": 5.0, "connect_timeout_s": 90.0},
    ),
    "mqtt": Driver(
        config="drivers.mqtt.config:MqttSourceConfig",
        source="drivers.mqtt.source:MqttSource",
        summary="messages from an MQTT broker, acknowledged when they are durable",
        presets="drivers.mqtt.presets:PRESETS",
    ),
    "serial": Driver(
        config="drivers.serial.config:SerialConfig",
        source="drivers.serial.source:SerialSource",
        summary="frames from a serial port, a device or socket://",
    ),
    "simulated": Driver(
        config="drivers.simulated.config:SimulatedConfig",
        source="drivers.simulated.source:SimulatedSource",
        summary="made-up readings at a fixed rate",
    ),
}


def driver(name: str) -> Driver:
    """The driver with this name; imports nothing.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    found = DRIVERS.get(name)
    if found is None:
        meant = nearest(name, DRIVERS)
        hint = f"did you mean {meant!r}? " if meant is not None else ""
        raise ValueError(f"no driver is named {name!r}: {hint}there are {', '.join(sorted(DRIVERS))}")
    return found


def load_config_class(name: str) -> type[BaseModel]:
    """The class that checks a driver's configuration; imports no library that only its source needs.

    Raises:
        ValueError: There is no such driver.
    """
    return cast("type[BaseModel]", _load(driver(name).config))


def load_presets(name: str) -> Mapping[str, Mapping[str, Any]]:
    """The ready configurations of a driver: what each fills in, by name; none for a driver that there is not."""
    found = DRIVERS.get(name)
    if found is None or found.presets is None:
        return {}
    return cast("Mapping[str, Mapping[str, Any]]", _load(found.presets))


def load_source_class(name: str) -> SourceClass:
    """The class of a driver's sources; imports what it needs.

    Raises:
        ValueError: There is no such driver.
    """
    return cast("SourceClass", _load(driver(name).source))


def _load(target: str) -> object:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)
