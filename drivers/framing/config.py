"""What the configurations of all framings share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from collectors.units import SizeBytes
from drivers.choice import Options
from drivers.framing.crc import CRCS, CrcName

if TYPE_CHECKING:
    from drivers.framing.model import Framer

FRAME_BYTES_MAX = 65536
"""No framing takes longer frames: so much one source may hold while a frame is not complete."""

FRAME_BYTES_DEFAULT = 4096
"""Default of the longest frame. The Linux terminal layer's own limit in its line mode is the same."""

MaxFrame = Annotated[SizeBytes, Field(le=FRAME_BYTES_MAX)]


def parse_bytes(value: Any) -> Any:
    r"""Bytes, from a text with one character a byte (`"\r\n"`, `"\u0002"`) or a list of numbers (`[0xAA, 0x55]`).

    Raises:
        ValueError: A character or a number is no single byte.
    """
    if isinstance(value, str):
        if not all(ord(character) < 256 for character in value):  # noqa: PLR2004 (what a byte can hold)
            raise ValueError(
                f"{value!r} has characters that are not one byte each; write bytes as \\u0000 to \\u00ff"
            )
        return value.encode("latin-1")
    if isinstance(value, list):
        if not all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):  # noqa: PLR2004 (likewise)
            raise ValueError(f"{value!r} is not a list of bytes; write them like [0xAA, 0x55]")
        return bytes(value)
    return value


ByteNumbers = list[Annotated[int, Field(ge=0, le=255)]]
"""Bytes as numbers, for schemas."""

ByteString = Annotated[bytes, BeforeValidator(parse_bytes, json_schema_input_type=str | ByteNumbers)]
"""Bytes as a configuration writes them."""


class FramingConfig(Options, ABC):
    """A framing and its options, as a configuration names it. Subclasses say their name as the default of `type`."""

    summary: ClassVar[str]
    """What it is for, in one line."""
    example: ClassVar[str]
    """TOML of a source's `framing`."""
    is_text: ClassVar[bool] = False
    """Whether frames hold text and nothing else."""

    @property
    def gap_s(self) -> float | None:
        """A pause on the line that ends every frame that is not complete; None: pauses mean nothing."""
        return None

    @property
    def keeps_half(self) -> bool:
        """Whether the first frame after opening is given out although its beginning may be missing."""
        return False

    @abstractmethod
    def framer(self) -> Framer:
        """A framer at the beginning of a stream."""

    @abstractmethod
    def encode(self, payload: bytes) -> bytes:
        """The frame that holds a payload, as it is on the line.

        Raises:
            ValueError: No frame of this framing can hold it.
        """


class CheckedFramingConfig(FramingConfig, ABC):
    """What framings have in common whose payloads may end with a check sequence, and that can be joined midway."""

    crc: CrcName = "none"
    """`crc16` is CRC-16/CCITT-FALSE, `crc32` that of IEEE 802.3, each appended with its highest byte first; `crc16_modbus` is
    that of Modbus, with its lowest byte first."""
    max_frame: MaxFrame = FRAME_BYTES_DEFAULT
    """The longest permitted payload, bytes."""
    first_frame: Literal["keep", "discard"] = "keep"
    """Without a check sequence: what to do with the first frame after opening, whose beginning may be missing."""

    @property
    def keeps_half(self) -> bool:
        """Whether the first frame after opening is given out although its beginning may be missing."""
        return self.crc == "none" and self.first_frame == "keep"

    @model_validator(mode="after")
    def _first_frame_is_checked(self) -> Self:
        """A check sequence already tells whether the first frame is whole.

        Raises:
            ValueError: The first frame is to be discarded all the same.
        """
        if self.first_frame == "discard" and self.crc != "none":
            raise ValueError(
                "`first_frame`: the check sequence already finds a first frame that is not whole"
            )
        return self

    def checked(self, payload: bytes) -> bytes:
        """The payload with its check sequence.

        Raises:
            ValueError: It is too long.
        """
        if len(payload) > self.max_frame:
            raise ValueError(f"a frame of {len(payload)} bytes: `max_frame` allows {self.max_frame}")
        return CRCS[self.crc].append(payload)
