"""The end of the process when a part of it will not end.

Every step of stopping has a limit, but Python itself waits without one: for a task that goes on when it is cancelled,
and for a thread that hangs in a disk, a driver or a name server. Nobody needs either when the buffer is closed.
"""

from __future__ import annotations

import logging
import os
import threading

_log = logging.getLogger(__name__)

_LOG_S = 0.1
"""For the last line: whoever hangs may hold the log, too."""


class LastResort:
    """Ends the process some time after it was armed, whatever else it does. Nothing disarms it."""

    def __init__(self) -> None:
        self.buffer_closed = True
        """Nothing is lost by ending now: the buffer is closed, or was never opened."""

    def arm(self, after_s: float) -> None:
        """End the process after this time, if it has not ended by itself."""
        timer = threading.Timer(after_s, self._end, (after_s,))
        timer.name = "outstation-last-resort"
        timer.daemon = True
        timer.start()

    def _end(self, after_s: float) -> None:
        closed = self.buffer_closed
        level, how = (logging.WARNING, "is closed") if closed else (logging.ERROR, "is not closed")
        line = "stopping: something still hangs after %.1f s; ending without it; the buffer %s"
        telling = threading.Thread(target=_log.log, args=(level, line, after_s, how), daemon=True)
        telling.start()
        telling.join(_LOG_S)
        os._exit(0 if closed else 1)
