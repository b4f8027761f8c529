"""Scale: a metric times a factor plus an offset, with the unit that results."""

import math
from typing import Annotated

from pydantic import Field

from agent.processors.reading_step import ReadingStep, StepOptions, marked, number_of, with_number
from collectors.enums import QualityFlag
from collectors.models import Name, Reading

Finite = Annotated[float, Field(allow_inf_nan=False)]


class ScaleOptions(StepOptions):
    """`[[pipeline.step]] processor = "scale"`."""

    metric: Name
    """The metric that is scaled."""
    factor: Finite = 1.0
    """What it is multiplied by."""
    offset: Finite = 0.0
    """What is added then."""
    unit: str | None = None
    """The unit of the result; None leaves the one there was."""


class Scale(ReadingStep):
    """Scales one metric. Texts and truth values stay as they are.

    A result beyond the range of numbers leaves the value as it was and marks it bad.
    """

    def __init__(self, options: ScaleOptions) -> None:
        super().__init__(f"scale:{options.metric}")
        self._options = options

    def apply(self, reading: Reading) -> Reading:
        """The reading with the metric scaled."""
        options = self._options
        value = number_of(reading, options.metric)
        if value is None:
            return reading
        scaled = value * options.factor + options.offset
        if not math.isfinite(scaled):
            return marked(reading, options.metric, QualityFlag.BAD, "scaling overflows")
        return with_number(reading, options.metric, scaled, options.unit)
