"""Waiting on an event loop for what the committing thread does."""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable

from buffer.errors import BufferClosed
from buffer.log import Log

_GIVEN_UP_MAX = 64
"""So many who gave up waiting are kept beside as many as still wait: while nothing is committed, they would grow for ever."""


class DurabilityWaiters:
    """Those on one event loop who wait for one log. One wake-up of the loop a commit, for all."""

    def __init__(self, log: Log, hurry: Callable[[int], None], loop: asyncio.AbstractEventLoop) -> None:
        self._log = log
        self._hurry = hurry
        self._loop = loop
        self._by_id: deque[tuple[int, asyncio.Future[None]]] = deque()
        """Ascending, which they nearly always come in."""
        self._conditions: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._given_up = 0
        """Who gave up since those were last forgotten."""
        self._came = 0
        """Who came in this turn of the loop."""
        self._scheduled = False
        self._closed = False
        log.listen(self._committed)

    def _committed(self) -> None:
        """On the committing thread."""
        if not self._scheduled:
            self._scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # the loop is closed, and so nobody waits
                self._log.unlisten(self._committed)

    def _wake(self) -> None:
        self._scheduled = False
        durable = self._log.durable_id
        while self._by_id and self._by_id[0][0] <= durable:
            _, future = self._by_id.popleft()
            if not future.done():
                future.set_result(None)
        still = []
        for condition, future in self._conditions:
            if future.done():
                continue
            if condition():
                future.set_result(None)
            else:
                still.append((condition, future))
        self._conditions = still

    def durable(self, record_id: int) -> "asyncio.Future[None] | None":
        """What is done when a record is durable (or with `BufferClosed`); None when it is durable already.

        Raises:
            BufferClosed: The buffer was closed.
        """
        if self._closed:
            raise BufferClosed("the buffer is closed")
        if self._log.durable_id >= record_id:
            return None
        # Should it land before it stands in the row, the wake-up for that is still to come.
        future = self._loop.create_future()
        future.add_done_callback(self._ended)
        waiting = self._by_id
        if not waiting or waiting[-1][0] <= record_id:
            waiting.append((record_id, future))
        else:
            waiting.insert(bisect_right(waiting, record_id, key=lambda entry: entry[0]), (record_id, future))
        self._come()
        return future

    async def until(self, condition: Callable[[], bool], *, hurry: bool = False) -> None:
        """Return when a condition holds that commits can bring about.

        Args:
            condition: Looked at after each commit.
            hurry: Begin a commit early.

        Raises:
            BufferClosed: The buffer was closed first.
        """
        if self._closed:
            raise BufferClosed("the buffer is closed")
        future = self._loop.create_future()
        future.add_done_callback(self._ended)
        self._conditions.append((condition, future))
        if hurry:
            self._come()
        if not condition():
            await future
        else:
            future.cancel()

    def _ended(self, future: "asyncio.Future[None]") -> None:
        """Somebody waits no longer; who gave up is forgotten now and then."""
        if not future.cancelled():
            return
        self._given_up += 1
        if self._given_up > max(_GIVEN_UP_MAX, (len(self._by_id) + len(self._conditions)) // 2):
            self._given_up = 0
            self._by_id = deque(entry for entry in self._by_id if not entry[1].done())
            self._conditions = [entry for entry in self._conditions if not entry[1].done()]

    def _come(self) -> None:
        """One more waits. The commit is told once all have come that can in this turn of the loop."""
        if not self._came:
            self._loop.call_soon(self._tell)
        self._came += 1

    def _tell(self) -> None:
        came, self._came = self._came, 0
        self._hurry(came)

    def close(self) -> None:
        """Nothing becomes durable any more: whoever still waits is told so."""
        self._wake()
        self._closed = True
        self._log.unlisten(self._committed)
        for future in [entry[1] for entry in self._by_id] + [entry[1] for entry in self._conditions]:
            if not future.done():
                future.set_exception(BufferClosed("the buffer was closed"))
        self._by_id.clear()
        self._conditions.clear()
