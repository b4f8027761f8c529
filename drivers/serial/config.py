"""What a serial source needs to know. Importing this costs no pyserial."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from collectors.units import DurationS
from drivers.framing import FRAMINGS, FramingChoice
from drivers.serial.poll_config import PollConfig
from drivers.serial.resend_config import ResendConfig
from drivers.serial.usb import UsbConfig

_LINE_SETTINGS = (
    "baudrate",
    "bytesize",
    "parity",
    "stopbits",
    "flow_control",
    "dtr",
    "rts",
    "hangup",
    "exclusive",
)
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

    port: Annotated[str, AfterValidator(_port)] | None = None
    """Device path (best below /dev/serial/by-id, which survives replugging), or socket://HOST:PORT of a serial server."""
    usb: UsbConfig | None = None
    """Instead of `port`: a USB adapter by vendor, product and serial number, under whatever name it comes."""
    baudrate: Annotated[int, Field(ge=50, le=4_000_000)] = 115200
    """The speed of the line, bits a second."""
    bytesize: Literal[5, 6, 7, 8] = 8
    """Data bits of a character."""
    parity: Literal["none", "even", "odd", "mark", "space"] = "none"
    """The parity bit of a character."""
    stopbits: Literal[1, 2] = 1
    """POSIX has no 1.5."""
    flow_control: Literal["none", "rtscts", "xonxoff"] = "none"
    """Who stops the other side when it is too quick: nobody, two wires, or two characters (0x11 and 0x13: for text only)."""
    dtr: bool = True
    """Whether DTR is on while the port is open. The system turns it on when opening; off comes a moment later."""
    rts: bool = True
    """Whether RTS is on while the port is open, likewise. With `rtscts` it is the system's."""
    hangup: bool = True
    """Turn DTR and RTS off when the port is closed, as is usual. A board that resets when DTR rises (Arduino Uno) is reset
    by each opening then; with `false` only by the first one after it was plugged in."""
    exclusive: bool = True
    """Refuse to share the port with another program that asks for it exclusively too: two readers get half the bytes each."""
    framing: FramingChoice = Field(default_factory=lambda: FRAMINGS.choose("lines"))
    """How frames are found in the bytes: a name, or a table with the name as `type` and the framing's options."""
    settle: Annotated[DurationS, Field(le=60)] | None = None
    """How long the device restarts after its port was opened (an Uno: 2 s). Until then nothing is sent to it, and what is
    no frame is boot noise, no error."""
    silent_after: Annotated[DurationS, Field(le=30 * 86400)] | None = None
    """The port is opened anew when no good frame came for so long. A key of every source, which says so as well."""
    poll: PollConfig | None = None
    """What to ask the device, and how often, if it does not speak by itself."""
    resend: ResendConfig | None = None
    """How to ask for readings that are missing, if the sensor can send them again."""
    open_timeout: Annotated[DurationS, Field(le=300)] = 10.0
    """How long opening may take."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """One port, and only what it can be set to.

        Raises:
            ValueError: There is none, or two; or settings are given that would be ignored in silence or do harm.
        """
        if self.port is None and self.usb is None:
            raise ValueError(f"give `port`, such as {PORT_EXAMPLES}, or `usb`")
        if self.port is not None and self.usb is not None:
            raise ValueError("`port` and `usb` are two ways to say which port it is: keep one of them")
        ignored = {name for name in _LINE_SETTINGS if name in self.model_fields_set}
        if ignored and not self.is_device:
            raise ValueError(
                f"{', '.join(sorted(ignored))}: set where the port is; socket:// carries bytes only"
            )
        if self.flow_control == "rtscts" and "rts" in self.model_fields_set:
            raise ValueError('`rts` is the system\'s with flow_control = "rtscts"')
        if self.flow_control == "xonxoff" and not self.framing.is_text:
            raise ValueError(
                f'flow_control "xonxoff" takes the bytes 0x11 and 0x13 away, which {self.framing.type} frames can hold'
            )
        if self.poll is not None:
            self.poll.check(self.framing)
        self._check_silence()
        if self.poll is not None and self.resend is not None:
            raise ValueError("`resend` is for a device that speaks by itself, `poll` for one that does not")
        return self

    def _check_silence(self) -> None:
        """A device must have the time to say something before its port is opened anew.

        Raises:
            ValueError: `silent_after` does not give it.
        """
        if self.silent_after is None:
            return
        if self.settle is not None and self.silent_after <= self.settle:
            raise ValueError(
                f"`silent_after` ({self.silent_after:g} s) must be longer than `settle` ({self.settle:g} s): the device "
                "would be restarted again and again before it speaks"
            )
        if self.poll is not None and self.silent_after <= self.poll.interval + self.poll.timeout:
            raise ValueError(
                f"`silent_after` ({self.silent_after:g} s) must be longer than `poll.interval` and `poll.timeout` together "
                f"({self.poll.interval + self.poll.timeout:g} s): the device says nothing before it is asked"
            )

    @property
    def is_device(self) -> bool:
        """Whether the port is a device of this machine."""
        return self.port is None or self.port.startswith("/")

    @property
    def name(self) -> str:
        """The port, for messages."""
        return self.port if self.port is not None else str(self.usb)

    @property
    def configured_usb(self) -> UsbConfig:
        """The USB adapter; only where there is no `port`."""
        assert self.usb is not None
        return self.usb

    def advice(self, *, refuses_half: bool) -> list[str]:
        """What would be better, though it is not wrong. Asks the system: blocks.

        Args:
            refuses_half: Whether the codec decodes nothing that has lost its beginning.
        """
        from drivers.serial.diagnosis import advice

        advised = advice(self.port) if self.port is not None else []
        if self.poll is None and self.framing.keeps_half and not refuses_half:
            advised.append(
                "the port is perhaps opened in the middle of a frame, and what is left of it can be a wrong value (of 23.5, "
                f'3.5): framing = {{ type = "{self.framing.type}", first_frame = "discard" }} leaves the first one out'
            )
        return advised
