"""Lines: frames that end with a terminator.

Memory stays below the longest permitted line plus the bytes just fed. A line that is longer becomes one
error as soon as that is certain, so that a port at the wrong baud rate, which may never show a terminator,
is reported and not waited for; the rest of it is dropped and counted, up to the next terminator.
"""

from __future__ import annotations

from drivers.framing.model import ErrorKind, FrameCounts, FrameError

LINE_BYTES_MAX = 4096
"""Default of the longest line. The Linux terminal layer's own limit in its line mode is the same."""


class LineFramer:
    r"""Finds lines in a stream.

    Empty lines are no frames: devices send them as separators. With the terminator `\n` a `\r` before it
    does not belong to the line, so that devices which end lines with `\r\n` need no configuration.

    Args:
        terminator: What ends a line; one byte or more.
        max_length: The longest permitted line in bytes, without its terminator.
        skip_first: Leave out everything up to the first terminator: a port opened while the device was
            sending begins in the middle of a line, and what is left of it can look like a whole one.

    Raises:
        ValueError: The terminator is empty, or the length is below 1.
    """

    def __init__(
        self, terminator: bytes = b"\n", *, max_length: int = LINE_BYTES_MAX, skip_first: bool = False
    ) -> None:
        if not terminator:
            raise ValueError("the terminator of a line must have at least one byte")
        if max_length < 1:
            raise ValueError(f"the longest line must have at least one byte, not {max_length}")
        self.counts = FrameCounts()
        self._terminator = terminator
        self._max_length = max_length
        self._partial = b""
        """The beginning of a line. While dropping: only what may be the beginning of a terminator."""
        self._skipping = skip_first
        self._dropping = False

    def feed(self, data: bytes) -> list[bytes | FrameError]:
        """The lines, and what was not one, that `data` completes; in order. Never raises."""
        found: list[bytes | FrameError] = []
        pieces = (self._partial + data).split(self._terminator)
        rest = pieces.pop()
        for piece in pieces:
            if self._dropping:
                self._dropping = False
                self.counts.dropped_bytes += len(piece)
            elif len(piece) > self._max_length:
                self._overlong(found, piece)
                self.counts.dropped_bytes += len(piece)
            elif self._skipping:
                self._skip(piece)
            else:
                self._line(found, piece)
        self._partial = self._bounded(found, rest)
        return found

    def finish(self) -> list[bytes | FrameError]:
        """The stream has ended: an unterminated line is an error, since its end is missing."""
        rest, self._partial = self._partial, b""
        found: list[bytes | FrameError] = []
        if self._skipping and len(rest) <= self._max_length:
            self._skip(rest)
            return found
        self.counts.dropped_bytes += len(rest)
        if self._dropping:
            self._dropping = False
        elif len(rest) > self._max_length:
            self._overlong(found, rest)
        elif rest:
            reason = f"the connection ended after {len(rest)} bytes of a line, before its terminator {self._terminator!r}"
            self._error(found, ErrorKind.CUT_OFF, reason, rest)
        return found

    def _line(self, found: list[bytes | FrameError], line: bytes) -> None:
        if self._terminator == b"\n" and line.endswith(b"\r"):
            line = line[:-1]
        if line:
            self.counts.frames += 1
            found.append(line)

    def _bounded(self, found: list[bytes | FrameError], rest: bytes) -> bytes:
        """What of an unfinished line must be kept, having begun to drop it when it is certainly too long."""
        # The last bytes may be the beginning of a terminator, and then are none of the line's.
        unsure = len(self._terminator) - 1
        if not self._dropping:
            if len(rest) - unsure <= self._max_length:
                return rest
            self._overlong(found, rest)
            self._dropping = True
        kept = rest[-unsure:] if unsure else b""
        self.counts.dropped_bytes += len(rest) - len(kept)
        return kept

    def _skip(self, line: bytes) -> None:
        self._skipping = False
        if line:
            self.counts.skipped += 1
            self.counts.dropped_bytes += len(line)

    def _overlong(self, found: list[bytes | FrameError], line: bytes) -> None:
        self._skipping = False  # after the terminator that ends it, lines are whole
        reason = (
            f"no terminator {self._terminator!r} within {self._max_length} bytes: is the baud rate right, and "
            "does the device send lines? Otherwise raise `max_frame`"
        )
        self._error(found, ErrorKind.TOO_LONG, reason, line[: self._max_length])

    def _error(self, found: list[bytes | FrameError], kind: ErrorKind, reason: str, raw: bytes) -> None:
        self.counts.errors[kind] = self.counts.errors.get(kind, 0) + 1
        found.append(FrameError(kind, reason, raw))
