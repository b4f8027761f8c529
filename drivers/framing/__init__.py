"""Framing: how frames are found in a stream of bytes. Pure: bytes in, frames out, no input or output.

A framer is fed whatever arrives, in pieces of any size. It gives back every intact frame once and in order,
and a `FrameError` for what was not one; after garbage it finds the next frame by itself. What comes out does
not depend on how the bytes were cut into pieces.
"""

from drivers.framing.lines import LineFramer
from drivers.framing.model import ErrorKind, FrameCounts, FrameError, Framer

__all__ = ["ErrorKind", "FrameCounts", "FrameError", "Framer", "LineFramer"]
