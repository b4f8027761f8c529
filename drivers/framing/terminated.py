"""Frames that end with a terminator that cannot occur inside them: lines, COBS, SLIP.

Memory stays below the longest permitted frame plus the bytes just fed. A frame that is longer becomes one
error as soon as that is certain, so that a port at the wrong baud rate, which may never show a terminator,
is reported and not waited for; the rest of it is dropped and counted, up to the next terminator. Garbage that
is not followed by a terminator makes one with the frame behind it, and costs that frame.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from drivers.framing.model import ErrorKind, FrameCounts, FrameError


class TerminatedFramer(ABC):
    """Finds the pieces between terminators; what they say is the subclass's.

    Args:
        terminator: What ends a frame; one byte or more.
        max_length: The longest permitted piece in bytes, as it is on the line, without its terminator.
        skip_first: Do not trust what comes before the first terminator: a port opened while the device was
            sending begins in the middle of a frame. Where frames are checked, it is left out only if it is none.
        what: What a frame is called in messages.

    Raises:
        ValueError: The terminator is empty, or the length is below 1.
    """

    _is_checked = False
    """Whether a frame without its beginning is recognised as none."""

    def __init__(self, terminator: bytes, *, max_length: int, skip_first: bool, what: str) -> None:
        if not terminator:
            raise ValueError(f"the terminator of a {what} must have at least one byte")
        if max_length < 1:
            raise ValueError(f"the longest {what} must have at least one byte, not {max_length}")
        self.counts = FrameCounts()
        self._terminator = terminator
        self._max_length = max_length
        self._what = what
        self._partial = b""
        """The beginning of a frame. While dropping: only what may be the beginning of a terminator."""
        self._skipping = skip_first
        self._dropping = False

    @abstractmethod
    def _decoded(self, piece: bytes) -> bytes | FrameError:
        """What a piece that is not empty says."""

    def feed(self, data: bytes) -> list[bytes | FrameError]:
        """The frames, and what was not one, that `data` completes; in order. Never raises."""
        pieces = (self._partial + data).split(self._terminator)
        rest = pieces.pop()
        if pieces and (self._dropping or self._skipping or max(map(len, pieces)) > self._max_length):
            found = self._with_care(pieces)
        else:
            found = self._frames(pieces)
        self._partial = self._bounded(found, rest)
        return found

    def finish(self) -> list[bytes | FrameError]:
        """The stream has ended: an unterminated frame is an error, since its end is missing."""
        rest, self._partial = self._partial, b""
        found: list[bytes | FrameError] = []
        if self._skipping and len(rest) <= self._max_length:
            self._skipping = False
            self._skip(rest)
            return found
        self.counts.dropped_bytes += len(rest)
        if self._dropping:
            self._dropping = False
        elif len(rest) > self._max_length:
            self._overlong(found, rest)
        elif rest:
            reason = (
                f"the connection ended after {len(rest)} bytes of a {self._what}, "
                f"before its terminator {self._terminator!r}"
            )
            self._error(found, FrameError(ErrorKind.CUT_OFF, reason, rest))
        return found

    def _frames(self, pieces: list[bytes]) -> list[bytes | FrameError]:
        """What whole pieces say. Empty ones are no frames: devices send them as separators."""
        found: list[bytes | FrameError] = []
        frames = 0
        for piece in pieces:
            if piece:
                frame = self._decoded(piece)
                if isinstance(frame, FrameError):
                    # With its end, so that it is a whole one to another framing that it may be given to later.
                    frame = replace(frame, raw=piece + self._terminator)
                    self.counts.note(frame.kind)
                    self.counts.dropped_bytes += len(piece)
                else:
                    frames += 1
                found.append(frame)
        self.counts.frames += frames
        return found

    def _with_care(self, pieces: list[bytes]) -> list[bytes | FrameError]:
        """Like `_frames`, when not every piece is one to take."""
        found: list[bytes | FrameError] = []
        for piece in pieces:
            if self._dropping:
                self._dropping = False
                self.counts.dropped_bytes += len(piece)
            elif len(piece) > self._max_length:
                self._overlong(found, piece)
                self.counts.dropped_bytes += len(piece)
            elif self._skipping:
                self._skipping = False
                self._first(found, piece)
            else:
                found += self._frames([piece])
        return found

    def _first(self, found: list[bytes | FrameError], piece: bytes) -> None:
        if self._is_checked and piece and isinstance(frame := self._decoded(piece), bytes):
            self.counts.frames += 1
            found.append(frame)
        else:
            self._skip(piece)

    def _bounded(self, found: list[bytes | FrameError], rest: bytes) -> bytes:
        """What of an unfinished frame must be kept, having begun to drop it when it is certainly too long."""
        # The last bytes may be the beginning of a terminator, and then are none of the frame's.
        unsure = len(self._terminator) - 1
        if not self._dropping:
            if len(rest) - unsure <= self._max_length:
                return rest
            self._overlong(found, rest)
            self._dropping = True
        kept = rest[-unsure:] if unsure else b""
        self.counts.dropped_bytes += len(rest) - len(kept)
        return kept

    def _skip(self, piece: bytes) -> None:
        if piece:
            self.counts.skipped += 1
            self.counts.dropped_bytes += len(piece)

    def _overlong(self, found: list[bytes | FrameError], piece: bytes) -> None:
        self._skipping = False  # after the terminator that ends it, frames are whole
        reason = (
            f"no terminator {self._terminator!r} within {self._max_length} bytes: is the baud rate right, and "
            f"does the device send {self._what}s? Otherwise raise `max_frame`"
        )
        self._error(found, FrameError(ErrorKind.TOO_LONG, reason, piece[: self._max_length]))

    def _error(self, found: list[bytes | FrameError], error: FrameError) -> None:
        self.counts.note(error.kind)
        found.append(error)
