r"""The file format of a capture. Pure: lines in, events out.

JSON Lines (UTF-8): a header, then what happened, in order. `t` is in seconds since the port was first open, by a clock
that nobody sets; in `rx` each character is one byte, U+0000 to U+00FF.

    {"capture": 1, "started": "2026-05-01T10:00:00.123456+00:00", "port": "/dev/ttyUSB0", "baudrate": 115200, ...}
    {"t": 0.104211, "rx": "{\"n\": 1}\r\n"}
    {"t": 0.204307, "rx": "\u0003D\u0007"}
    {"t": 5.2, "note": "connection lost: ..."}

A line is written at once, so whatever ends the recording costs the last line at most; a reader leaves out a line that is
not whole. Unknown keys are left alone. `capture` is the version of the format.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

VERSION: Final = 1


class CaptureError(ValueError):
    """This is no capture, or of a version that is not known."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that arrived together."""

    t: float
    """Seconds since the port was first open."""
    data: bytes


def encode_header(settings: Mapping[str, Any]) -> bytes:
    """The first line."""
    return _line({"capture": VERSION, **settings})


def encode_piece(piece: Piece) -> bytes:
    """The line of bytes that arrived."""
    return _line({"t": round(piece.t, 6), "rx": piece.data.decode("latin-1")})


def encode_note(t: float, note: str) -> bytes:
    """The line of something that people should know."""
    return _line({"t": round(t, 6), "note": note})


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode("ascii") + b"\n"


class CaptureReader:
    """Reads a capture line by line.

    Args:
        lines: Of the file.

    Attributes:
        header: The first line.
        damaged: Lines so far that are not whole, and are left out.

    Raises:
        CaptureError: The first line is no header.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self.damaged = 0
        self.header = _header(next(self._lines, b""))

    def pieces(self) -> Iterator[Piece]:
        """What arrived, in order; `t` never goes back."""
        newest = 0.0
        for line in self._lines:
            document = _object(line)
            if document is None:
                self.damaged += 1
                continue
            if "rx" not in document:
                continue
            try:
                data = document["rx"].encode("latin-1")
                t = float(document["t"])
            except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
                self.damaged += 1
                continue
            if not math.isfinite(t):
                self.damaged += 1
                continue
            newest = max(newest, t)
            yield Piece(newest, data)


def _object(line: bytes) -> dict[str, Any] | None:
    """A whole line's object."""
    if not line.endswith(b"\n"):
        return None
    try:
        document = json.loads(line)
    except (RecursionError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _header(line: bytes) -> dict[str, Any]:
    header = _object(line)
    if header is None or "capture" not in header:
        raise CaptureError('not a capture: the first line should be one like {"capture": 1, ...}')
    if header["capture"] != VERSION:
        raise CaptureError(
            f"a capture of version {header['capture']!r}; this program reads version {VERSION}"
        )
    return header
