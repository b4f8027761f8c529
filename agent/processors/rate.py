"""Rate: a value that changes faster than it can is marked."""

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from agent.processors.reading_step import ReadingStep, StepOptions, marked, number_of
from agent.processors.series import SeriesMemory, elapsed_s, moment, series_of
from collectors.enums import QualityFlag
from collectors.models import Name, Reading

_PerSecond = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RateOptions(StepOptions):
    """`[[pipeline.step]] processor = "rate"`."""

    metric: Name
    """The metric that is judged."""
    max_rise: _PerSecond | None = None
    """How much it can rise in a second."""
    max_fall: _PerSecond | None = None
    """How much it can fall in a second."""
    flag: Literal["uncertain", "bad"] = "uncertain"
    """The quality that it gets then."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.max_rise is None and self.max_fall is None:
            raise ValueError("needs `max_rise`, `max_fall`, or both")
        return self


class _Last(NamedTuple):
    value: float
    at: tuple[int, int, float]


class Rate(ReadingStep):
    """Marks a number that has moved faster than it can since the last one of its series.

    The comparison is with the last number that was not marked, so that one spike does not spoil the good value after
    it; three marked ones in a row are the new truth.
    """

    _ROW_MAX = 3

    def __init__(self, options: RateOptions) -> None:
        super().__init__(f"rate:{options.metric}")
        self._options = options
        self._flag = QualityFlag(options.flag)
        self._good: SeriesMemory[_Last] = SeriesMemory()
        self._marked: SeriesMemory[int] = SeriesMemory()

    def apply(self, reading: Reading) -> Reading:
        """The reading, with the metric's quality."""
        value = number_of(reading, self._options.metric)
        if value is None:
            return reading
        series, now = series_of(reading), _Last(value, moment(reading))
        fault = self._fault(self._good.get(series), now)
        in_a_row = 0 if fault is None else (self._marked.get(series) or 0) + 1
        if fault is None or in_a_row >= self._ROW_MAX:
            self._good.put(series, now)
            self._marked.pop(series)
        else:
            self._marked.put(series, in_a_row)
        return reading if fault is None else marked(reading, self._options.metric, self._flag, fault)

    def _fault(self, last: _Last | None, now: _Last) -> str | None:
        if last is None:
            return None
        seconds = elapsed_s(last.at, now.at)
        if seconds <= 0:
            return None
        rate = (now.value - last.value) / seconds
        rise, fall = self._options.max_rise, self._options.max_fall
        if rise is not None and rate > rise:
            return f"rose by {rate:g} a second, more than {rise:g}"
        if fall is not None and -rate > fall:
            return f"fell by {-rate:g} a second, more than {fall:g}"
        return None
