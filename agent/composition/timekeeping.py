"""Time in a running agent: which boot this is, how good the clock is, what was known before."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.spine.errors import COLLECTION, STORAGE
from agent.supervisor import supervise
from agent.timekeeping import Boot, Chronicle, ClockWatch, Correction, recognise_boot
from agent.timekeeping.synchronisation import clock_ran_on_battery
from buffer import StoreError

if TYPE_CHECKING:
    from agent.spine.spine import Spine
    from buffer import TinyDBBuffer


class Timekeeping:
    """What the agent knows about time, once it has begun.

    Args:
        buffer: Keeps it.
        spine: Errors, tasks, clocks.
    """

    def __init__(self, buffer: TinyDBBuffer, spine: Spine) -> None:
        self._buffer = buffer
        self._spine = spine
        self.boot = 0
        """Which boot of the device this is; 0: unknown, on a disk that takes nothing."""

    async def begin(self) -> None:
        """Find out which boot this is, and how good the clock."""
        boot = await self._recognise_boot()
        self.boot = boot.count
        self.chronicle = Chronicle(self._buffer.state, boot.count)
        await self._note_last_boot()
        if boot.is_new:
            await self.chronicle.began(battery=await asyncio.to_thread(clock_ran_on_battery))
        self.watch = ClockWatch(self._spine.clock, self.chronicle)
        await self.watch.look()

    def run(self) -> None:
        """Watch the clock in the background."""
        supervise(self._spine, "clock", "watch", self.watch.run, layer=COLLECTION)

    def correction(self) -> Correction:
        """What gives readings their final time, for one upstream."""
        return Correction(self.chronicle, self.watch, self._spine.clock)

    async def _note_last_boot(self) -> None:
        """It lasted until the newest reading at least. A disk that cannot be read costs that knowledge, no start."""
        try:
            newest = await self._buffer.recent(1)
        except (StoreError, OSError) as error:
            await self._spine.errors.report(error, layer=STORAGE, operation="load_newest", critical=True)
            return
        for record in newest:
            boot, up_ns = record.document.get("boot"), record.document.get("up")
            if isinstance(boot, int) and isinstance(up_ns, int) and boot:
                self.chronicle.alive(boot, up_ns)

    async def _recognise_boot(self) -> Boot:
        try:
            return await recognise_boot(self._buffer.state("device_state"))
        except (StoreError, OSError) as error:
            await self._spine.errors.report(error, layer=STORAGE, operation="count_boot", critical=True)
            return Boot(0, is_new=False)
