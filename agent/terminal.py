"""Why SIGHUP came: because the terminal has gone, or because somebody wants the configuration read again."""

from __future__ import annotations

import os


class Terminal:
    """The terminal that the program was started from, if it was.

    Args:
        handle: Standard input.
    """

    def __init__(self, handle: int = 0) -> None:
        self._handle = handle
        self._was_there = self._is_there()

    def _is_there(self) -> bool:
        try:
            return os.isatty(self._handle)
        except OSError:
            return False

    @property
    def has_gone(self) -> bool:
        """Whether it was there at the start and is no longer."""
        return self._was_there and not self._is_there()
