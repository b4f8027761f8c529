"""Derive: a new metric from others, by an expression."""

from typing import Annotated

from pydantic import AfterValidator

from agent.processors.expression import Expression, MissingMetric
from agent.processors.reading_step import ReadingStep, StepOptions, with_number
from collectors.models import Name, Reading


def _checked(text: str) -> str:
    Expression(text)
    return text


class DeriveOptions(StepOptions):
    """`[[pipeline.step]] processor = "derive"`."""

    metric: Name
    """The metric that gets the result; one that is there already is replaced."""
    expression: Annotated[str, AfterValidator(_checked)]
    """Such as `temperature - (100 - humidity) / 5`."""
    unit: str | None = None
    """The unit of the result."""


class Derive(ReadingStep):
    """Adds a metric. A reading that lacks a metric of the expression passes as it is.

    The worst quality of the metrics that went in goes to the result.
    """

    def __init__(self, options: DeriveOptions) -> None:
        super().__init__(f"derive:{options.metric}")
        self._options = options
        self._expression = Expression(options.expression)

    def apply(self, reading: Reading) -> Reading:
        """The reading with the metric.

        Raises:
            ValueError: The expression has no result for it.
        """
        metric = self._options.metric
        try:
            result = self._expression.evaluate(reading.values)
        except MissingMetric:
            return reading
        derived = with_number(reading, metric, result, self._options.unit)
        doubts = [reading.quality[name] for name in self._expression.metrics if name in reading.quality]
        if not doubts:
            return derived
        worst = max(doubts, key=lambda quality: quality.flag == "bad")
        return derived.changed(quality={**derived.quality, metric: worst})
