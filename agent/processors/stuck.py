"""Stuck: a value that has not moved for longer than it ever stays is marked."""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from agent.processors.reading_step import ReadingStep, StepOptions, marked
from agent.processors.series import SeriesMemory, elapsed_s, moment, series_of
from collectors.enums import QualityFlag
from collectors.models import Name, Reading
from collectors.units import DurationS


class StuckOptions(StepOptions):
    """`[[pipeline.step]] processor = "stuck"`."""

    metric: Name
    """The metric that is judged."""
    longer_than: DurationS
    """Seconds after which a value that has not moved is marked."""
    width: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """A number that stays this near to where it was has not moved."""
    flag: Literal["uncertain", "bad"] = "uncertain"
    """The quality that it gets then."""


class _Since(NamedTuple):
    value: bool | int | float | str
    at: tuple[int, int, float]


class Stuck(ReadingStep):
    """Marks a metric whose value has not moved: most broken sensors say the same for ever."""

    def __init__(self, options: StuckOptions) -> None:
        super().__init__(f"stuck:{options.metric}")
        self._options = options
        self._flag = QualityFlag(options.flag)
        self._since: SeriesMemory[_Since] = SeriesMemory()

    def apply(self, reading: Reading) -> Reading:
        """The reading, with the metric's quality."""
        value = reading.values.get(self._options.metric)
        if value is None:
            return reading
        series = series_of(reading)
        since = self._since.get(series)
        if since is None or self._moved(since.value, value):
            self._since.put(series, _Since(value, moment(reading)))
            return reading
        self._since.put(series, since)
        seconds = elapsed_s(since.at, moment(reading))
        if seconds <= self._options.longer_than:
            return reading
        return marked(reading, self._options.metric, self._flag, f"has not moved for {seconds:.0f} s")

    def _moved(self, before: bool | float | str, now: bool | float | str) -> bool:  # noqa: FBT001 (a value)
        if isinstance(before, bool | str) or isinstance(now, bool | str):
            return before != now or type(before) is not type(now)
        return abs(now - before) > self._options.width
