"""Alarm: a metric beyond a threshold for long enough puts readings on the fast lane, until it is back."""

from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from agent.processors.reading_step import ReadingStep, StepOptions, number_of
from agent.processors.series import SeriesMemory, elapsed_s, moment, series_of
from collectors.enums import Lane
from collectors.models import Name, Reading
from collectors.units import DurationS

_Finite = Annotated[float, Field(allow_inf_nan=False)]
TAG = "alarm"


class AlarmOptions(StepOptions):
    """`[[pipeline.step]] processor = "alarm"`."""

    metric: Name
    """The metric that is watched."""
    above: _Finite | None = None
    """The alarm is raised by numbers above this."""
    below: _Finite | None = None
    """The alarm is raised by numbers below this."""
    hysteresis: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """It is over when the number is back by this much."""
    delay: DurationS | None = None
    """Seconds that the number must stay beyond the threshold first; unset: at once."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("needs `above`, `below`, or both")
        if self.above is not None and self.below is not None and self.below >= self.above:
            raise ValueError(f"`below` ({self.below:g}) must be less than `above` ({self.above:g})")
        return self


class _State(NamedTuple):
    raised: bool
    since: tuple[int, int, float] | None
    """Since when the number has been beyond the threshold, while the alarm is not raised yet."""


class Alarm(ReadingStep):
    """Raises and ends an alarm on one metric.

    The reading that raises it and the one that ends it go to the alarm lane, tagged `alarm = "raised"` or
    `"cleared"`; those between are tagged `"active"` and stay on the normal lane. After a restart an alarm that is
    still on is raised again.
    """

    def __init__(self, options: AlarmOptions) -> None:
        super().__init__(f"alarm:{options.metric}")
        self._options = options
        self._states: SeriesMemory[_State] = SeriesMemory()

    def apply(self, reading: Reading) -> Reading:
        """The reading, in its lane."""
        value = number_of(reading, self._options.metric)
        if value is None:
            return reading
        series, now = series_of(reading), moment(reading)
        state = self._states.get(series) or _State(raised=False, since=None)
        beyond = self._beyond(value, state)
        if state.raised:
            if beyond:
                return reading.changed(tags={**reading.tags, TAG: "active"})
            self._states.put(series, _State(raised=False, since=None))
            return reading.changed(tags={**reading.tags, TAG: "cleared"}, lane=Lane.ALARM)
        if not beyond:
            self._states.pop(series)
            return reading
        since = state.since or now
        if self._options.delay is not None and elapsed_s(since, now) < self._options.delay:
            self._states.put(series, _State(raised=False, since=since))
            return reading
        self._states.put(series, _State(raised=True, since=None))
        return reading.changed(tags={**reading.tags, TAG: "raised"}, lane=Lane.ALARM)

    def _beyond(self, value: float, state: _State) -> bool:
        options = self._options
        back = options.hysteresis if state.raised else 0.0
        return (options.above is not None and value > options.above - back) or (
            options.below is not None and value < options.below + back
        )
