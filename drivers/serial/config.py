"""What a serial source needs to know. Importing this costs no pyserial."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from collectors.units import DurationS
from drivers.framing import FRAMINGS, FramingChoice

PORT_EXAMPLES = "/dev/serial/by-id/usb-Arduino_Uno-if00, /dev/ttyUSB0 or socket://192.168.1.20:4001"


def _port(port: str) -> str:
    """A device path, or the address of a serial server.

    Raises:
        ValueError: It is neither.
    """
    if port.startswith("/"):
        return port
    if not port.startswith("socket://"):
        raise ValueError(
            f"{port!r} is no serial port: it must be a device path or socket://, such as {PORT_EXAMPLES}"
        )
    try:
        parts = urlsplit(port)
        complete = parts.hostname and parts.port
    except ValueError as error:
        raise ValueError(f"{port!r}: {error}") from None
    if not complete or parts.path.strip("/") or parts.query or parts.username:
        raise ValueError(f"{port!r} must be socket://HOST:PORT and nothing more")
    return port


class SerialConfig(BaseModel):
    """A serial port and how frames are found on it."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    port: Annotated[str, AfterValidator(_port)]
    """Device path (best below /dev/serial/by-id, which survives replugging), or socket://HOST:PORT of a serial server."""
    baudrate: Annotated[int, Field(ge=50, le=4_000_000)] = 115200
    bytesize: Literal[5, 6, 7, 8] = 8
    parity: Literal["none", "even", "odd", "mark", "space"] = "none"
    stopbits: Literal[1, 2] = 1
    """POSIX has no 1.5."""
    exclusive: bool = True
    """Refuse to share the port with another program that asks for it exclusively too: two readers get half the bytes each."""
    framing: FramingChoice = Field(default_factory=lambda: FRAMINGS.choose("lines"))
    """How frames are found in the bytes: a name, or a table with the name as `type` and the framing's options."""
    open_timeout: Annotated[DurationS, Field(le=300)] = 10.0
    """How long opening may take."""

    @model_validator(mode="after")
    def _line_settings_need_a_line(self) -> Self:
        """A serial server has its own line settings; those given here would be ignored in silence.

        Raises:
            ValueError: Line settings are given for a `socket://` port.
        """
        ignored = {"baudrate", "bytesize", "parity", "stopbits", "exclusive"} & self.model_fields_set
        if ignored and not self.is_device:
            raise ValueError(
                f"{', '.join(sorted(ignored))}: set where the port is; socket:// carries bytes only"
            )
        return self

    @property
    def is_device(self) -> bool:
        """Whether the port is a device of this machine."""
        return self.port.startswith("/")
