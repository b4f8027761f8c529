"""What to think, and how much to say, of bytes that are no frames. Pure."""

from __future__ import annotations

import re
from typing import Final

from drivers.framing import FrameError

DOUBT_FRAMES: Final = 8
"""So much garbage, and no good frame since the port was opened, is no accident."""

KEPT_BURST: Final = 100
KEPT_RATE_HZ: Final = 1.0
"""So many errors are given out at once, and so many a second from then on: a port at the wrong baud rate makes hundreds a
second, each of which would be stored as a dead letter. The others are counted."""

_NO_TEXT: Final = re.compile(rb"[^\t\r\n\x20-\x7e\x80-\xff]")


class BaudrateDoubt:
    """Doubts the baud rate when all that comes after opening is garbage.

    Args:
        is_text: Whether good frames are texts.
    """

    def __init__(self, *, is_text: bool) -> None:
        self._is_text = is_text
        self._garbage = 0
        self._decided = False

    @property
    def doubts(self) -> bool:
        """Whether nothing but garbage has come."""
        return not self._decided and self._garbage >= DOUBT_FRAMES

    def see(self, frame: bytes | FrameError) -> bool:
        """Take one more into account; True when it is the one that raises the doubt."""
        if self._decided:
            return False
        if isinstance(frame, FrameError) or (self._is_text and not _is_text(frame)):
            self._garbage += 1
            return self._garbage == DOUBT_FRAMES
        self._decided = True
        return False


def _is_text(frame: bytes) -> bool:
    if _NO_TEXT.search(frame) is not None:
        return False
    try:
        frame.decode()
    except UnicodeDecodeError:
        return False
    return True


class Ration:
    """How many errors may be given out: a token bucket.

    Args:
        now_s: Monotonic time.
    """

    def __init__(self, now_s: float) -> None:
        self._left = float(KEPT_BURST)
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        """Whether one more may be."""
        self._left = min(KEPT_BURST, self._left + (now_s - self._at_s) * KEPT_RATE_HZ)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
