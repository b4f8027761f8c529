"""Range: a value outside what is plausible is marked bad, and can raise an alarm."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from agent.processors.reading_step import ReadingStep, StepOptions, marked, number_of
from collectors.enums import Lane, QualityFlag
from collectors.models import Name, Reading


class RangeOptions(StepOptions):
    """`[[pipeline.step]] processor = "range"`."""

    metric: Name
    """The metric that is judged."""
    low: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """The lowest value that is good."""
    high: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """The highest value that is good."""
    alarm: bool = False
    """Put a reading that is out of range in the alarm lane, which travels with it to the receiver."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError("needs `low`, `high`, or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"`low` ({self.low:g}) must not be above `high` ({self.high:g})")
        return self


class Range(ReadingStep):
    """Marks one metric bad where it is out of range. The value itself is never changed or dropped."""

    def __init__(self, options: RangeOptions) -> None:
        super().__init__(f"range:{options.metric}")
        self._options = options

    def apply(self, reading: Reading) -> Reading:
        """The reading, with the metric's quality."""
        reason = self._fault(number_of(reading, self._options.metric))
        if reason is None:
            return reading
        spoiled = marked(reading, self._options.metric, QualityFlag.BAD, reason)
        return spoiled.changed(lane=Lane.ALARM) if self._options.alarm else spoiled

    def _fault(self, value: float | None) -> str | None:
        low, high = self._options.low, self._options.high
        if value is None:
            return None
        if low is not None and value < low:
            return f"below {low:g}"
        if high is not None and value > high:
            return f"above {high:g}"
        return None
