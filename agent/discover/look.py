"""Sends all scouts out at once; what one cannot do keeps no other from looking."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from drivers.discovery import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drivers.discovery import Scout

_TICK_S = 0.1


async def look_around(
    scouts: Sequence[Scout], seconds: float, progress: Callable[[int, int], None]
) -> list[Finding]:
    """What all of them found, in their order.

    Args:
        scouts: Who looks.
        seconds: For how long.
        progress: Told now and then how much of the time has passed, in milliseconds, and all of it.
    """
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_look(scout, seconds), name=f"discover:{scout.place}") for scout in scouts]
        while not all(task.done() for task in tasks):
            progress(round(min(seconds, loop.time() - begun_s) * 1000), round(seconds * 1000))
            await asyncio.wait(tasks, timeout=_TICK_S)
    return [finding for task in tasks for finding in task.result()]


async def _look(scout: Scout, seconds: float) -> list[Finding]:
    try:
        return await scout.look(seconds)
    except (OSError, TimeoutError) as error:
        return [Finding(f"{scout.place}: {str(error) or 'does not answer'}")]
