"""A progress bar of text for long work, on a terminal only."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Self, TextIO

from agent.status.text import size

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_EVERY_S = 0.1
_QUIET_S = 0.5
"""What takes no longer shows no bar."""
_BAR_MIN, _BAR_MAX = 10, 40


class Progress:
    """One line on stderr that says how far the work is, how fast, and how long it will take; gone at the end.

    with Progress("checking") as progress:
        progress(done_bytes, all_bytes)

    Args:
        what: What is under way.
        stream: Where it is drawn.
        clock: Measures how fast.
        amounts: How amounts are said; None for work that is measured by time alone.
    """

    def __init__(
        self,
        what: str,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        amounts: Callable[[int], str] | None = size,
    ) -> None:
        self._amounts = amounts
        self._what = what
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._shown = self._stream.isatty()
        self._began_s = self._last_s = clock()
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    @property
    def elapsed_s(self) -> float:
        """How long the work has taken so far."""
        return self._clock() - self._began_s

    def __call__(self, done: int, everything: int) -> None:
        """So many bytes are done, of so many (or milliseconds)."""
        now_s = self._clock()
        if not self._shown or now_s - self._last_s < _EVERY_S or now_s - self._began_s < _QUIET_S:
            return
        self._last_s = now_s
        self._drawn = True
        self._stream.write("\r" + self._line(done, max(everything, done, 1)) + "\x1b[K")
        self._stream.flush()

    def _line(self, done: int, everything: int) -> str:
        rate = done / self.elapsed_s
        left = f", {round((everything - done) / rate)} s left" if rate else ""
        amounts = self._amounts
        told = amounts and f"  {amounts(done)} of {amounts(everything)}, {amounts(round(rate))}/s"
        numbers = f" {done * 100 // everything:3d} %{told or ''}{left}"
        room = shutil.get_terminal_size().columns - len(self._what) - len(numbers) - 4
        if room < _BAR_MIN:
            return (self._what + numbers)[: shutil.get_terminal_size().columns - 1]
        width = min(room, _BAR_MAX)
        filled = done * width // everything
        return f"{self._what} [{'#' * filled}{'.' * (width - filled)}]{numbers}"
