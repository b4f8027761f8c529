"""Downsample: at most one reading of a series in a time."""

from agent.processors.reading_step import ReadingStep, StepOptions
from agent.processors.series import SeriesMemory, elapsed_s, moment, series_of
from collectors.enums import Lane
from collectors.models import Reading
from collectors.units import DurationS


class DownsampleOptions(StepOptions):
    """`[[pipeline.step]] processor = "downsample"`."""

    every: DurationS
    """Seconds in which one reading is kept: the first."""


class Downsample(ReadingStep):
    """Keeps the first reading of a series in each interval, which begins with it. Alarms are always kept."""

    def __init__(self, options: DownsampleOptions) -> None:
        super().__init__("downsample")
        self._every_s = options.every
        self._kept: SeriesMemory[tuple[int, int, float]] = SeriesMemory()

    def apply(self, reading: Reading) -> Reading | None:
        """The reading, or None."""
        if reading.lane is Lane.ALARM:
            return reading
        series, now = series_of(reading), moment(reading)
        kept = self._kept.get(series)
        if kept is not None and 0 <= elapsed_s(kept, now) < self._every_s:
            return None
        self._kept.put(series, now)
        return reading
