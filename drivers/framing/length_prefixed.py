"""Frames that begin with their length: `sync`, length, payload, check sequence.

The check sequence, if there is one, covers the length and the payload. Without `sync`, a length that was changed on
the way, or a wrong check sequence, loses the place until the line pauses (`gap`).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from collectors.units import DurationS
from drivers.framing.config import FRAME_BYTES_DEFAULT, ByteString, FramingConfig, MaxFrame
from drivers.framing.crc import CRCS, CrcName
from drivers.framing.model import ErrorKind
from drivers.framing.sought import Found, SoughtFramer


class LengthPrefixedFramer(SoughtFramer):
    """Finds frames that say their length.

    Args:
        config: How they say it.
    """

    def __init__(self, config: LengthPrefixedConfig) -> None:
        self._crc = CRCS[config.crc]
        self._config = config
        self._header = len(config.sync) + config.length_bytes
        super().__init__(config.sync, longest=self._header + config.max_frame + self._crc.size)

    def _look(self, buffer: bytes, start: int) -> Found | tuple[ErrorKind, str] | None:
        body = start + self._header
        if len(buffer) < body:
            return None
        length = buffer[start + len(self._sync) : body]
        said = int.from_bytes(length, self._config.byteorder)
        size = said - self._config.counted_beside(self._crc.size)
        if not 0 <= size <= self._config.max_frame:
            reason = f"a length of {said} bytes: `max_frame` allows {self._config.max_frame}"
            return ErrorKind.TOO_LONG, reason
        end = body + size + self._crc.size
        if len(buffer) < end:
            return None
        payload = self._crc.payload(buffer[body:end], covers_before=length)
        if payload is None:
            return ErrorKind.WRONG_CRC, f"wrong check sequence in a frame of {end - start} bytes"
        return Found(payload, end)


class LengthPrefixedConfig(FramingConfig):
    """Frames that begin with their length."""

    summary: ClassVar[str] = "binary frames that begin with their length, best after sync bytes"
    example: ClassVar[str] = (
        'framing = { type = "length_prefixed", sync = [0xAA, 0x55], length_bytes = 1, crc = "crc16" }'
    )

    type: Literal["length_prefixed"] = "length_prefixed"
    length_bytes: Literal[1, 2, 4] = 2
    """How many bytes the length has."""
    byteorder: Literal["big", "little"] = "big"
    """Of the length. The check sequence always has its highest byte first."""
    length_counts: Literal["payload", "payload_and_crc", "frame"] = "payload"
    """What the length counts: `frame` is everything from the first sync byte to the last of the check sequence."""
    sync: Annotated[ByteString, Field(max_length=16)] = b""
    """What every frame begins with."""
    crc: CrcName = "none"
    """The check sequence at the end of each frame, over length and payload."""
    max_frame: MaxFrame = FRAME_BYTES_DEFAULT
    """The longest permitted payload, bytes."""
    gap: Annotated[DurationS, Field(ge=0.005, le=3600)] = 1.0
    """A pause after which a frame that is not complete is given up, and a new one begins."""

    @property
    def gap_s(self) -> float:
        """A pause on the line that ends every frame that is not complete."""
        return self.gap

    def framer(self) -> LengthPrefixedFramer:
        """A framer at the beginning of a stream."""
        return LengthPrefixedFramer(self)

    def counted_beside(self, crc_size: int) -> int:
        """How many bytes the length counts that are none of the payload's."""
        if self.length_counts == "frame":
            return len(self.sync) + self.length_bytes + crc_size
        return crc_size if self.length_counts == "payload_and_crc" else 0

    def encode(self, payload: bytes) -> bytes:
        """The frame.

        Raises:
            ValueError: The payload is too long, for `max_frame` or for the length.
        """
        crc = CRCS[self.crc]
        said = len(payload) + self.counted_beside(crc.size)
        if len(payload) > self.max_frame or said >= 1 << 8 * self.length_bytes:
            raise ValueError(
                f"{len(payload)} bytes are too long for a frame with this length and `max_frame`"
            )
        length = said.to_bytes(self.length_bytes, self.byteorder)
        return self.sync + length + crc.append(length + payload)[len(length) :]
