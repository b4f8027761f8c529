"""Asks one sensor for readings that are missing, lets none through twice, and gives late ones their right time."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from collectors.metadata_keys import FRAME_ERROR, UP_NS
from drivers.serial.resend import Place, ResendTracker
from drivers.serial.sensor_clock import SensorClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from collectors.clock import Clock
    from collectors.models import CollectedData, Reading
    from drivers.serial.resend import Boot
    from drivers.serial.resend_config import ResendConfig

    Values = Mapping[str, bool | int | float | str]
    Reads = Callable[[bytes], Sequence[Values]]

_log = logging.getLogger(__name__)

_TELL_INTERVAL_S = 60.0
"""On a bad line something is missing every second."""


class _Mark(NamedTuple):
    boot: Boot
    number: int
    uptime_ms: float


class Resender:
    """The resending of one source, over all its connections.

    Args:
        config: How the sensor does it.
        reads: What a frame says: the values of each reading in it. Raises ValueError.
        name: The source, for messages.
        clock: The time.
    """

    def __init__(self, config: ResendConfig, reads: Reads, *, name: str, clock: Clock) -> None:
        self._config = config
        self._reads = reads
        self._name = name
        self._clock = clock
        self._tracker = ResendTracker(config.depth, config.timeout)
        self._sensor_clock = SensorClock()
        self._kept: set[_Mark] = set()
        """What an earlier run has stored, while the sensor's ring may still hold it."""
        self._kept_newest = 0
        self._told_at_s = -_TELL_INTERVAL_S
        self._told = 0, 0

    @property
    def lost(self) -> int:
        """Readings that did not come even when asked for."""
        return self._tracker.counts.lost

    @property
    def recovered(self) -> int:
        """Readings that came when asked for."""
        return self._tracker.counts.recovered

    def resume(self, kept: Sequence[Reading]) -> None:
        """Go on after the newest stored readings, oldest first. `up` is 0 where it is of another boot of this machine."""
        marks = [(mark, reading.up) for reading in kept if (mark := self._mark(reading.values)) is not None]
        self._tracker.resume((mark.boot, mark.number) for mark, _ in marks)
        self._kept = {mark for mark, _ in marks}
        self._kept_newest = max((mark.number for mark in self._kept), default=0)
        for mark, up_ns in marks:
            if up_ns:
                self._sensor_clock.heard(mark.boot, mark.uptime_ms, up_ns)
        self._sensor_clock.reconnected()

    def reconnected(self) -> None:
        """There is a new connection."""
        self._tracker.reconnected()
        self._sensor_clock.reconnected()

    def take(self, data: CollectedData) -> CollectedData | None:
        """What to make of a frame: with the time at which it was measured, or None when it is stored already."""
        if FRAME_ERROR in data.metadata:
            return data
        try:
            readings = self._reads(data.raw_data)
        except ValueError:
            return data  # told where it is decoded
        marks = [mark for values in readings if (mark := self._mark(values)) is not None]
        if not marks:
            return data
        if self._are_kept(marks):
            self._tracker.counts.repeated += 1
            return None
        now_s = self._clock.monotonic_s()
        places = [self._tracker.arrive(mark.boot, mark.number, now_s) for mark in marks]
        if all(place is Place.AGAIN for place in places):
            return None
        return self._timed(data, marks[-1], places[-1])

    def request(self) -> bytes:
        """What to write to the sensor now; empty when there is nothing to ask."""
        now_s = self._clock.monotonic_s()
        request = self._tracker.request(now_s)
        self._tell(now_s)
        return self._config.render(request) if request is not None else b""

    def _are_kept(self, marks: Sequence[_Mark]) -> bool:
        """Whether an earlier run has stored them all: this run gets the answers to what that one asked for before it was killed.

        Number and uptime say that it is the same reading. A sensor that breaks its word and counts anew without another boot
        number is not believed to repeat itself for long: only while its ring can hold what was stored.
        """
        if any(mark.number > self._kept_newest + self._config.depth for mark in marks):
            self._kept.clear()
        return all(mark in self._kept for mark in marks)

    def _mark(self, values: Values) -> _Mark | None:
        """Which reading of which start this is, and when; None for a frame that does not say, such as a banner."""
        boot = values.get(self._config.boot)
        number = values.get(self._config.counter)
        uptime_ms = values.get(self._config.uptime)
        if not isinstance(boot, int | str) or not isinstance(number, int) or number < 1:
            return None
        if not isinstance(uptime_ms, int | float):
            return None
        return _Mark(boot, number, uptime_ms)

    def _timed(self, data: CollectedData, mark: _Mark, place: Place) -> CollectedData:
        arrived_ns = data.metadata[UP_NS]
        boot, uptime_ms = mark.boot, mark.uptime_ms
        if place is Place.NEW and not self._sensor_clock.was_delayed(boot, uptime_ms, arrived_ns):
            self._sensor_clock.heard(boot, uptime_ms, arrived_ns)
            return data
        measured_ns = self._sensor_clock.measured_ns(boot, uptime_ms, arrived_ns)
        if place is Place.UNSURE or measured_ns is None:
            return data
        late = timedelta(microseconds=(arrived_ns - measured_ns) / 1000)
        return data.model_copy(
            update={
                "timestamp": data.timestamp - late,
                "metadata": data.metadata | {UP_NS: measured_ns},
            }
        )

    def _tell(self, now_s: float) -> None:
        """Say now and then what was missing."""
        if self._tracker.missing or now_s - self._told_at_s < _TELL_INTERVAL_S:
            return
        now = self.recovered, self.lost
        recovered, lost = now[0] - self._told[0], now[1] - self._told[1]
        if recovered <= 0 and lost <= 0:
            return
        self._told, self._told_at_s = now, now_s
        _log.log(
            logging.WARNING if lost > 0 else logging.INFO,
            "%s: %d missing readings came when the sensor was asked for them, %d are lost",
            self._name,
            recovered,
            max(0, lost),
        )
