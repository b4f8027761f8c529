"""Frames between two delimiters, such as `<...>` or STX ... ETX.

Without an `escape`, neither delimiter can occur inside a frame: a second beginning before the end says that the end
of the first frame is missing. With one, the byte behind it is data whatever it is (after `escape_xor`, as in HDLC-like
framing, RFC 1662). Spaces, line ends and zeros between frames are no noise.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from drivers.framing.config import FRAME_BYTES_DEFAULT, ByteString, FramingConfig, MaxFrame
from drivers.framing.crc import CRCS, CrcName
from drivers.framing.model import ErrorKind
from drivers.framing.sought import Found, SoughtFramer

_SEPARATORS = b" \t\r\n\0"


class DelimitedFramer(SoughtFramer):
    """Finds frames between delimiters.

    Args:
        config: The delimiters.
    """

    def __init__(self, config: DelimitedConfig) -> None:
        self._crc = CRCS[config.crc]
        self._end = config.end
        self._escape = config.escape
        self._xor = config.escape_xor
        self._max_frame = config.max_frame
        self._body_max = (config.max_frame + self._crc.size) * (2 if config.escape else 1)
        marks = [re.escape(config.start), re.escape(config.end)]
        if config.escape:
            marks.append(re.escape(config.escape) + b".")
        self._mark = re.compile(b"|".join(marks), re.DOTALL)
        longest = len(config.start) + self._body_max + len(config.end)
        super().__init__(config.start, longest=longest, separators=_SEPARATORS)

    def _look(self, buffer: bytes, start: int) -> Found | tuple[ErrorKind, str] | None:
        body = start + len(self._sync)
        at, limit = body, body + self._body_max + len(self._end)
        while (mark := self._mark.search(buffer, at, limit)) is not None:
            if mark[0] == self._end:
                return self._frame(buffer[body : mark.start()], mark.end())
            if mark[0] == self._sync:
                return ErrorKind.HALF, f"a new beginning {self._sync!r} before the end {self._end!r}"
            at = mark.end()
        if len(buffer) < limit:
            return None
        return ErrorKind.TOO_LONG, f"no end {self._end!r} within {self._body_max} bytes: raise `max_frame`?"

    def _frame(self, body: bytes, end: int) -> Found | tuple[ErrorKind, str]:
        if self._escape and self._escape in body:
            body = self._mark.sub(lambda mark: bytes([mark[0][1] ^ self._xor]), body)
        payload = self._crc.payload(body)
        if payload is None:
            return ErrorKind.WRONG_CRC, f"wrong check sequence after {len(body)} bytes"
        if len(payload) > self._max_frame:
            return (
                ErrorKind.TOO_LONG,
                f"a frame of {len(payload)} bytes: `max_frame` allows {self._max_frame}",
            )
        return Found(payload, end)


class DelimitedConfig(FramingConfig):
    """Frames between two delimiters."""

    summary: ClassVar[str] = "frames between a beginning and an end, such as <...> or STX ... ETX"
    example: ClassVar[str] = 'framing = { type = "delimited", start = "<", end = ">" }'

    type: Literal["delimited"] = "delimited"
    start: Annotated[ByteString, Field(min_length=1, max_length=8)]
    """What a frame begins with."""
    end: Annotated[ByteString, Field(min_length=1, max_length=8)]
    """What a frame ends with."""
    escape: Annotated[ByteString, Field(min_length=1, max_length=1)] | None = None
    """The byte behind it is data, whatever it is."""
    escape_xor: Annotated[int, Field(ge=0, le=255)] = 0
    """What that byte was XORed with: 0x20 in HDLC-like framing."""
    crc: CrcName = "none"
    """`crc16` is CRC-16/CCITT-FALSE, `crc32` that of IEEE 802.3, each appended with its highest byte first."""
    max_frame: MaxFrame = FRAME_BYTES_DEFAULT
    """The longest permitted payload, bytes."""

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        """Every mark is recognised as soon as its last byte is there.

        Raises:
            ValueError: One could be taken for another.
        """
        if self.start in self.end or self.end in self.start:
            raise ValueError(
                "`start` and `end` must not hold each other; a delimiter that is the same on both sides is the "
                'terminator of { type = "lines" }'
            )
        if self.escape is None and self.escape_xor:
            raise ValueError("`escape_xor` needs an `escape`")
        if self.escape is not None:
            for name, mark in (("start", self.start), ("end", self.end)):
                if self.escape in mark and not (mark.startswith(self.escape) and len(mark) == 2):  # noqa: PLR2004 (as said)
                    raise ValueError(
                        f"`{name}` may hold the `escape` only as the first of two bytes (DLE STX)"
                    )
        return self

    def framer(self) -> DelimitedFramer:
        """A framer at the beginning of a stream."""
        return DelimitedFramer(self)

    def encode(self, payload: bytes) -> bytes:
        """The frame, with its delimiters.

        Raises:
            ValueError: The payload is too long, or holds what only an `escape` could carry.
        """
        body = CRCS[self.crc].append(payload)
        if self.escape is not None:
            special = {self.escape[0], self.start[0], self.end[0]}
            body = b"".join(
                self.escape + bytes([byte ^ self.escape_xor]) if byte in special else bytes([byte])
                for byte in body
            )
        frame = self.start + body + self.end
        if self.framer().feed(frame) != [payload]:
            raise ValueError(
                f"no frame between {self.start!r} and {self.end!r} of {self.max_frame} bytes can hold {payload[:40]!r}"
            )
        return frame
