"""Says when the buffer cannot write, when it can again, and what it lost: at each change, not at each look."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from agent.spine.errors import STORAGE
from agent.status.text import span

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.spine.spine import Spine

_log = logging.getLogger(__name__)

_EVERY_S = 1.0
_ROOM_EVERY_S = 60.0
_ROOM_AGAIN = 1.5
"""There is room again when it lasts so many times longer than where the warning begins."""
_REPEAT_S = 3600.0
"""A loss that goes on, such as a quota that drops the oldest, is told again after this time."""


class LossLedger(Protocol):
    """What will never be delivered, and why."""

    def lost(self) -> Counter[str]:
        """How many readings and dead letters are lost, by reason."""
        ...


class Watched(Protocol):
    """What the watch needs of the buffer."""

    @property
    def fault(self) -> str | None:
        """What is wrong with the disk now."""
        ...


class BufferWatch:
    """Looks at the buffer once a second.

    Args:
        buffer: What to look at.
        ledger: Its losses.
        place: Where it lies, for the remedy.
        spine: Errors and time.
        left_s: How long its room lasts at the present rate, None when that is not known; may block.
        warn_below_s: Warn when that is less; 0 never.
    """

    def __init__(
        self,
        buffer: Watched,
        ledger: LossLedger,
        place: str,
        spine: Spine,
        *,
        left_s: Callable[[], float | None] = lambda: None,
        warn_below_s: float = 0.0,
    ) -> None:
        self._buffer = buffer
        self._ledger = ledger
        self._place = place
        self._spine = spine
        self._fault: str | None = None
        self._lost: Counter[str] = Counter()
        self._told_s: dict[str, float] = {}
        self._left_s = left_s
        self._warn_below_s = warn_below_s
        self._room_due_s = 0.0
        self._scarce = False

    def warn_below(self, seconds: float) -> None:
        """Warn when the room lasts for less than this, from now on."""
        if seconds != self._warn_below_s:
            self._warn_below_s = seconds
            self._room_due_s = 0.0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_EVERY_S)

    async def look(self) -> None:
        """Tell what has changed since the last look."""
        await self._look_at_fault()
        await self._look_at_losses()
        await self._look_at_room()

    async def _look_at_fault(self) -> None:
        fault = self._buffer.fault
        if (fault is None) is not (self._fault is None):
            if fault is None:
                _log.info("the buffer in %s takes readings again", self._place)
            else:
                await self._report(
                    f"the buffer cannot write: {fault}; what comes now waits in memory, as long as there is room:"
                    f" see to the disk that holds {self._place}",
                    "write",
                )
        self._fault = fault

    async def _look_at_losses(self) -> None:
        now_s = self._spine.clock.monotonic_s()
        lost = self._ledger.lost()
        for why, count in lost.items():
            more = count - self._lost[why]
            told_s = self._told_s.get(why)
            if more > 0 and (told_s is None or now_s - told_s >= _REPEAT_S):
                self._told_s[why] = now_s
                self._lost[why] = count
                await self._report(
                    f"{more} records of {self._place} are lost, {count} in all: {why}; its loss ledger says which",
                    "keep",
                )

    async def _look_at_room(self) -> None:
        now_s = self._spine.clock.monotonic_s()
        if not self._warn_below_s or now_s < self._room_due_s:
            return
        self._room_due_s = now_s + _ROOM_EVERY_S
        left_s = await asyncio.to_thread(self._left_s)
        if left_s is None:
            return
        if left_s >= self._warn_below_s * _ROOM_AGAIN:
            self._scarce = False
        elif left_s < self._warn_below_s and not self._scarce:
            self._scarce = True
            await self._report(
                f"the room in {self._place} lasts for {span(left_s)} more at this rate, if nothing is delivered",
                "room",
                critical=False,
            )

    async def _report(self, message: str, operation: str, *, critical: bool = True) -> None:
        await self._spine.errors.report(
            RuntimeError(message), layer=STORAGE, operation=operation, critical=critical
        )
