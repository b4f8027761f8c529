"""An event loop with virtual time and real sockets: time passes only when no socket has anything and no thread works.

Both ends have to be on this loop: what one writes to loopback the other can read at once, so that before each jump of time a look at
the sockets tells whether anybody has something to do. Threads are waited for in real time, those of `asyncio.to_thread` and, where
`run_apart` is replaced by it, all others.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from tests.rigs.virtual_time import next_due_s

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

_LONG_S = 0.3
"""Before a longer jump sockets are given a moment of real time."""
_MOMENT_S = 0.002


async def run_apart(name: str, work: Callable[[], T]) -> T:
    """In a thread that the loop knows of."""
    return await asyncio.to_thread(work)


class VirtualSocketLoop(asyncio.SelectorEventLoop):
    """Its clock jumps to the next timer when there is nothing else to do."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual_s = 0.0
        self._at_work = 0

    def time(self) -> float:
        return self._virtual_s

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        future = super().run_in_executor(executor, func, *args)
        self._at_work += 1
        future.add_done_callback(self._worked)
        return future

    def _worked(self, _: asyncio.Future[Any]) -> None:
        self._at_work -= 1

    def _run_once(self) -> None:
        loop: Any = self
        if not loop._ready and not self._at_work and (due_s := next_due_s(loop)) is not None:
            events = loop._selector.select(_MOMENT_S if due_s - self._virtual_s > _LONG_S else 0)
            if events:
                loop._process_events(events)
            else:
                self._virtual_s = max(self._virtual_s, due_s)
        super()._run_once()  # type: ignore[misc] # of BaseEventLoop


def run_with_sockets(main: Coroutine[Any, Any, T]) -> T:
    """Run this on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualSocketLoop) as runner:
        return runner.run(main)
