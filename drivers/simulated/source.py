"""A simulated sensor as a data source."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic_core import to_json

from collectors.interfaces import IDataSource
from collectors.metadata_keys import UP_NS
from collectors.models import CollectedData
from drivers.simulated.signals import readings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from collectors.clock import Clock
    from drivers.simulated.config import SimulatedConfig

BURST_MAX = 100
"""Readings that are due are made this many at a time: it bounds memory, and the time between two turns of the loop."""

DUE_S = 1e-6
"""Due within this is due now: a float of days of uptime cannot say it more exactly, and would be slept for in vain."""


class SimulatedSource(IDataSource):
    """Measures at a fixed rate from the first connect on.

    The schedule does not drift: reading n is due n / rate after connecting, and is stamped with that time. Who is
    late to collect gets what is due at once, nothing is left out. After a disconnect the values go on where they
    stopped.

    Args:
        source_id: The unique identifier of this source.
        config: What to measure, and how often.
        data_format: Must be `json`.
        clock: Says what is due, and stamps it.
        sleep: Waits for so many seconds of that clock.

    Raises:
        ValueError: The data format is another.
    """

    def __init__(
        self,
        source_id: str,
        config: SimulatedConfig,
        *,
        data_format: str,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if data_format != "json":
            raise ValueError(f"a simulated source speaks json, not {data_format!r}")
        self._source_id = source_id
        self._config = config
        self._clock = clock
        self._sleep = sleep
        self._values = readings(config.signals, rate_hz=config.rate, seed=config.seed)
        self._due: deque[CollectedData] = deque()
        self._connection = 0
        """Counts connects; 0 while there is none."""
        self._connects = 0
        self._start_s = 0.0
        self._made = 0

    async def connect(self) -> None:
        """Start the schedule. Harmless when it runs."""
        if self._connection:
            return
        self._connects += 1
        self._connection = self._connects
        self._start_s = self._clock.monotonic_s()
        self._made = 0

    async def disconnect(self) -> None:
        """Stop the schedule. Harmless when it is stopped."""
        self._connection = 0

    async def collect(self) -> CollectedData:
        """The next reading; waits until it is due.

        Raises:
            ConnectionError: Not connected, or disconnected meanwhile.
        """
        connection = self._connection
        while True:
            if not connection or self._connection != connection:
                raise ConnectionError(f"{self._source_id}: not connected: call connect() first")
            if self._due:
                return self._due.popleft()
            late_s = self._late_s(self._clock.monotonic_s())
            if late_s < -DUE_S:
                await self._sleep(-late_s)
            else:
                self._measure()
                await asyncio.sleep(0)

    async def collect_stream(self) -> AsyncIterator[CollectedData]:
        """The readings as they become due.

        Raises:
            ConnectionError: Not connected, or disconnected meanwhile.
        """
        while True:
            yield await self.collect()

    def get_source_id(self) -> str:
        """The unique identifier of this source."""
        return self._source_id

    def _late_s(self, monotonic_s: float) -> float:
        """For how long the next reading has been due; negative when it is not."""
        return monotonic_s - self._start_s - self._made / self._config.rate

    def _measure(self) -> None:
        """Make the readings that are due, a burst at most."""
        now, up_ns = self._clock.now(), self._clock.boottime_ns()
        monotonic_s = self._clock.monotonic_s()
        for _ in range(BURST_MAX):
            late_s = self._late_s(monotonic_s)
            if late_s < -DUE_S:
                return
            self._due.append(
                CollectedData(
                    source_id=self._source_id,
                    timestamp=now - timedelta(seconds=late_s),
                    data_format="json",
                    collection_method="simulated",
                    raw_data=to_json(next(self._values)),
                    metadata={UP_NS: max(up_ns - round(late_s * 1e9), 0)},
                )
            )
            self._made += 1
