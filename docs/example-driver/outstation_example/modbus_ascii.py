"""A framing: Modbus ASCII. A colon, the bytes in hexadecimal, their LRC, and a line's end (Modbus over serial line, 2.5.2).

The LRC is the two's complement of the sum of all bytes, in 8 bits. It notices one flipped bit, and not all of two: for new
devices take a CRC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from drivers.framing import ErrorKind, FrameError, FramingConfig
from drivers.framing.terminated import TerminatedFramer

if TYPE_CHECKING:
    from drivers.framing import Framer

BYTES_MAX = 254
"""Of a message without its LRC, says the standard."""


class ModbusAsciiFramer(TerminatedFramer):
    """Finds messages. `TerminatedFramer` splits, bounds and counts; only what a line says is left to do."""

    _is_checked = True  # a message without its beginning is recognised as none

    def __init__(self) -> None:
        super().__init__(b"\r\n", max_length=1 + 2 * (BYTES_MAX + 1), skip_first=True, what="message")

    def _decoded(self, piece: bytes) -> bytes | FrameError:
        if not piece.startswith(b":"):
            return FrameError(ErrorKind.HALF, "a message without a colon before it", piece)
        try:
            message = bytes.fromhex(piece[1:].decode("ascii"))
        except ValueError:
            return FrameError(ErrorKind.NOISE, "a message that is not hexadecimal", piece)
        if not message or sum(message) % 256:
            return FrameError(ErrorKind.WRONG_CRC, "wrong LRC", piece)
        return message[:-1]


class ModbusAsciiConfig(FramingConfig):
    """The framing as a configuration names it."""

    summary: ClassVar[str] = "Modbus ASCII messages with their LRC"
    example: ClassVar[str] = 'framing = "modbus_ascii"'
    is_text: ClassVar[bool] = False  # what comes out are bytes, though the line carries text

    type: Literal["modbus_ascii"] = "modbus_ascii"

    def framer(self) -> Framer:
        """A framer at the beginning of a stream: one for each connection."""
        return ModbusAsciiFramer()

    def encode(self, payload: bytes) -> bytes:
        """The message on the line: for requests (`poll`), and for tests.

        Raises:
            ValueError: It is too long.
        """
        if len(payload) > BYTES_MAX:
            raise ValueError(f"a message of {len(payload)} bytes: {BYTES_MAX} are the most")
        checked = payload + bytes([-sum(payload) % 256])
        return b":" + checked.hex().upper().encode() + b"\r\n"
