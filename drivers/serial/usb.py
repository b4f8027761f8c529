"""USB adapters by what they are: vendor, product and serial number, whatever name the system gives them today.

/dev/ttyUSB0 is the adapter that was plugged in first. One that drops off the bus for a moment while it is open comes
back as /dev/ttyUSB1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from drivers.serial.trouble import PortError, TroubleKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def _hexadecimal(value: Any) -> Any:
    """A number as USB writes it, from a TOML integer as well."""
    return f"{value:04x}" if isinstance(value, int) and not isinstance(value, bool) else value


_Hexadecimal = Annotated[str, Field(pattern="^[0-9a-fA-F]{4}$")]
UsbNumber = Annotated[
    str,
    BeforeValidator(_hexadecimal, json_schema_input_type=int | _Hexadecimal),
    Field(pattern="^[0-9a-fA-F]{4}$"),
]
"""Four hexadecimal digits."""


class UsbConfig(BaseModel):
    """Which USB adapter."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    vendor: UsbNumber
    """As `lsusb` shows it before the colon."""
    product: UsbNumber
    """As `lsusb` shows it behind the colon."""
    serial: Annotated[str, Field(min_length=1)] | None = None
    """The serial number, for one of several of a kind."""
    interface: Annotated[int, Field(ge=0, le=255)] | None = None
    """Which port of an adapter that has several; they are counted from 0."""

    def __str__(self) -> str:
        """As messages name it."""
        serial = f" serial {self.serial}" if self.serial is not None else ""
        interface = f" interface {self.interface}" if self.interface is not None else ""
        return f"USB {self.vendor.lower()}:{self.product.lower()}{serial}{interface}"


def find_port(wanted: UsbConfig, list_ports: Callable[[], Iterable[Any]] | None = None) -> str:
    """The device path of an adapter; reads sysfs, so it blocks.

    Args:
        wanted: Which.
        list_ports: Lists the ports; pyserial's, unless a test brings another.

    Raises:
        PortError: It is not plugged in, or several are meant.
    """
    if list_ports is None:
        from serial.tools.list_ports import comports

        list_ports = comports
    adapters = [port for port in list_ports() if port.vid is not None]
    found = [port for port in adapters if _is_meant(wanted, port)]
    if len(found) == 1:
        return str(found[0].device)
    if found:
        those = ", ".join(_described(port) for port in found)
        raise PortError(
            TroubleKind.NO_PORT,
            f"{wanted}: {len(found)} ports match: name one by its `serial` or `interface`: {those}",
        )
    there = ", ".join(_described(port) for port in adapters)
    those = f"there are {there}" if there else "there is no USB serial port at all"
    raise PortError(TroubleKind.NO_PORT, f"{wanted}: not plugged in: {those}")


def _is_meant(wanted: UsbConfig, port: Any) -> bool:
    if (port.vid, port.pid) != (int(wanted.vendor, 16), int(wanted.product, 16)):
        return False
    if wanted.serial is not None and wanted.serial != port.serial_number:
        return False
    return wanted.interface is None or wanted.interface == _interface(port)


def _interface(port: Any) -> int:
    """The number at the end of `1-1.2:1.0`; adapters with one port only do not say it."""
    _, found, number = str(port.location or "").rpartition(":")
    return int(number.rpartition(".")[2]) if found else 0


def _described(port: Any) -> str:
    serial = f" serial {port.serial_number}" if port.serial_number else ""
    return f"{port.device} ({port.vid:04x}:{port.pid:04x}{serial} interface {_interface(port)})"
