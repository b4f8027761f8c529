"""A cloud that keeps its limits, simulated: it counts what comes, and says what it would have refused.

It stands for the other end of any upstream. Numbers are those that the clouds publish, not those of our presets.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.sync.upstream import LinkLost, RetryLater

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from agent.sync.upstream import Pack, UpstreamError


@dataclass(frozen=True)
class CloudLimits:
    """What a cloud takes; windows are `(amount, seconds)`."""

    message_bytes: int
    in_flight: int
    messages: tuple[tuple[int, float], ...] = ()
    bytes: tuple[tuple[int, float], ...] = ()
    points: tuple[tuple[int, float], ...] = ()
    connects: tuple[tuple[int, float], ...] = ()


CLOUDS = {
    "aws-iot-core": CloudLimits(128 * 1024, 100, ((100, 1.0),), ((512 * 1024, 1.0),), connects=((1, 1.0),)),
    "thingsboard": CloudLimits(
        64 * 1024, 100, ((10, 1.0), (300, 60.0)), points=((100, 1.0), (2000, 60.0), (15_000, 3600.0))
    ),
    "influxdb": CloudLimits(50 << 20, 1),
    "generic-mqtt": CloudLimits(
        48 * 1024, 20, ((8, 1.0), (400, 60.0), (20_000, 3600.0)), connects=((1, 1.0),)
    ),
    "generic-http": CloudLimits(48 * 1024, 1, ((8, 1.0), (400, 60.0), (20_000, 3600.0))),
}


class Windows:
    """What a cloud counted in its windows of time."""

    def __init__(self, what: str, limits: tuple[tuple[int, float], ...]) -> None:
        self._what = what
        self._windows = [(amount, seconds, deque[tuple[float, int]]()) for amount, seconds in limits]
        self._sums = [0] * len(limits)

    def add(self, now_s: float, amount: int) -> str | None:
        exceeded = None
        for place, (most, seconds, seen) in enumerate(self._windows):
            seen.append((now_s, amount))
            self._sums[place] += amount
            while seen[0][0] <= now_s - seconds + 1e-9:
                self._sums[place] -= seen.popleft()[1]
            if self._sums[place] > most:
                exceeded = f"{self._sums[place]} {self._what} in {seconds:g} s, {most} are allowed"
        return exceeded


@dataclass
class LimitingCloud:
    """An upstream whose other end counts. `weather` says what becomes of a pack, or of an attempt to connect."""

    name = "test://cloud"
    limits: CloudLimits
    max_in_flight: int
    max_payload_bytes: int
    lasting: bool
    rng: random.Random
    weather: Callable[[Pack | None], UpstreamError | None] = lambda _: None
    latency_s: float = 0.05
    exceeded: list[str] = field(default_factory=list)
    packs: list[Pack] = field(default_factory=list)

    def __post_init__(self) -> None:
        limits = self.limits
        self._messages = Windows("messages", limits.messages)
        self._bytes = Windows("bytes", limits.bytes)
        self._points = Windows("values", limits.points)
        self._connects = Windows("connects", limits.connects)
        self._in_flight = 0
        self._cut = asyncio.Event()

    def _note(self, complaint: str | None) -> None:
        if complaint is not None:
            self.exceeded.append(complaint)

    async def connect(self) -> None:
        self._note(self._connects.add(asyncio.get_running_loop().time(), 1))
        await asyncio.sleep(self.rng.uniform(0, self.latency_s))
        self._cut.clear()
        if (error := self.weather(None)) is not None:
            raise RetryLater(str(error))

    async def disconnect(self) -> None:
        self._cut.set()

    async def lost(self) -> None:
        await self._cut.wait()

    async def send(self, pack: Pack) -> None:
        now_s = asyncio.get_running_loop().time()
        self._in_flight += 1
        try:
            if self._in_flight > self.limits.in_flight:
                self._note(f"{self._in_flight} in flight")
            if len(pack.payload) > self.limits.message_bytes:
                self._note(f"a message of {len(pack.payload)} bytes")
            self._note(self._messages.add(now_s, 1))
            self._note(self._bytes.add(now_s, len(pack.payload)))
            self._note(self._points.add(now_s, pack.points))
            await asyncio.sleep(self.rng.uniform(0.2, 2) * self.latency_s)
            error = self.weather(pack)
            if isinstance(error, LinkLost):
                self._cut.set()
            if error is not None:
                raise error
            self.packs.append(pack)
        finally:
            self._in_flight -= 1
