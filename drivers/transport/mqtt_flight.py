"""How many publishes are under way, and who may send the next one. Pure bookkeeping over futures."""

from __future__ import annotations

import asyncio
from collections import deque


class Flight:
    """Bounds the publishes that are sent and not yet answered; first come, first served.

    A place is taken from `acquire` to `answered`, whatever becomes of the task that asked for it: the broker counts
    what it has not answered, not who waits for the answer.

    Args:
        limit: How many places there are.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._granted = 0
        self._sent: set[int] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        """How many publishes are on the wire."""
        return len(self._sent)

    async def acquire(self) -> None:
        """Wait for a place; `departed` or `release` must follow.

        Raises:
            Exception: What `fail` was given.
        """
        if self._free() > 0 and not self._waiting and not self._granted:
            self._granted += 1  # at once, so that the order of calls is the order on the wire
            return
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        self._waiting.append(place)
        # Not at once: those who were granted a place before, and have not run since, depart before us.
        loop.call_soon(self._grant)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.release()
            raise

    def departed(self, packet_id: int) -> None:
        """What the place was for is on its way."""
        assert self._granted > 0
        self._granted -= 1
        self._sent.add(packet_id)

    def release(self) -> None:
        """Nothing was sent after all."""
        assert self._granted > 0
        self._granted -= 1
        self._grant()

    def answered(self, packet_id: int) -> None:
        """The answer came. Does nothing for what was never sent."""
        self._sent.discard(packet_id)
        self._grant()

    def fail(self, error: Exception) -> None:
        """Give everyone who waits for a place this error."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_exception(error)

    def _free(self) -> int:
        return self._limit - len(self._sent) - self._granted

    def _grant(self) -> None:
        while self._waiting and self._free() > 0:
            place = self._waiting.popleft()
            if not place.done():
                self._granted += 1
                place.set_result(None)
