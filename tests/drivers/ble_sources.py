"""What the tests of Bluetooth sources share."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from collectors.clock import SystemClock
from drivers.ble.config import BleConfig, GattConfig
from drivers.ble.gatt_source import GattSource
from drivers.ble.source import BleSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from collectors import CollectedData, IDataSource

FIRST, SECOND = "C4:4F:33:00:00:01", "C4:4F:33:00:00:02"


def advertisements(data_format: str = "bthome", source_id: str = "hall", **options: object) -> BleSource:
    """A source of advertisements."""
    return BleSource(source_id, BleConfig(**options), data_format=data_format, clock=SystemClock())


def connection(
    data_format: str = "gatt", source_id: str = "hall", address: str = FIRST, **options: object
) -> GattSource:
    """A source of characteristics."""
    config = GattConfig(address=address, **options)
    return GattSource(source_id, config, data_format=data_format, clock=SystemClock())


@asynccontextmanager
async def connected(source: IDataSource) -> AsyncIterator[IDataSource]:
    """The source, connected within the block."""
    await source.connect()
    try:
        yield source
    finally:
        await source.disconnect()


async def soon(condition: Callable[[], object], seconds: float = 5) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def collect(source: IDataSource, seconds: float = 5) -> CollectedData:
    """The next sample, within the time."""
    async with asyncio.timeout(seconds):
        return await source.collect()
