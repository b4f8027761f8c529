"""Sends all scouts out at once; what one cannot do keeps no other from looking."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from drivers.discovery import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drivers.discovery import Scout

_TICK_S = 0.1
_BREAK_OFF_S = 3.0
"""How long a scout that was told that it is enough may take to come back."""


async def look_around(
    scouts: Sequence[Scout],
    seconds: float,
    progress: Callable[[int, int], None],
    enough: asyncio.Event | None = None,
) -> list[Finding]:
    """What all of them found, in their order.

    Args:
        scouts: Who looks.
        seconds: For how long.
        progress: Told now and then how much of the time has passed, in milliseconds, and all of it.
        enough: Set when nobody wants to wait any longer: what was found by then is returned.
    """
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    told_s: float | None = None
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_look(scout, seconds), name=f"discover:{scout.place}") for scout in scouts]
        while not all(task.done() for task in tasks):
            progress(round(min(seconds, loop.time() - begun_s) * 1000), round(seconds * 1000))
            await asyncio.wait(tasks, timeout=_TICK_S)
            if enough is not None and enough.is_set() and told_s is None:
                told_s = loop.time()
                for scout in scouts:
                    scout.enough()
            if told_s is not None and loop.time() - told_s > _BREAK_OFF_S:
                for task in tasks:
                    task.cancel()
    return [finding for scout, task in zip(scouts, tasks, strict=True) for finding in _found(scout, task)]


def _found(scout: Scout, task: asyncio.Task[list[Finding]]) -> list[Finding]:
    return [Finding(f"{scout.place}: did not answer by then")] if task.cancelled() else task.result()


async def _look(scout: Scout, seconds: float) -> list[Finding]:
    try:
        return await scout.look(seconds)
    except (OSError, TimeoutError) as error:
        return [Finding(f"{scout.place}: {str(error) or 'does not answer'}")]
