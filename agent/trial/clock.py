"""The clock of a dry run: it shows what the data says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

FOR_EVER_S: Final = 1e12
"""So much later everything that waits for time to pass has had enough of it."""


class TrialClock:
    """Goes on with the data; it never goes back, apart from the wall clock."""

    def __init__(self) -> None:
        self._t = 0.0
        self._boot = 0
        self._up_ns = 0
        self._passed_s = 0.0

    def set(self, t: float, boot: int = 0, up_ns: int = 0) -> None:
        """Something came.

        Args:
            t: When, seconds UTC.
            boot: In which boot of its device; 0: unknown.
            up_ns: CLOCK_BOOTTIME then; 0: unknown.
        """
        if self._t:
            same_boot = boot and boot == self._boot and up_ns and self._up_ns
            passed_s = (up_ns - self._up_ns) * 1e-9 if same_boot else t - self._t
            self._passed_s += max(0.0, passed_s)
        self._t, self._boot, self._up_ns = t, boot, up_ns

    def end(self) -> None:
        """Nothing comes any more."""
        self._passed_s = FOR_EVER_S

    def now(self) -> datetime:
        """The wall clock."""
        return datetime.fromtimestamp(self._t, UTC)

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME of what came last, or as long as the data lasts."""
        return self._up_ns or round(self._passed_s * 1e9)

    def monotonic_s(self) -> float:
        """How long the data lasts so far."""
        return self._passed_s
