"""An event loop on which time passes only when nobody has anything to do, and then at once: hours in a moment.

    run_virtually(main())

No thread may be waited for: its work takes no virtual time, and time would run away meanwhile.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from heapq import heappop
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
        if not loop._ready and (due_s := next_due_s(loop)) is not None:
            self._virtual_s = max(self._virtual_s, due_s)
        super()._run_once()  # type: ignore[misc] # of BaseEventLoop


def next_due_s(loop: Any) -> float | None:
    """When a loop's next timer is due: not one that was cancelled, which would be waited for beyond in real time."""
    while loop._scheduled and loop._scheduled[0]._cancelled:
        loop._timer_cancelled_count -= 1
        heappop(loop._scheduled)._scheduled = False
    return loop._scheduled[0]._when if loop._scheduled else None


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
