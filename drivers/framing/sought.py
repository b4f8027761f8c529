"""Frames that are sought by how they begin: fixed length, length-prefixed, and between two delimiters.

Where a frame should begin and none can be, the search goes on one byte later. So garbage costs no intact frame
behind it when frames are checked (`crc`); without, a false beginning in the garbage can cost the one frame that it
reaches into. Frames without a beginning of their own (`sync`) cannot be sought: after anything that is no frame,
everything is dropped until the line pauses (`finish`), since whatever comes then is a beginning.

All that lies between two frames is one error, however many false beginnings it has; it is reported when the next
frame is found, when it is longer than any frame, or at a pause. Memory stays below the longest frame, with its
beginning and check sequence, plus as much again of the garbage before it, plus the bytes just fed. Each false beginning costs one check of at most the longest
frame, which only a sender that repeats the beginning on purpose can make many.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from drivers.framing.model import ErrorKind, FrameCounts, FrameError


class Found(NamedTuple):
    """A frame in a buffer."""

    payload: bytes
    end: int
    """Where it ends in the buffer."""


class SoughtFramer(ABC):
    """Seeks frames in a buffer; how one looks is the subclass's.

    Args:
        sync: The bytes that a frame begins with; empty when there are none.
        longest: The longest frame in bytes, with everything that belongs to it.
        separators: Bytes that may stand between frames without being an error.
    """

    def __init__(self, sync: bytes, *, longest: int, separators: bytes = b"") -> None:
        self.counts = FrameCounts()
        self._sync = sync
        self._longest = longest
        self._separators = separators
        self._buffer = b""
        """What is not yet a frame, from where one may begin."""
        self._garbage = b""
        """What lies between the last frame and the buffer; at most the longest frame of it."""
        self._garbage_bytes = 0
        """How much that is in all."""
        self._reason: tuple[ErrorKind, str] | None = None
        """Why the garbage is no frame, if one seemed to begin in it."""
        self._lost = False
        """Whether nothing can be a frame until the line pauses."""

    @abstractmethod
    def _look(self, buffer: bytes, start: int) -> Found | tuple[ErrorKind, str] | None:
        """The frame that begins at `start`, or why none does; None when more bytes are needed to tell."""

    def feed(self, data: bytes) -> list[bytes | FrameError]:
        """The frames, and what was not one, that `data` completes; in order. Never raises."""
        found: list[bytes | FrameError] = []
        if self._lost:
            self._drop(found, data)
        else:
            self._buffer = self._search(found, self._buffer + data, ended=False)
        return found

    def finish(self) -> list[bytes | FrameError]:
        """The stream has ended, or paused: an unfinished frame is an error, and was perhaps a false beginning."""
        found: list[bytes | FrameError] = []
        buffer, self._buffer = self._buffer, b""
        rest = self._search(found, buffer, ended=True)
        self._drop(found, rest)
        self._report(found)
        self._lost = False
        return found

    def _search(self, found: list[bytes | FrameError], buffer: bytes, *, ended: bool) -> bytes:
        """Find all frames; what may yet become one."""
        at = 0
        while at < len(buffer):
            if self._sync and not buffer.startswith(self._sync, at):
                begin = self._next_sync(buffer, at)
                self._drop(found, buffer[at:begin])
                if begin == len(buffer) or not buffer.startswith(self._sync, begin):
                    return buffer[begin:]  # nothing, or the beginning of a beginning
                at = begin
            look = self._look(buffer, at)
            if look is None:
                if not ended:
                    break
                look = (
                    ErrorKind.CUT_OFF,
                    f"the line paused or ended after {len(buffer) - at} bytes of a frame",
                )
            if isinstance(look, Found):
                self._report(found)
                self.counts.frames += 1
                found.append(look.payload)
                at = look.end
                continue
            self._reason = self._reason or look
            if not self._sync:
                self._lost = True
                self._drop(found, buffer[at:])
                return b""
            self._drop(found, buffer[at : at + 1])
            at += 1
        return buffer[at:]

    def _next_sync(self, buffer: bytes, at: int) -> int:
        """Where a frame may begin: at the next sync bytes, or at those that are perhaps the first of some."""
        begin = buffer.find(self._sync, at)
        if begin >= 0:
            return begin
        for size in range(min(len(self._sync) - 1, len(buffer) - at), 0, -1):
            if buffer.endswith(self._sync[:size]):
                return len(buffer) - size
        return len(buffer)

    def _drop(self, found: list[bytes | FrameError], garbage: bytes) -> None:
        """Add to the garbage; report it as soon as it is longer than any frame."""
        if not self._garbage_bytes:
            garbage = garbage.lstrip(self._separators)
        if not garbage:
            return
        told = self._garbage_bytes > self._longest
        self._garbage_bytes += len(garbage)
        self.counts.dropped_bytes += len(garbage)
        if not told:
            self._garbage += garbage[: self._longest - len(self._garbage)]
            if self._garbage_bytes > self._longest:
                self._tell(found)

    def _report(self, found: list[bytes | FrameError]) -> None:
        """The garbage, if there is any, ends here."""
        if 0 < self._garbage_bytes <= self._longest:
            self._tell(found)
        self._garbage, self._garbage_bytes, self._reason = b"", 0, None

    def _tell(self, found: list[bytes | FrameError]) -> None:
        noise = (
            ErrorKind.NOISE,
            f"{len(self._garbage)} bytes that belong to no frame: is the baud rate right?",
        )
        kind, reason = self._reason or noise
        self.counts.note(kind)
        found.append(FrameError(kind, reason, self._garbage))
