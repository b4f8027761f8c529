"""What all framings share: the interface, the error and the counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class ErrorKind(StrEnum):
    """Why bytes were not a frame."""

    NOISE = "noise"
    """Bytes between frames that belong to none, or that break the rules of the encoding."""
    HALF = "half_frame"
    """A frame with its beginning or its end missing."""
    TOO_LONG = "too_long"
    """No end of frame within the longest permitted frame."""
    WRONG_CRC = "wrong_crc"
    """A whole frame whose check sequence says that it was changed on the way."""
    CUT_OFF = "cut_off"
    """The connection ended, or the line fell silent, inside the frame."""


@dataclass(frozen=True, slots=True)
class FrameError:
    """Bytes that are not a frame."""

    kind: ErrorKind
    reason: str
    """What is wrong and what would be right, for people."""
    raw: bytes
    """The bytes, with those that ended it where it was whole; of what is too long only as many as the longest permitted frame
    has, the rest is only counted."""


@dataclass(slots=True)
class FrameCounts:
    """What a framer has seen since it was made."""

    frames: int = 0
    """Intact frames given out."""
    skipped: int = 0
    """First frames left out because the stream may have been joined in the middle of one."""
    errors: dict[ErrorKind, int] = field(default_factory=dict)
    dropped_bytes: int = 0
    """Bytes that belong to no frame given out: those of errors, whether shown in `raw` or not, and of skipped frames."""

    def note(self, kind: ErrorKind) -> None:
        """Count an error."""
        self.errors[kind] = self.errors.get(kind, 0) + 1


class Framer(Protocol):
    """A framing at work on one stream. A new one per connection."""

    counts: FrameCounts

    def feed(self, data: bytes) -> list[bytes | FrameError]:
        """The frames, and what was not one, that `data` completes; in order. Never raises."""
        ...

    def finish(self) -> list[bytes | FrameError]:
        """The stream has ended, or paused: what the bytes are that belong to no frame yet.

        What is fed after this is a new beginning.
        """
        ...
