"""Three different things that can be wrong with a source: its link is down, its sensor is silent, or what it says is garbage.

The link is known by connecting and by losing the connection. Silence is nothing heard for longer than is normal while the link is
up: of the whole source, and of each sensor behind it where the source tells them apart (a topic of a broker). Garbage
is several samples in a row that could not be decoded; one beside good ones is counted, and no state.

Pure bookkeeping: time is given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

GARBAGE_RUN: Final = 8
"""So many bad samples, and no good one between them, are no accident."""
SENSORS_MAX: Final = 1000
"""Sensors behind one source that are watched one by one; further ones are heard, but not missed."""


@dataclass(slots=True)
class Hearing:
    """What is heard of one source."""

    heard_s: float = 0.0
    """When anything was heard last, or listening began (monotonic)."""
    silent: bool = False
    """The whole source says nothing for longer than is normal."""
    listens: bool = False
    """Whether the link is up, so that silence means something."""
    garbage_run: int = 0
    """Bad samples in a row."""
    garbage_reason: str = ""
    """What was wrong with the newest bad sample."""
    _ended_s: float | None = None
    _sensors: dict[str, float] = field(default_factory=dict)
    _silent_sensors: dict[str, None] = field(default_factory=dict)

    @property
    def garbage(self) -> bool:
        """Whether nothing but garbage comes."""
        return self.garbage_run >= GARBAGE_RUN

    @property
    def silent_sensors(self) -> list[str]:
        """Sensors that were heard before and say nothing now, in the order in which they fell silent."""
        return list(self._silent_sensors)

    def begin(self, now_s: float) -> None:
        """The link is up: listen. The time that it was down counts for nobody's silence."""
        self.listens = True
        if self._ended_s is None:
            self.heard_s = now_s
            return
        deaf_s = now_s - self._ended_s
        self.heard_s += deaf_s
        self._sensors = {sensor: heard_s + deaf_s for sensor, heard_s in self._sensors.items()}

    def end(self, now_s: float) -> None:
        """The link is down. A port that is opened anew because its device is silent makes it no less silent."""
        if self.listens:
            self.listens = False
            self._ended_s = now_s

    def hear(self, now_s: float, sensor: str | None) -> bool:
        """Something came; whether it ends a silence."""
        self.heard_s = now_s
        ended = self.silent
        self.silent = False
        if sensor is not None:
            if sensor in self._sensors or len(self._sensors) < SENSORS_MAX:
                self._sensors[sensor] = now_s
            if sensor in self._silent_sensors:
                del self._silent_sensors[sensor]
                ended = True
        return ended

    def look(self, now_s: float, normal_s: float) -> tuple[bool, list[str]]:
        """Whether the source has fallen silent since the last look, and which sensors have.

        Args:
            now_s: Monotonic time.
            normal_s: How much silence is normal.
        """
        if not self.listens:
            return False, []
        if now_s - self.heard_s > normal_s:
            news = not self.silent
            self.silent = True
            return news, []  # then each of its sensors is: saying so once is enough
        fallen = [
            sensor
            for sensor, heard_s in self._sensors.items()
            if now_s - heard_s > normal_s and sensor not in self._silent_sensors
        ]
        self._silent_sensors.update(dict.fromkeys(fallen))
        return False, fallen

    def judge(self, garbage: str | None) -> bool:
        """Take into account whether a sample was garbage, and why; whether that changed what the source is."""
        before = self.garbage
        if garbage is None:
            self.garbage_run = 0
            return before
        self.garbage_run += 1
        self.garbage_reason = garbage
        return self.garbage != before
