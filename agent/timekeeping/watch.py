"""Looks at the wall clock: whether it is synchronised, whether it stepped; keeps anchors and signs of life."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.timekeeping.synchronisation import probe as _probe
from agent.timekeeping.synchronisation import time_is_kept
from agent.timekeeping.timeline import Anchor
from collectors.enums import ClockQuality

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from agent.timekeeping.chronicle import Chronicle
    from agent.timekeeping.synchronisation import Synchronisation
    from collectors.clock import Clock

_log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
PROBE_S: Final = 10.0
"""How often the synchronisation is asked about; at once after a step."""
ANCHOR_S: Final = 900.0
"""How often an anchor, or else a sign of life, is made durable."""
STEP_S: Final = 0.5
"""A wall clock that moved this much against CLOCK_BOOTTIME between two looks was set. Slewing moves it 0.5 ms a second."""
STEPS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Step:
    """Somebody set the wall clock."""

    at: datetime
    """By the new time."""
    by_s: float
    """Forwards, or backwards when below 0."""


class ClockWatch:
    """Knows how far the wall clock can be trusted; asking costs nothing.

    Args:
        clock: The clocks.
        chronicle: Keeps anchors.
        probe: Asks about the synchronisation; may block, so it is called in a thread.
        kept: Whether somebody would synchronise the clock, given a network; asked in a thread, too.

    Attributes:
        may_come: Whether the clock can be expected to become synchronised once there is a network. No longer, when
            a network was there and it did not.
        synchronised: Set while the wall clock is synchronised.
        said: What the last answer was.
        steps: The latest steps, oldest first.
    """

    def __init__(
        self,
        clock: Clock,
        chronicle: Chronicle,
        probe: Callable[[], Synchronisation] = _probe,
        kept: Callable[[], bool] = time_is_kept,
    ) -> None:
        self.synchronised = asyncio.Event()
        self.said: Synchronisation | None = None
        self.steps: deque[Step] = deque(maxlen=STEPS_MAX)
        self._clock = clock
        self._chronicle = chronicle
        self.may_come = True
        self._probe = probe
        self._kept = kept
        self._difference_s: float | None = None
        self._continues = False
        self._probe_due_s = 0.0
        self._anchor_due_s = 0.0

    def quality(self) -> ClockQuality:
        """How far a time stamped now can be trusted."""
        return ClockQuality.SYNCED if self.synchronised.is_set() else ClockQuality.ESTIMATED

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Look once: at the difference of the clocks, and at the synchronisation when that is due."""
        stepped = self._notice_step()
        now_s = self._clock.monotonic_s()
        if stepped or now_s >= self._probe_due_s:
            self._probe_due_s = now_s + PROBE_S
            await self._ask()
        if now_s >= self._anchor_due_s:
            self._anchor_due_s = now_s + ANCHOR_S
            self._chronicle.alive(self._chronicle.boot, self._clock.boottime_ns())
            await self._chronicle.write()

    async def close(self) -> None:
        """The program ends: note how long this boot lasted."""
        self._chronicle.alive(self._chronicle.boot, self._clock.boottime_ns())
        await self._chronicle.write()

    def _notice_step(self) -> bool:
        up_ns = self._clock.boottime_ns()
        difference_s = self._clock.now().timestamp() - up_ns * 1e-9
        before_s, self._difference_s = self._difference_s, difference_s
        if before_s is None or abs(difference_s - before_s) < STEP_S:
            return False
        step = Step(self._clock.now(), difference_s - before_s)
        self.steps.append(step)
        self._continues = False
        self.synchronised.clear()  # until we know who set it
        _log.info("the wall clock was set by %+.1f s", step.by_s)
        return True

    async def _ask(self) -> None:
        said = await asyncio.to_thread(self._probe)
        if self.may_come and not said.good:
            self.may_come = await asyncio.to_thread(self._kept)
        was_good = self.said is not None and self.said.good and self.synchronised.is_set()
        self.said = said
        if not said.good:
            self._continues = False
            self.synchronised.clear()
            return
        assert said.error_s is not None
        self._chronicle.anchor(self._anchor(said.error_s), continues=self._continues and was_good)
        self._continues = True
        self.may_come = True
        if not self.synchronised.is_set():
            self.synchronised.set()
            self._anchor_due_s = 0.0  # the first anchor is worth a write of its own
            _log.info("the wall clock is synchronised (%s, good to %.3f s)", said.by, said.error_s)

    def _anchor(self, error_s: float) -> Anchor:
        """Both clocks at once: the wall clock between two looks at the other."""
        before_ns = self._clock.boottime_ns()
        t = self._clock.now().timestamp()
        after_ns = self._clock.boottime_ns()
        between_ns = (after_ns - before_ns) // 2
        return Anchor(before_ns + between_ns, t, error_s + between_ns * 1e-9)
