"""Lines: frames of text that end with a terminator, a newline unless told otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from drivers.framing.config import FRAME_BYTES_DEFAULT, ByteString, FramingConfig, MaxFrame
from drivers.framing.terminated import TerminatedFramer

if TYPE_CHECKING:
    from drivers.framing.model import FrameError


class LineFramer(TerminatedFramer):
    r"""Finds lines in a stream.

    Empty lines are no frames. With the terminator `\n` a `\r` before it does not belong to the line, so that
    devices which end lines with `\r\n` need no configuration.

    Args:
        terminator: What ends a line; one byte or more.
        max_length: The longest permitted line in bytes, without its terminator.
        skip_first: Leave out everything up to the first terminator: a port opened while the device was
            sending begins in the middle of a line, and what is left of it can look like a whole one.

    Raises:
        ValueError: The terminator is empty, or the length is below 1.
    """

    def __init__(
        self, terminator: bytes = b"\n", *, max_length: int = FRAME_BYTES_DEFAULT, skip_first: bool = False
    ) -> None:
        super().__init__(terminator, max_length=max_length, skip_first=skip_first, what="line")
        self._is_newline = terminator == b"\n"

    def _decoded(self, piece: bytes) -> bytes:
        return piece.removesuffix(b"\r") if self._is_newline else piece

    def _frames(self, pieces: list[bytes]) -> list[bytes | FrameError]:
        found: list[bytes | FrameError]
        if self._is_newline:
            found = [line for piece in pieces if (line := piece.removesuffix(b"\r"))]
        else:
            found = [piece for piece in pieces if piece]
        self.counts.frames += len(found)
        return found


class LinesConfig(FramingConfig):
    """Lines."""

    summary: ClassVar[str] = "lines of text; the terminator and the longest line can be set"
    example: ClassVar[str] = 'framing = { type = "lines", terminator = "\\r\\n", max_frame = "1 KiB" }'
    is_text: ClassVar[bool] = True

    type: Literal["lines"] = "lines"
    terminator: Annotated[ByteString, Field(min_length=1, max_length=8)] = b"\n"
    r"""What ends a line. With the default `\n`, a `\r` before it is removed."""
    max_frame: MaxFrame = FRAME_BYTES_DEFAULT
    """The longest permitted line, bytes."""
    first_frame: Literal["keep", "discard"] = "keep"
    """What to do with the first line after opening, whose beginning may be missing. JSON without its beginning never
    decodes, so `keep` is safe for it; a format such as CSV can turn 23.5 into 3.5 and wants `discard`."""

    @property
    def keeps_half(self) -> bool:
        """Whether the first line after opening is given out although its beginning may be missing."""
        return self.first_frame == "keep"

    def framer(self) -> LineFramer:
        """A framer at the beginning of a stream."""
        return LineFramer(
            self.terminator, max_length=self.max_frame, skip_first=self.first_frame == "discard"
        )

    def encode(self, payload: bytes) -> bytes:
        """The line with its terminator.

        Raises:
            ValueError: It is empty or too long, or holds the terminator.
        """
        line = payload + self.terminator
        if not payload or len(payload) > self.max_frame or line.find(self.terminator) != len(payload):
            raise ValueError(
                f"a line must have 1 to {self.max_frame} bytes and no terminator {self.terminator!r}"
            )
        return line
