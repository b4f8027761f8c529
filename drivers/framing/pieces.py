"""No framing: the bytes in the pieces in which they arrive, for whoever wants to see what a port really says.

Not for configurations: how bytes are cut into pieces is chance.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from drivers.framing.config import FramingConfig
from drivers.framing.model import FrameCounts, FrameError


class PiecesFramer:
    """Gives out what it is fed."""

    def __init__(self) -> None:
        self.counts = FrameCounts()

    def feed(self, data: bytes) -> list[bytes | FrameError]:
        """The same bytes."""
        self.counts.frames += 1
        return [data]

    def finish(self) -> list[bytes | FrameError]:
        """Nothing is ever incomplete."""
        return []


class PiecesConfig(FramingConfig):
    """Everything that arrives, as it arrives; what is sent is framed as it would be."""

    summary: ClassVar[str] = "the bytes as they arrive"
    example: ClassVar[str] = ""

    type: Literal["pieces"] = "pieces"
    sent: FramingConfig
    """The framing of requests."""

    def framer(self) -> PiecesFramer:
        """A framer that gives out what it is fed."""
        return PiecesFramer()

    def encode(self, payload: bytes) -> bytes:
        """The frame of a request."""
        return self.sent.encode(payload)
