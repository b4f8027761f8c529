"""Bad weather for a journey: network faults on proxies, and whatever else a test wants to happen, in an order by chance.

    storm = Storm(rng, proxies, faults=50)
    storm.also(agent_dies, 3)
    await storm.rage(progress, goal)

Each event happens when its share of the goal is reached, so that all of them fall into the work that they are to disturb.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.rigs.proxy import DIRECTIONS

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Sequence

    from tests.rigs.proxy import ChaosProxy

WAIT_MAX_S = 4.0
"""So long an event waits for its share of the goal: work that stands still is disturbed too."""
_POLL_S = 0.05

Proxies = tuple["ChaosProxy", ...]
"""Those of one link, which has bad weather as a whole."""


class Storm:
    """Faults and other events, and when they happened.

    Args:
        rng: Chance.
        links: The proxies, link by link.
        faults: How many network faults.
    """

    def __init__(self, rng: random.Random, links: Sequence[Proxies], faults: int) -> None:
        self.happened: Counter[str] = Counter()
        self.while_working = 0
        """Events that happened before the goal was reached."""
        self._rng = rng
        self._links = links
        kinds = (
            self._cut,
            self._reset,
            self._stall,
            self._half_open,
            self._delay,
            self._trickle,
            self._refuse,
        )
        self._events: list[Callable[[], Awaitable[None]]] = [
            kinds[number % len(kinds)] for number in range(faults)
        ]

    def also(self, event: Callable[[], Awaitable[None]], times: int = 1) -> None:
        """Let this happen, too."""
        self._events += [event] * times

    async def rage(self, progress: Callable[[], int], goal: int) -> None:
        """Let all of it happen; the network is healed at the end."""
        self._rng.shuffle(self._events)
        for number, event in enumerate(self._events, 1):
            share = goal * number // (len(self._events) + 1)
            deadline = time.monotonic() + WAIT_MAX_S
            while progress() < share and time.monotonic() < deadline:
                await asyncio.sleep(_POLL_S)
            self.while_working += progress() < goal
            self.happened[event.__name__.strip("_")] += 1
            await event()
            for link in self._links:
                _each(link, lambda proxy: proxy.heal())

    def _link(self) -> Proxies:
        return self._rng.choice(self._links)

    async def _last(self, least_s: float, most_s: float) -> None:
        await asyncio.sleep(self._rng.uniform(least_s, most_s))

    # Network faults

    async def _cut(self) -> None:
        direction, after = self._rng.choice(DIRECTIONS), self._rng.randrange(1, 20_000)
        _each(self._link(), lambda proxy: proxy.set_weather(direction, cut_after_bytes=after))
        await self._last(0.3, 1)

    async def _reset(self) -> None:
        _each(self._link(), lambda proxy: proxy.reset_all())

    async def _stall(self) -> None:
        _each(self._link(), lambda proxy: proxy.blackhole())
        await self._last(0.2, 5)

    async def _half_open(self) -> None:
        _each(self._link(), lambda proxy: proxy.half_close())
        await self._last(0.2, 4)

    async def _delay(self) -> None:
        _each(self._link(), lambda proxy: proxy.set_weather(latency_s=0.3, jitter_s=0.2))
        await self._last(0.5, 2)

    async def _trickle(self) -> None:
        size, rate = self._rng.randrange(1, 20), self._rng.uniform(2_000, 20_000)
        _each(self._link(), lambda proxy: proxy.set_weather(chunk_bytes=size, rate_bytes_s=rate))
        await self._last(0.5, 2)

    async def _refuse(self) -> None:
        def refuse(proxy: ChaosProxy) -> None:
            proxy.refuse = True
            proxy.reset_all()

        _each(self._link(), refuse)
        await self._last(0.2, 1)


def _each(link: Proxies, do: Callable[[ChaosProxy], object]) -> None:
    for proxy in link:
        do(proxy)
