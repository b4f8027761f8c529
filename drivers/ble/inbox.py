"""What a callback of bleak puts in and a source takes out: bounded, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue between a callback, which cannot wait, and one task.

    Args:
        capacity: How many items may wait. A radio cannot be told to wait: what comes when it is full is lost, and counted.

    Attributes:
        lost: Items that found no room.
    """

    def __init__(self, capacity: int) -> None:
        self.lost = 0
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._error: ConnectionError | None = None
        self._news = asyncio.Event()

    @property
    def failed(self) -> bool:
        """Whether nothing comes any more."""
        return self._error is not None

    @property
    def full(self) -> bool:
        """Whether there is no room."""
        return len(self._items) >= self._capacity

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> bool:
        """Add an item; False when there is no room for it."""
        if self.full:
            self.lost += 1
            return False
        self._items.append(item)
        self._news.set()
        return True

    def fail(self, error: ConnectionError) -> None:
        """Nothing comes any more, and why. The first reason stays."""
        if self._error is None:
            self._error = error
        self._news.set()

    def raise_failure(self) -> None:
        """Raise what `fail` was given, if it was.

        Raises:
            ConnectionError: It was.
        """
        if self._error is not None:
            raise self._error

    def take_all(self) -> list[T]:
        """What nobody has taken."""
        left = list(self._items)
        self._items.clear()
        return left

    async def get(self) -> T:
        """The next item; waits for it. What came before a failure is given out first.

        Raises:
            ConnectionError: What `fail` was given.
        """
        while not self._items:
            self.raise_failure()
            self._news.clear()
            await self._news.wait()
        return self._items.popleft()
