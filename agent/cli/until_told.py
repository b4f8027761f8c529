"""A command that goes on until somebody ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def until_told(timeout_s: float | None = None) -> AsyncIterator[None]:
    """End what is in the block at SIGTERM or SIGINT (Ctrl-C), or after so long; what comes behind it goes on."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if not block.expired():  # told twice
            block.reschedule(loop.time())

    try:
        async with asyncio.timeout(timeout_s) as block:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop)
            try:
                yield
            finally:
                for number in (signal.SIGTERM, signal.SIGINT):
                    loop.remove_signal_handler(number)
    except TimeoutError:  # what a disk or a network says is one, too
        if not block.expired():
            raise
