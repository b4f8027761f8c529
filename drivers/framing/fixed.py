"""Frames of a fixed length, best with sync bytes before them: `sync`, payload, check sequence.

The check sequence, if there is one, covers the payload. Without `sync`, a frame begins where the one before it ends;
after a wrong check sequence, and after bytes that were lost unnoticed, only a pause on the line (`gap`) tells where.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from collectors.units import DurationS
from drivers.framing.config import FRAME_BYTES_MAX, ByteString, FramingConfig
from drivers.framing.crc import CRCS, CrcName
from drivers.framing.model import ErrorKind
from drivers.framing.sought import Found, SoughtFramer


class FixedFramer(SoughtFramer):
    """Finds frames of one length in a stream.

    Args:
        length: Bytes of a payload.
        sync: What comes before each.
        crc: The check sequence; the name of one in `CRCS`.

    Raises:
        ValueError: The length is below 1.
    """

    def __init__(self, length: int, *, sync: bytes = b"", crc: CrcName = "none") -> None:
        if length < 1:
            raise ValueError(f"a frame must have at least one byte, not {length}")
        self._crc = CRCS[crc]
        self._size = len(sync) + length + self._crc.size
        super().__init__(sync, longest=self._size)

    def _look(self, buffer: bytes, start: int) -> Found | tuple[ErrorKind, str] | None:
        end = start + self._size
        if len(buffer) < end:
            return None
        payload = self._crc.payload(buffer[start + len(self._sync) : end])
        if payload is None:
            return ErrorKind.WRONG_CRC, f"wrong check sequence in a frame of {self._size} bytes"
        return Found(payload, end)


class FixedConfig(FramingConfig):
    """Frames of a fixed length."""

    summary: ClassVar[str] = "binary frames of one length, best with sync bytes before them"
    example: ClassVar[str] = 'framing = { type = "fixed", length = 7, sync = [0xFF, 0x86] }'

    type: Literal["fixed"] = "fixed"
    length: Annotated[int, Field(ge=1, le=FRAME_BYTES_MAX)]
    """Bytes of what comes out: without `sync` and the check sequence."""
    sync: Annotated[ByteString, Field(max_length=16)] = b""
    """What every frame begins with."""
    crc: CrcName = "none"
    """The check sequence at the end of each frame."""
    gap: Annotated[DurationS, Field(ge=0.005, le=3600)] = 1.0
    """A pause after which a frame that is not complete is given up, and a new one begins."""

    @property
    def gap_s(self) -> float:
        """A pause on the line that ends every frame that is not complete."""
        return self.gap

    def framer(self) -> FixedFramer:
        """A framer at the beginning of a stream."""
        return FixedFramer(self.length, sync=self.sync, crc=self.crc)

    def encode(self, payload: bytes) -> bytes:
        """The frame.

        Raises:
            ValueError: The payload has another length.
        """
        if len(payload) != self.length:
            raise ValueError(f"a frame must have {self.length} bytes, not {len(payload)}")
        return self.sync + CRCS[self.crc].append(payload)
