"""Median: each value becomes the median of the last few of its series, which takes single spikes away."""

import statistics
from collections import deque
from typing import Annotated

from pydantic import Field

from agent.processors.reading_step import ReadingStep, StepOptions, number_of, with_number
from agent.processors.series import SeriesMemory, series_of
from collectors.models import Name, Reading


class MedianOptions(StepOptions):
    """`[[pipeline.step]] processor = "median"`."""

    metric: Name
    of: Annotated[int, Field(ge=1, le=99)] = 5
    """How many values, the present one included."""


class Median(ReadingStep):
    """Replaces one metric by its median. Texts and truth values stay as they are."""

    def __init__(self, options: MedianOptions) -> None:
        super().__init__(f"median:{options.metric}")
        self._options = options
        self._latest: SeriesMemory[deque[float]] = SeriesMemory()

    def apply(self, reading: Reading) -> Reading:
        """The reading with the median."""
        value = number_of(reading, self._options.metric)
        if value is None:
            return reading
        series = series_of(reading)
        latest = self._latest.get(series) or deque(maxlen=self._options.of)
        latest.append(value)
        self._latest.put(series, latest)
        return with_number(reading, self._options.metric, statistics.median(latest))
