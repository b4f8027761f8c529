"""What a simulated source needs to know: how often it measures, and what."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from collectors.units import DurationS

Finite = Annotated[float, Field(allow_inf_nan=False)]
Decimals = Annotated[int, Field(ge=0, le=15)]
INTEGER_MAX = 2**53
"""Integers up to here are exact in every JSON reader, also in those that know floats only."""
Integer = Annotated[int, Field(ge=-INTEGER_MAX, le=INTEGER_MAX)]


class _Signal(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    name: Annotated[str, Field(min_length=1)]
    """The metric."""


class Sine(_Signal):
    """A wave with some noise on it, such as the temperature of a day."""

    kind: Literal["sine"]
    """A wave."""
    mean: Finite = 0.0
    """Its middle."""
    amplitude: Finite = 1.0
    """How far it goes from there."""
    period: DurationS = 60.0
    """From one wave to the next."""
    phase: Finite = 0.0
    """Where in the period it begins: 0 to 1."""
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Standard deviation."""
    decimals: Decimals = 3
    """Digits behind the point."""


class RandomWalk(_Signal):
    """A value that wanders between two limits."""

    kind: Literal["random_walk"]
    """A value that wanders."""
    start: Finite = 0.0
    """Where it begins."""
    step: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    """The largest change from one reading to the next."""
    minimum: Finite = -1e6
    """It never falls below this."""
    maximum: Finite = 1e6
    """It never rises above this."""
    decimals: Decimals = 3
    """Digits behind the point."""

    @model_validator(mode="after")
    def _starts_between_its_limits(self) -> Self:
        """The limits hold from the first value.

        Raises:
            ValueError: They do not.
        """
        if not self.minimum <= self.start <= self.maximum:
            raise ValueError(
                f"start {self.start:g} must lie between minimum {self.minimum:g} and maximum {self.maximum:g}"
            )
        return self


class Constant(_Signal):
    """Always the same: a number, a truth value or a text."""

    kind: Literal["constant"]
    """Always the same."""
    value: (
        StrictBool
        | Annotated[StrictInt, Field(ge=-INTEGER_MAX, le=INTEGER_MAX)]
        | Annotated[StrictFloat, Field(allow_inf_nan=False)]
        | StrictStr
    )
    """What it always is."""


class Counter(_Signal):
    """The number of the reading: shows whether one is missing or came twice."""

    kind: Literal["counter"]
    """The number of the reading."""
    start: Integer = 0
    """The first one."""
    step: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 1
    """From one to the next."""


class Square(_Signal):
    """One of two values in turn, such as a door or a pump."""

    kind: Literal["square"]
    """One of two values in turn."""
    low: Finite = 0.0
    """The one."""
    high: Finite = 1.0
    """The other."""
    period: DurationS = 60.0
    """From one rise to the next."""
    duty: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Which part of the period it is high; it begins high."""


Signal = Annotated[Sine | RandomWalk | Constant | Counter | Square, Field(discriminator="kind")]


def _temperature() -> list[Signal]:
    return [Sine(kind="sine", name="temperature", mean=21.0, amplitude=3.0, noise=0.05)]


class SimulatedConfig(BaseModel):
    """A simulated sensor."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    rate: Annotated[float, Field(gt=0, le=10_000)] = 1.0
    """Readings a second."""
    signals: Annotated[list[Signal], Field(min_length=1)] = Field(default_factory=_temperature)
    """What it measures."""
    seed: int = 0
    """The same seed gives the same values, whatever other signals there are."""

    @model_validator(mode="after")
    def _each_name_once(self) -> Self:
        """A reading has one value of a name.

        Raises:
            ValueError: Two signals share a name.
        """
        names = [signal.name for signal in self.signals]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two signals are named {', '.join(map(repr, twice))}: each needs its own name")
        return self
