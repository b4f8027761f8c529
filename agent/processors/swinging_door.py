"""Swinging door: only the corners of a signal are kept; straight lines between them are never off by more than a width.

E. H. Bristol, "Swinging door trending: adaptive trend recording?", ISA National Conference Proceedings, 1990, in the
variant that keeps measured values: a new value may end the line only if the line to it passes every value since the
last corner within the width. The bound holds for each value that was left out, by linear interpolation over time.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from agent.processors.holding import READINGS, HoldingStep
from agent.processors.reading_step import StepOptions, number_of, without
from agent.processors.series import SeriesKey, SeriesMemory, elapsed_s, moment, series_of
from collectors.enums import Lane
from collectors.models import Name, Reading
from collectors.units import DurationS


class SwingingDoorOptions(StepOptions):
    """`[[pipeline.step]] processor = "swinging_door"`."""

    metric: Name
    """The metric that is thinned out."""
    width: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """No value is further than this from the straight line between the two that were kept around it."""
    keep_every: DurationS = 3600.0
    """Seconds after which a value is kept even if the line goes on, so that silence means a fault."""


@dataclass(slots=True)
class _Door:
    """The line that is being drawn, and how far it may still turn."""

    corner: tuple[tuple[int, int, float], float]
    """When the last corner was, and its value."""
    held: Reading | None = None
    """The latest value, which is the next corner if the line ends here."""
    held_since_s: float = 0.0
    """When it came, on the monotonic clock."""
    low: float = -math.inf
    high: float = math.inf
    """The slopes with which a line from the corner passes all values since within the width."""


class SwingingDoor(HoldingStep):
    """Keeps the corners of one metric; what else is in a reading passes at once.

    A series is one metric of one source with the same tags. Always kept, at once: the first value, a text or truth
    value, a value whose quality changed, a reading in the alarm lane. A corner is known to be one when the next value
    has come, so it is given then, or after `keep_every`; until then it is held, durably.
    """

    def __init__(self, options: SwingingDoorOptions) -> None:
        super().__init__(f"swinging_door:{options.metric}")
        self._options = options
        self._doors: SeriesMemory[_Door] = SeriesMemory()

    def apply(self, reading: Reading) -> Sequence[Reading]:
        """The rest of the reading, and the corner before it if that is known now."""
        metric = self._options.metric
        if metric not in reading.values:
            return [reading]
        value = number_of(reading, metric)
        series = series_of(reading)
        door = self._doors.get(series)
        if value is None or door is None or self._is_news(door, reading):
            return [*self._let_go(series), *self._corner(series, reading, value)]
        rest = without(reading, metric)
        given = [] if rest is None else [rest]
        alone = _alone(reading, metric)
        now = moment(reading)
        held = self._turn(door, now, value)
        if held is not None:
            given.insert(0, held)
        self._hold(series, door, alone)
        return given

    def _turn(self, door: _Door, now: tuple[int, int, float], value: float) -> Reading | None:
        """Make the door narrower for a value; the corner that ends the line when it cannot go on to it."""
        ended: Reading | None = None
        slope, reach = _slope(door.corner, now, value), self._options.width
        if door.held is not None and not door.low <= slope <= door.high:
            ended = door.held
            door.corner = (moment(ended), float(number_of(ended, self._options.metric) or 0))
            door.low, door.high = -math.inf, math.inf
        seconds = elapsed_s(door.corner[0], now)
        door.low = max(door.low, (value - reach - door.corner[1]) / seconds)
        door.high = min(door.high, (value + reach - door.corner[1]) / seconds)
        return ended

    def _is_news(self, door: _Door, reading: Reading) -> bool:
        """Whether a value is kept whatever the line does."""
        latest = moment(door.held) if door.held is not None else door.corner[0]
        now = moment(reading)
        if reading.lane is Lane.ALARM or elapsed_s(latest, now) <= 0 or elapsed_s(door.corner[0], now) <= 0:
            return True
        if elapsed_s(door.corner[0], now) >= self._options.keep_every:
            return True
        quality = reading.quality.get(self._options.metric)
        return quality is not None

    def _corner(self, series: SeriesKey, reading: Reading, value: float | None) -> list[Reading]:
        """Keep this value, whole, and begin a line with it where it is a number that can be trusted."""
        self._note(series)
        if value is None or self._options.metric in reading.quality:
            self._doors.pop(series)
        else:
            self._remember(series, _Door((moment(reading), float(value))))
        return [reading]

    def _hold(self, series: SeriesKey, door: _Door, reading: Reading) -> None:
        door.held, door.held_since_s = reading, self._now_s
        self._remember(series, door)
        self._note(series)

    def _remember(self, series: SeriesKey, door: _Door) -> None:
        forgotten = self._doors.put(series, door)
        if forgotten is not None:
            self._note(forgotten[0])
            if forgotten[1].held is not None:
                self._overdue.append(forgotten[1].held)

    def _let_go(self, series: SeriesKey) -> list[Reading]:
        door = self._doors.pop(series)
        return [] if door is None or door.held is None else [door.held]

    # -- holding

    def due(self, monotonic_s: float) -> Sequence[Reading]:
        """Corners that have been held for `keep_every`: the sensor may have fallen silent."""
        self._now_s = monotonic_s
        given = []
        for series, door in self._doors.items():
            if door.held is not None and monotonic_s - door.held_since_s >= self._options.keep_every:
                given.append(door.held)
                value = number_of(door.held, self._options.metric)
                self._doors.put(series, _Door((moment(door.held), float(value or 0))))
                self._note(series)
        return given

    def series(self) -> Iterable[SeriesKey]:
        """The series that have a door."""
        return [key for key, _ in self._doors.items()]

    def row(self, series: SeriesKey) -> dict[str, Any] | None:
        """The door of a series."""
        door = self._doors.get(series)
        if door is None:
            return None
        corner = [list(door.corner[0]), door.corner[1]]
        if door.held is None:
            return {"corner": corner, READINGS: []}
        return {"corner": corner, "slopes": [door.low, door.high], READINGS: [door.held.to_document()]}

    def restore_row(self, series: SeriesKey, row: Mapping[str, Any]) -> None:
        """Take up a door."""
        (boot, up_ns, t), value = row["corner"]
        door = _Door(((boot, up_ns, t), value))
        if row[READINGS]:
            door.held, door.held_since_s = Reading.from_document(row[READINGS][0]), self._now_s
            door.low, door.high = row["slopes"]
        self._doors.put(series, door)


def _slope(corner: tuple[tuple[int, int, float], float], now: tuple[int, int, float], value: float) -> float:
    return (value - corner[1]) / elapsed_s(corner[0], now)


def _alone(reading: Reading, metric: str) -> Reading:
    """The reading with nothing but one metric, and without where it came from: that is acknowledged by our state."""
    return reading.changed(
        values={metric: reading.values[metric]},
        units={metric: reading.units[metric]} if metric in reading.units else {},
        quality={},
        origin=None,
    )
