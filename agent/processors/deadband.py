"""Deadband: a value that has hardly moved since the last one kept is left out."""

from typing import Annotated, NamedTuple

from pydantic import Field

from agent.processors.reading_step import ReadingStep, StepOptions, without
from agent.processors.series import SeriesMemory, elapsed_s, moment, series_of
from collectors.enums import Lane, QualityFlag
from collectors.models import Name, Reading
from collectors.units import DurationS


class DeadbandOptions(StepOptions):
    """`[[pipeline.step]] processor = "deadband"`."""

    metric: Name
    """The metric that is thinned out."""
    width: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """A number is kept when it differs by more than this from the last one kept."""
    keep_every: DurationS = 3600.0
    """Seconds after which a value is kept even if it has not moved, so that silence means a fault."""


class _Kept(NamedTuple):
    """The last value kept of one series."""

    value: bool | int | float | str
    at: tuple[int, int, float]
    flag: QualityFlag


class Deadband(ReadingStep):
    """Leaves out values of one metric that have hardly moved; a reading that has no value left is dropped.

    A series is one metric of one source with the same tags. The comparison is with the last value *kept*,
    so a slow drift is seen. Always kept: the first value, a text or truth value that changed, a change of
    quality, a reading in the alarm lane, a value after `keep_every`.
    """

    def __init__(self, options: DeadbandOptions) -> None:
        super().__init__(f"deadband:{options.metric}")
        self._options = options
        self._series: SeriesMemory[_Kept] = SeriesMemory()

    def apply(self, reading: Reading) -> Reading | None:
        """The reading, without the metric if that has hardly moved; None if nothing else is in it."""
        metric = self._options.metric
        value = reading.values.get(metric)
        if value is None:
            return reading
        series = series_of(reading)
        quality = reading.quality.get(metric)
        now = _Kept(value, moment(reading), QualityFlag.GOOD if quality is None else quality.flag)
        if reading.lane is Lane.ALARM or self._moved(self._series.get(series), now):
            self._series.put(series, now)
            return reading
        return without(reading, metric)

    def _moved(self, last: _Kept | None, now: _Kept) -> bool:
        if last is None or last.flag is not now.flag:
            return True
        # Below 0 where only the wall clock can tell, and it was set back: better one value too many.
        if not 0 <= elapsed_s(last.at, now.at) < self._options.keep_every:
            return True
        if isinstance(now.value, bool | str) or isinstance(last.value, bool | str):
            return now.value != last.value or type(now.value) is not type(last.value)
        return abs(now.value - last.value) > self._options.width
