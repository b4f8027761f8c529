"""Group commit: what arrives while one transaction is being written rides the next.

A hundred devices that post at the same time share one fsync, and each is answered only after it. A database that is away
is waited for, with what it was to get. Any other failure is looked for pack by pack, so that a sick one harms nobody else;
but what came behind it over the same connection waits until it has come again, so that the order is kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.receiver.meter import Meter
from agent.receiver.packs import Received, ReceivedLosses, Refused
from agent.receiver.store import StoreError, StoreUnavailable, Unstorable
from agent.spine.backoff import Backoff, BackoffPolicy

if TYPE_CHECKING:
    import random

    from agent.receiver.store import ReadingStore, Stored
    from collectors.clock import Clock

_log = logging.getLogger(__name__)

READINGS_MAX = 20_000
"""In one transaction (about 0.3 s of writing), so that nobody waits long behind others."""
WAITING_MAX = 256
"""Packs that wait; further ones are not read from the network."""
RETRY = BackoffPolicy(first_s=0.2, base_s=0.2, cap_s=5.0, stable_s=10.0)
"""For a database that is away: its own server, and everybody waits for it."""


@dataclass(slots=True)
class Inflow:
    """What comes over one connection, in its order."""

    committer: Committer
    failure: StoreError | None = None
    """Something of it was not committed, and will come again: nothing that came behind it is written before."""

    async def submit(self, pack: Received | ReceivedLosses | Refused) -> asyncio.Future[None]:
        """Hand the next pack over, as `Committer.submit` does."""
        return await self.committer.submit(pack, self)


@dataclass(frozen=True, slots=True)
class _Waiting:
    pack: Received | ReceivedLosses | Refused
    done: asyncio.Future[None]
    inflow: Inflow | None

    def fail(self, error: StoreError) -> None:
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # seen: whoever asked may be gone


class Committer:
    """Writes packs in groups.

    Args:
        store: Where they go.
        clock: Tells how old readings are.
        rng: Chance for the back-off.
    """

    def __init__(self, store: ReadingStore, clock: Clock, rng: random.Random) -> None:
        self._store = store
        self._clock = clock
        self._backoff = Backoff(RETRY, rng)
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self.meter = Meter()
        self.fault: str | None = None
        """Why the last commit failed; None after one that did not."""

    async def submit(
        self, pack: Received | ReceivedLosses | Refused, inflow: Inflow | None = None
    ) -> asyncio.Future[None]:
        """Hand a pack over, once there is room. The future is done when it is durable, or raises StoreError.

        Args:
            pack: To be written.
            inflow: What it comes in; None where each comes by itself.
        """
        while len(self._waiting) >= WAITING_MAX:
            self._room.clear()
            await self._room.wait()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(pack, done, inflow))
        self.meter.waiting += 1
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
                    await self._commit(group)
                    self.meter.waiting -= len(group)
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

    async def _commit(self, group: list[_Waiting]) -> None:
        """Write a group; each of its futures is done then."""
        group = [waiting for waiting in group if not self._has_to_come_again(waiting)]
        if not group:
            return
        try:
            await self._write_patiently(group)
        except StoreError as error:
            self.fault = str(error)
            if len(group) > 1:
                for waiting in group:
                    await self._commit([waiting])
                return
            (waiting,) = group
            if waiting.inflow is not None and not isinstance(error, Unstorable):
                waiting.inflow.failure = error
            self.meter.batches["failed"] += 1
            waiting.fail(error)
        else:
            self.fault = None
            for waiting in group:
                if not waiting.done.done():
                    waiting.done.set_result(None)

    def _has_to_come_again(self, waiting: _Waiting) -> bool:
        """Whether something before it was not committed; it is not, either."""
        failure = None if waiting.inflow is None else waiting.inflow.failure
        if failure is None:
            return False
        self.meter.batches["failed"] += 1
        waiting.fail(StoreError(f"what came before it was not committed: {failure}"))
        return True

    async def _write_patiently(self, group: list[_Waiting]) -> None:
        """Write, again and again while the database is away. Raises what waiting does not mend."""
        told = False
        while True:
            try:
                await self._write(group)
            except StoreUnavailable as error:
                self.fault = str(error)
                self.meter.database_up = False
                if not told:
                    _log.error("receive: the database is away, and waited for: %s", error)
                told = True
                await asyncio.sleep(self._backoff.delay_s(self._clock.monotonic_s()))
            else:
                self._backoff.established(self._clock.monotonic_s())
                self.meter.database_up = True
                if told:
                    _log.info("receive: the database is back")
                return

    async def _write(self, group: list[_Waiting]) -> None:
        packs = [waiting.pack for waiting in group if isinstance(waiting.pack, Received)]
        losses = [waiting.pack.told for waiting in group if isinstance(waiting.pack, ReceivedLosses)]
        refused = [waiting.pack for waiting in group if isinstance(waiting.pack, Refused)]
        began = time.monotonic()
        stored = await self._store.write(packs, refused, losses)
        self.meter.committed(time.monotonic() - began)
        self._count(packs, refused, stored)

    def _count(self, packs: list[Received], refused: list[Refused], stored: Stored) -> None:
        meter = self.meter
        meter.batches["stored"] += len(packs)
        meter.batches["refused"] += len(refused)
        meter.readings += stored.inserted
        meter.duplicates += stored.duplicates
        if packs:
            newest = max(pack.readings[-1].document["t"] for pack in packs)
            meter.lag_s = self._clock.now().timestamp() - newest
