"""Calibrate: what a sensor shows becomes what is, by a polynomial or by points between which it is straight."""

import math
from bisect import bisect_right
from typing import Annotated, Self

from pydantic import Field, model_validator

from agent.processors.reading_step import ReadingStep, StepOptions, marked, number_of, with_number
from collectors.enums import QualityFlag
from collectors.models import Name, Reading

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Point = Annotated[list[_Finite], Field(min_length=2, max_length=2)]


class CalibrateOptions(StepOptions):
    """`[[pipeline.step]] processor = "calibrate"`."""

    metric: Name
    """The metric that is calibrated."""
    points: Annotated[list[_Point], Field(min_length=2, max_length=1000)] | None = None
    """Pairs of what the sensor showed and what was, in any order."""
    polynomial: Annotated[list[_Finite], Field(min_length=1, max_length=16)] | None = None
    """Coefficients, the constant first: `[c0, c1, c2]` is c0 + c1 x + c2 x^2."""
    unit: str | None = None
    """The unit of the result; None leaves the one there was."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if (self.points is None) is (self.polynomial is None):
            raise ValueError("needs either `points` or `polynomial`")
        shown = [point[0] for point in self.points or ()]
        if len(set(shown)) != len(shown):
            raise ValueError("`points` says two things about one value")
        return self


class Calibrate(ReadingStep):
    """Calibrates one metric. Texts and truth values stay as they are.

    Beyond the outermost points their nearest straight line goes on, and the value is marked as uncertain. A result
    beyond the range of numbers leaves the value as it was and marks it bad.
    """

    def __init__(self, options: CalibrateOptions) -> None:
        super().__init__(f"calibrate:{options.metric}")
        self._options = options
        points = sorted(options.points or ())
        self._shown = [point[0] for point in points]
        self._true = [point[1] for point in points]

    def apply(self, reading: Reading) -> Reading:
        """The reading with the metric calibrated."""
        options = self._options
        value = number_of(reading, options.metric)
        if value is None:
            return reading
        try:
            result = self._line(value) if options.polynomial is None else _horner(options.polynomial, value)
        except OverflowError:
            result = math.inf
        if not math.isfinite(result):
            return marked(reading, options.metric, QualityFlag.BAD, "calibration overflows")
        calibrated = with_number(reading, options.metric, result, options.unit)
        if self._shown and not self._shown[0] <= value <= self._shown[-1]:
            reason = f"{value:g} is outside the calibrated {self._shown[0]:g} to {self._shown[-1]:g}"
            return marked(calibrated, options.metric, QualityFlag.UNCERTAIN, reason)
        return calibrated

    def _line(self, value: float) -> float:
        at = min(max(bisect_right(self._shown, value), 1), len(self._shown) - 1)
        low, high = self._shown[at - 1], self._shown[at]
        share = (value - low) / (high - low)
        return self._true[at - 1] + share * (self._true[at] - self._true[at - 1])


def _horner(coefficients: list[float], x: float) -> float:
    result = 0.0
    for coefficient in reversed(coefficients):
        result = result * x + coefficient
    return result
