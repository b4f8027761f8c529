"""The clock as a seam: everything that stamps or waits takes a `Clock`, so that tests can replace it."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What a device knows about time."""

    def now(self) -> datetime:
        """The wall clock: aware, UTC. It may step; never order by it."""
        ...

    def boottime_ns(self) -> int:
        """Nanoseconds since boot, suspend included (CLOCK_BOOTTIME). It never steps."""
        ...

    def monotonic_s(self) -> float:
        """Seconds on a clock that never steps, for intervals."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> datetime:
        """The wall clock: aware, UTC."""
        return datetime.now(UTC)

    def boottime_ns(self) -> int:
        """Nanoseconds since boot, suspend included."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def monotonic_s(self) -> float:
        """Seconds on a clock that never steps."""
        return time.monotonic()
