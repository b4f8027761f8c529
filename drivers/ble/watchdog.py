"""When silence is more than the sensor's own rate explains, and what to do about it. Pure: time is given.

bleak may say nothing when a scan finds nothing any more, so the data itself is watched. What is usual for a sensor is learned
from the times between its signals: BLE loses some, so silence begins to count at four times the median, and at 90 s where
nothing is known or the sensor speaks less often. Then the ladder:

1. **Rescan**: stop and start the scan. It costs nothing, so 90 s of silence are always enough for it.
2. **Power cycle**: switch the adapter off and on. It ends everybody's connections, so it needs more: nothing at all is heard on
   that adapter, from anybody, and the silence is beyond what the sensor's rate explains.
3. **Alarm**: say so, loudly when the adapter hears nothing at all, and go on with 1 and 2, ever more rarely.

That bluetoothd is gone or the adapter is away or switched off, is no silence: it is known at once, and the link is down.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from enum import IntEnum
from statistics import median
from typing import Final

GAPS: Final = 16
GAPS_ENOUGH: Final = 3
USUAL_TIMES: Final = 4.0
PATIENCE_LEAST_S: Final = 10.0
PATIENCE_MOST_S: Final = 90.0
PAUSE_MOST_S: Final = 3600.0
"""The longest time between two turns of the ladder."""
SENSORS_MAX: Final = 1024
"""Addresses that are remembered at a time."""
_TURNS_MAX: Final = 16
"""Doublings beyond this only make huge numbers."""


class Rung(IntEnum):
    """How far the ladder was climbed since the sensor was heard."""

    GROUND = 0
    RESCANNED = 1
    CYCLED = 2
    ALARMED = 3


class Watchdog:
    """The watch over one source.

    Args:
        now_s: When it begins to listen (monotonic).
        silent_after_s: How long silence is normal; None to learn it.
    """

    def __init__(self, now_s: float, silent_after_s: float | None = None) -> None:
        self.heard_s = now_s
        """When it was heard last, or began to listen."""
        self.rung = Rung.GROUND
        self._silent_after_s = silent_after_s
        self._gaps_s: deque[float] = deque(maxlen=GAPS)
        self._ever = False
        self._turns = 0
        self._acted_s = now_s

    def listen(self, now_s: float) -> None:
        """Begin anew: nothing could be heard before."""
        self.heard_s = self._acted_s = now_s
        self.rung = Rung.GROUND
        self._ever = False
        self._turns = 0

    def heard(self, now_s: float) -> None:
        """The sensor was heard."""
        if self._ever:
            self._gaps_s.append(now_s - self.heard_s)
        self._ever = True
        self.heard_s = self._acted_s = now_s
        self.rung = Rung.GROUND
        self._turns = 0

    @property
    def was_heard(self) -> bool:
        """Whether it was heard since the watch began to listen."""
        return self._ever

    @property
    def knows(self) -> bool:
        """Whether it is known how long silence is normal."""
        return self._silent_after_s is not None or len(self._gaps_s) >= GAPS_ENOUGH

    @property
    def explained_s(self) -> float:
        """How much silence the sensor's rate explains."""
        if self._silent_after_s is not None:
            return self._silent_after_s
        if len(self._gaps_s) < GAPS_ENOUGH:
            return PATIENCE_MOST_S
        return max(PATIENCE_LEAST_S, USUAL_TIMES * median(self._gaps_s))

    @property
    def patience_s(self) -> float:
        """How much silence starts the ladder, and is between its rungs."""
        return min(self.explained_s, PATIENCE_MOST_S)

    def silent_s(self, now_s: float) -> float:
        """How long it has said nothing."""
        return now_s - self.heard_s

    def is_silent(self, now_s: float) -> bool:
        """Whether it has said nothing for longer than its rate explains."""
        return self.silent_s(now_s) > self.explained_s

    @property
    def due_s(self) -> float:
        """When the next rung is due."""
        if self.rung is Rung.GROUND:
            return self.heard_s + self.patience_s
        if self.rung is Rung.RESCANNED:
            return max(self._acted_s, self.heard_s + self.explained_s) + self.patience_s
        if self.rung is Rung.CYCLED:
            return self._acted_s + self.patience_s
        return self._acted_s + min(self.patience_s * 2.0**self._turns, PAUSE_MOST_S)

    def climb(self, now_s: float) -> Rung:
        """Take the next rung; which it is."""
        self._acted_s = now_s
        self.rung = Rung.RESCANNED if self.rung is Rung.ALARMED else Rung(self.rung + 1)
        if self.rung is Rung.ALARMED:
            self._turns = min(self._turns + 1, _TURNS_MAX)
        return self.rung


class Usual:
    """How long each of several sensors usually says nothing between its readings."""

    def __init__(self) -> None:
        self._watchdogs: OrderedDict[str, Watchdog] = OrderedDict()

    def heard(self, sensor: str, now_s: float) -> None:
        """A reading came."""
        watchdog = self._watchdogs.get(sensor)
        if watchdog is None:
            watchdog = self._watchdogs[sensor] = Watchdog(now_s)
            if len(self._watchdogs) > SENSORS_MAX:
                self._watchdogs.popitem(last=False)
        watchdog.heard(now_s)

    def silence_s(self) -> float | None:
        """How much of it is normal for all of them; None while that is not known of any."""
        known = [watchdog.explained_s for watchdog in self._watchdogs.values() if watchdog.knows]
        return max(known) if known else None
