"""Keeps the service manager told: while the buffer opens, while the agent gets on, and what `systemctl status` shows."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.forward import Forward
    from agent.service_manager import ServiceManager

_log = logging.getLogger(__name__)

_EVERY_S = 10.0
_OPENING_S = 60.0
"""While the buffer opens, so much more time is asked for at each look: a repair of a full card takes minutes."""


async def tell_while_opening(manager: ServiceManager) -> None:
    """Ask for more time until cancelled."""
    while True:
        manager.not_yet(_OPENING_S)
        manager.moves()
        await asyncio.sleep(_interval_s(manager))


async def tell_progress(
    manager: ServiceManager, forward: Forward, summary: Callable[[], Awaitable[str]]
) -> None:
    """Say that the agent gets on, as long as it does, until cancelled.

    Args:
        manager: Is told.
        forward: Knows whether it gets on.
        summary: The first line of its status.
    """
    told = False
    async with asyncio.TaskGroup() as group:
        status = _Status(group, manager, summary)
        while True:
            stuck_s = forward.stuck_for_s()
            if stuck_s is None:
                manager.moves()
                told = False
            elif not told:
                told = True
                _log.critical(
                    "nothing that came in has become durable for %.0f s, and no part says why: systemd, which is not"
                    " told otherwise any more, will start the agent again",
                    stuck_s,
                )
            status.ask()
            await asyncio.sleep(_interval_s(manager))
            status.tell_that_it_hangs()


class _Status:
    """Shows the status; one that is not to be had, since a disk hangs, is asked for once, and holds up nothing.

    Args:
        group: Where it is asked for.
        manager: Shows it.
        summary: Gives it.
    """

    def __init__(
        self, group: asyncio.TaskGroup, manager: ServiceManager, summary: Callable[[], Awaitable[str]]
    ) -> None:
        self._group = group
        self._manager = manager
        self._summary = summary
        self._asking: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Ask for it, if that is not under way."""
        if self._asking is None or self._asking.done():
            self._asking = self._group.create_task(self._show(), name="tell:status")

    def tell_that_it_hangs(self) -> None:
        """If it is still asked for."""
        if self._asking is not None and not self._asking.done():
            self._manager.says("no status: the disk may hang")

    async def _show(self) -> None:
        self._manager.says(await self._summary())


def _interval_s(manager: ServiceManager) -> float:
    """Often enough for a watchdog that is missed twice."""
    return min(_EVERY_S, (manager.watchdog_s or _EVERY_S * 3) / 3)
