"""The driver: an `IDataSource`."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from collectors.interfaces import IDataSource
from collectors.metadata_keys import UP_NS
from collectors.models import CollectedData

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from collectors.clock import Clock
    from outstation_example.config import SysfsConfig

BYTES_MAX = 4096
"""A file of sysfs is one page at most; a bound on everything that comes from outside."""


class SysfsSource(IDataSource):
    """Reads a file on a schedule.

    Args:
        source_id: The unique identifier of this source.
        config: Which file, and how often.
        data_format: The codec that can decode what is in it; from the configuration.
        clock: Stamps what is read. Use it for all times, so that tests can replace it.
    """

    def __init__(self, source_id: str, config: SysfsConfig, *, data_format: str, clock: Clock) -> None:
        # A constructor opens nothing, starts nothing and never fails.
        self._source_id = source_id
        self._config = config
        self._data_format = data_format
        self._clock = clock
        self._is_connected = False
        self._troubles: Counter[str] = Counter()

    async def connect(self) -> None:
        """See whether the file is there. Harmless when connected.

        Raises:
            ConnectionError: It is not; the message says what and what would help.
        """
        await self._read()
        self._is_connected = True

    async def disconnect(self) -> None:
        """Harmless after a failed or missing connect, and when called twice."""
        self._is_connected = False

    async def collect(self) -> CollectedData:
        """One reading, now.

        Raises:
            ConnectionError: Not connected, or the file is gone. Whoever collects waits a while and connects anew: a
                driver does not reconnect by itself.
            ValueError: What was read is no reading, though the connection is fine: the next one may be better.
        """
        if not self._is_connected:
            raise ConnectionError(f"{self._source_id}: not connected: call connect() first")
        raw = await self._read()
        if not raw:
            self._troubles["empty"] += 1
            raise ValueError(f"{self._config.path} is empty")
        return CollectedData(
            source_id=self._source_id,
            timestamp=self._clock.now(),
            data_format=self._data_format,
            collection_method="sysfs",
            raw_data=raw,
            metadata={UP_NS: self._clock.boottime_ns()},
        )

    async def collect_stream(self) -> AsyncIterator[CollectedData]:
        """Readings on a schedule that does not drift; one that falls due while nobody takes any is left out.

        Raises:
            ConnectionError: Not connected, or the file is gone.
        """
        due_s = self._clock.monotonic_s()
        while True:
            try:
                data = await self.collect()
            except ValueError:
                pass  # counted; the next one may be better
            else:
                yield data  # while the pipeline is busy, this waits: never queue without a bound
            now_s = self._clock.monotonic_s()
            interval_s = self._config.interval
            due_s += interval_s * (1 + max(0, (now_s - due_s) // interval_s))
            await asyncio.sleep(due_s - now_s)

    def get_source_id(self) -> str:
        """The unique identifier of this source."""
        return self._source_id

    @property
    def troubles(self) -> Mapping[str, int]:
        """How often each kind of trouble was met (`collectors.interfaces.Counting`): `outstation status` shows it."""
        return self._troubles

    async def _read(self) -> bytes:
        try:
            # A kernel driver may take its time: nothing that can block runs on the event loop.
            return await asyncio.to_thread(self._read_file)
        except OSError as error:
            self._troubles["unreadable"] += 1
            raise ConnectionError(f"{self._config.path}: {error.strerror}") from error

    def _read_file(self) -> bytes:
        with self._config.path.open("rb") as file:
            return file.read(BYTES_MAX).strip()
