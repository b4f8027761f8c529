"""Serial sources as tests make them."""

import contextlib

from collectors.clock import SystemClock
from drivers.serial.config import SerialConfig
from drivers.serial.source import SerialSource


def make(port, **settings):
    return SerialSource("s", SerialConfig(port=port, **settings), data_format="json", clock=SystemClock())


@contextlib.asynccontextmanager
async def connected(port, **settings):
    source = make(port, **settings)
    await source.connect()
    try:
        yield source
    finally:
        await source.disconnect()
