"""The drivers by name. A driver, and the libraries it needs, are imported when somebody asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from drivers.extensions import DRIVERS as GROUP
from drivers.extensions import Names, find_part, load_target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pydantic import BaseModel

    from collectors.clock import Clock
    from collectors.interfaces import IDataSource
    from drivers.examination import Examined, Finding

    Examiner = Callable[[Examined], Awaitable[list[Finding]]]


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
    """What it reads, in one line."""
    example: str
    """TOML of a [[source]], which a test loads."""
    registration: Mapping[str, object] = field(default_factory=dict)
    """What its sources are registered with (`collectors.registration.SourceRegistration`)."""
    scout: str | None = None
    """The module that looks around for its sensors."""
    examiner: str | None = None
    """What looks at a source from outside (`drivers.examination`): `module:function`, awaited with an `Examined`."""
    presets: str | None = None
    """Where its ready configurations are, by name: `module:mapping`."""


DRIVERS: Mapping[str, Driver] = {
    "ble": Driver(
        config="drivers.ble.config:BleConfig",
        source="drivers.ble.source:BleSource",
        summary="what Bluetooth LE sensors advertise",
        example="""\
[[source]]
id = "hall"
driver = "ble"
address = "A4:C1:38:12:34:56"
codec = "bthome"
""",
        scout="drivers.ble.discover",
        examiner="drivers.ble.examine:examine",
        registration={"retry_cap_s": 5.0},  # it waits by itself for what is missing
    ),
    "gatt": Driver(
        config="drivers.ble.config:GattConfig",
        source="drivers.ble.gatt_source:GattSource",
        summary="characteristics of a Bluetooth LE sensor that is connected to",
        example="""\
[[source]]
id = "strap"
driver = "gatt"
address = "A4:C1:38:12:34:56"
notify = ["2a37"]
codec = "gatt"
""",
        examiner="drivers.ble.examine:examine",
        # Until bluetoothd is there, the sensor is heard, another one is done, it is connected to, and it notifies: each of
        # these has a limit of its own, whose message says what is wrong.
        registration={"retry_cap_s": 5.0, "connect_timeout_s": 240.0},
    ),
    "mqtt": Driver(
        config="drivers.mqtt.config:MqttSourceConfig",
        source="drivers.mqtt.source:MqttSource",
        summary="messages from an MQTT broker, acknowledged when they are durable",
        example="""\
[[source]]
id = "house"
driver = "mqtt"
url = "mqtt://localhost:1883"
topics = ["sensors/#"]
""",
        presets="drivers.mqtt.presets:PRESETS",
        scout="drivers.mqtt.discover",
        examiner="drivers.mqtt.examine:examine",
    ),
    "serial": Driver(
        config="drivers.serial.config:SerialConfig",
        source="drivers.serial.source:SerialSource",
        scout="drivers.serial.discover",
        examiner="drivers.serial.examine:examine",
        summary="frames from a serial port, a device or socket://",
        example="""\
[[source]]
id = "soil"
driver = "serial"
port = "/dev/serial/by-id/usb-Arduino_Uno-if00"
baudrate = 115200
settle = "2 s"
silent_after = "1 min"
framing = { type = "cobs", crc = "crc16" }

[source.codec]
type = "struct"
byteorder = "little"

[[source.codec.layout]]
fields = [{ name = "temperature", type = "i16", scale = 0.1, unit = "Cel" }]
""",
    ),
    "simulated": Driver(
        config="drivers.simulated.config:SimulatedConfig",
        source="drivers.simulated.source:SimulatedSource",
        summary="made-up readings at a fixed rate",
        example="""\
[[source]]
id = "test"
driver = "simulated"
rate = 10
signals = [{ name = "temperature", kind = "sine", mean = 21, amplitude = 3 }]
""",
    ),
}


NAMES = Names(DRIVERS, GROUP)
"""The names of all drivers, those of other packages too."""


def driver(name: str) -> Driver:
    """The driver with this name; imports nothing, unless another package brings it.

    Raises:
        ValueError: There is none, or it cannot be used; the message says what would be right.
    """
    return find_part(name, DRIVERS, GROUP, "driver")


def load_config_class(name: str) -> type[BaseModel]:
    """The class that checks a driver's configuration; imports no library that only its source needs.

    Of a driver that another package brings, the source is tried as well: a part of it that is missing is found
    when the configuration is checked.

    Raises:
        ValueError: There is no such driver, or it cannot be used.
    """
    found = driver(name)
    if name not in DRIVERS:
        _load(found.source, name)
    return cast("type[BaseModel]", _load(found.config, name))


def load_presets(name: str) -> Mapping[str, Mapping[str, Any]]:
    """The ready configurations of a driver: what each fills in, by name; none for a driver that there is not."""
    found = DRIVERS.get(name)
    if found is None or found.presets is None:
        return {}
    return cast("Mapping[str, Mapping[str, Any]]", _load(found.presets, name))


def load_scout(name: str, part: str) -> Any:
    """What looks around for a driver's sensors (`drivers.discovery`), by the name that it has in its module.

    Raises:
        ValueError: There is no such driver, or none looks around for it.
    """
    found = driver(name)
    if found.scout is None:
        raise ValueError(f"nothing looks around for the driver {name!r}")
    return _load(f"{found.scout}:{part}", name)


def load_examiner(name: str) -> Examiner | None:
    """What looks at a source of a driver from outside; None when nothing does.

    Raises:
        ValueError: There is no such driver, or it cannot be used.
    """
    found = driver(name)
    return None if found.examiner is None else cast("Examiner", _load(found.examiner, name))


def load_source_class(name: str) -> SourceClass:
    """The class of a driver's sources; imports what it needs.

    Raises:
        ValueError: There is no such driver, or it cannot be used.
    """
    return cast("SourceClass", _load(driver(name).source, name))


def _load(target: str, name: str) -> object:
    return load_target(target, name, DRIVERS, "driver")
