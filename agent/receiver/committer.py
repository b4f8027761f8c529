"""Group commit: what arrives while one transaction is being written rides the next.

A hundred devices that post at the same time share one fsync, and each is answered only after it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.receiver.packs import Received, ReceivedLosses, Refused

if TYPE_CHECKING:
    from agent.receiver.store import ReadingStore

READINGS_MAX = 20_000
"""In one transaction (about 0.2 s of writing), so that nobody waits long behind others."""
WAITING_MAX = 256
"""Packs that wait; further ones are not read from the network."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    pack: Received | ReceivedLosses | Refused
    done: asyncio.Future[None]


class Committer:
    """Writes packs in groups.

    Args:
        store: Where they go.
    """

    def __init__(self, store: ReadingStore) -> None:
        self._store = store
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self.fault: str | None = None
        """Why the last commit failed; None after one that did not."""

    async def submit(self, pack: Received | ReceivedLosses | Refused) -> asyncio.Future[None]:
        """Hand a pack over, once there is room. The future is done when it is durable, or raises StoreError."""
        while len(self._waiting) >= WAITING_MAX:
            self._room.clear()
            await self._room.wait()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(pack, done))
        self._arrived.set()
        return done

    async def run(self) -> None:
        """Write until cancelled. What waits then is not stored, and its futures are cancelled."""
        group: list[_Waiting] = []
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._waiting:
                    group = self._next_group()
                    await self._write(group)
        finally:
            for waiting in (*group, *self._waiting):
                waiting.done.cancel()

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        readings = 0
        while self._waiting and readings < READINGS_MAX:
            waiting = self._waiting.popleft()
            if isinstance(waiting.pack, Received):
                readings += len(waiting.pack.readings)
            group.append(waiting)
        self._room.set()
        return group

    async def _write(self, group: list[_Waiting]) -> None:
        packs = [waiting.pack for waiting in group if isinstance(waiting.pack, Received)]
        losses = [waiting.pack.told for waiting in group if isinstance(waiting.pack, ReceivedLosses)]
        refused = [waiting.pack for waiting in group if isinstance(waiting.pack, Refused)]
        try:
            await self._store.write(packs, refused, losses)
        except OSError as error:
            self.fault = str(error)
            for waiting in group:
                if not waiting.done.done():
                    waiting.done.set_exception(error)
                    waiting.done.exception()  # seen: whoever asked may be gone
        else:
            self.fault = None
            for waiting in group:
                if not waiting.done.done():
                    waiting.done.set_result(None)
