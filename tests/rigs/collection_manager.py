"""A collection manager whose time only waiting moves."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager

from agent.spine import BackoffPolicy, CollectionManager, open_spine
from collectors import SystemClock
from collectors.mocks import MockErrorHandler


class WaitingClock(SystemClock):
    """A monotonic clock that only waiting moves."""

    def __init__(self):
        self.seconds = 1000.0
        self.waits = []

    def monotonic_s(self):
        return self.seconds

    async def sleep(self, seconds):
        self.waits.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)


class Highest(random.Random):
    def uniform(self, a, b):
        return b


@asynccontextmanager
async def manager(sink=None, sleep=None, **policy):
    clock = WaitingClock()
    async with open_spine(clock=clock, rng=Highest(), close_timeout_s=1) as spine:
        handler = MockErrorHandler()
        spine.errors.add_handler(handler)
        options = {} if sink is None else {"sink": sink}
        collection = CollectionManager(
            spine,
            backoff=BackoffPolicy(**({"first_s": 5, "base_s": 1, "cap_s": 8, "stable_s": 60} | policy)),
            sleep=sleep or clock.sleep,
            **options,
        )
        collection.spine, collection.clock, collection.errors = spine, clock, handler.errors
        yield collection
        await collection.close()
