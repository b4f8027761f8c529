"""An event loop on which time passes only when nobody has anything to do, and then at once: hours in a moment.

    run_virtually(main())

No thread may be waited for: its work takes no virtual time, and time would run away meanwhile.
"""

from __future__ import annotations

import asyncio
import heapq
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

_EPOCH = datetime(2026, 9, 21, tzinfo=UTC)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its clock stands still while callbacks are due, and jumps to the next timer when none is."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual_s = 0.0

    def time(self) -> float:
        return self._virtual_s

    def _run_once(self) -> None:
        loop: Any = self
        while (
            loop._scheduled and loop._scheduled[0]._cancelled
        ):  # else the base class waits for the one behind it
            loop._timer_cancelled_count -= 1
            heapq.heappop(loop._scheduled)._scheduled = False
        if not loop._ready and loop._scheduled:
            self._virtual_s = max(self._virtual_s, loop._scheduled[0]._when)
        super()._run_once()  # type: ignore[misc] # of BaseEventLoop


class LoopClock:
    """The program's clock, as the running loop's time passes."""

    def now(self) -> datetime:
        return _EPOCH + timedelta(seconds=self.monotonic_s())

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    def boottime_ns(self) -> int:
        return round(self.monotonic_s() * 1e9)


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run this on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
