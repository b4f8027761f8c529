"""The connections of an adapter: it can hold few at a time, and make one at a time."""

from __future__ import annotations

import asyncio
from collections import deque


class Connections:
    """Places for connections, given out in the order in which they were asked for.

    So sensors that are read in turns, more of them than there are places, are read round robin.

    Attributes:
        making: Held while a connection is made: bluetoothd refuses a second attempt, or breaks off the first.
    """

    def __init__(self) -> None:
        self.making = asyncio.Lock()
        self._holders: dict[object, int] = {}
        self._waiting: deque[tuple[object, int, asyncio.Future[None]]] = deque()

    @property
    def contended(self) -> bool:
        """Whether somebody waits for a place."""
        return bool(self._waiting)

    @property
    def held(self) -> int:
        """Places that are taken."""
        return len(self._holders)

    async def acquire(self, holder: object, places: int) -> None:
        """Wait for a place.

        Args:
            holder: Whose it will be; it must not have one.
            places: How many there are, as far as this holder is concerned. The smallest number of all counts.
        """
        assert holder not in self._holders
        if not self._waiting and self._is_room(places):
            self._holders[holder] = places
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (holder, places, turn)
        self._waiting.append(entry)
        try:
            await turn
        except BaseException:
            if entry in self._waiting:
                self._waiting.remove(entry)
            self.release(holder)  # it may have been given at the same moment
            raise

    def release(self, holder: object) -> None:
        """Give a place back. Harmless without one."""
        self._holders.pop(holder, None)
        while self._waiting and self._is_room(self._waiting[0][1]):
            waiting, places, turn = self._waiting.popleft()
            if not turn.done():
                self._holders[waiting] = places
                turn.set_result(None)

    def _is_room(self, places: int) -> bool:
        return len(self._holders) < min((places, *self._holders.values()))
