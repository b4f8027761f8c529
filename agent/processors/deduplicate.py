"""Deduplicate: a reading that says again what the last one of its series said is dropped."""

from typing import Annotated, NamedTuple

from pydantic import Field

from agent.processors.reading_step import ReadingStep, StepOptions
from agent.processors.series import SeriesMemory, elapsed_s, moment, series_of
from collectors.enums import Lane
from collectors.models import Name, Reading
from collectors.units import DurationS


class DeduplicateOptions(StepOptions):
    """`[[pipeline.step]] processor = "deduplicate"`."""

    within: DurationS
    """Seconds in which the same again is a repetition; later it is news."""
    by: Annotated[list[Name], Field(min_length=1)] | None = None
    """The metrics that are compared, such as a counter; unset: all."""


class _Said(NamedTuple):
    values: dict[str, bool | int | float | str]
    at: tuple[int, int, float]


class Deduplicate(ReadingStep):
    """Drops repetitions: gateways that forward a message twice, sensors that send each value three times.

    A reading that lacks one of the metrics of `by` is no repetition, nor is an alarm.
    """

    def __init__(self, options: DeduplicateOptions) -> None:
        super().__init__("deduplicate")
        self._options = options
        self._said: SeriesMemory[_Said] = SeriesMemory()

    def apply(self, reading: Reading) -> Reading | None:
        """The reading; None for a repetition."""
        by = self._options.by
        values = (
            reading.values
            if by is None
            else {name: reading.values[name] for name in by if name in reading.values}
        )
        if (by is not None and len(values) < len(by)) or reading.lane is Lane.ALARM:
            return reading
        series, now = series_of(reading), moment(reading)
        said = self._said.get(series)
        if (
            said is not None
            and said.values == values
            and 0 <= elapsed_s(said.at, now) <= self._options.within
        ):
            return None
        self._said.put(series, _Said(values, now))
        return reading
