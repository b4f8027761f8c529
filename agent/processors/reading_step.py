"""What all steps after `decode` share: a list of readings in, a list of readings out."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import ConfigDict

from collectors.enums import QualityFlag
from collectors.interfaces import IProcessor
from collectors.models import Model, ProcessingResult, Quality, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.processors.route import Route

OnError: TypeAlias = Literal["dead_letter", "drop", "pass"]
"""What becomes of a reading that a step cannot process: its frame or message is set aside whole, with its original
bytes; or it is dropped, and counted; or it goes on as it was, marked as uncertain."""


class StepOptions(Model):
    """The options of a step: no unknown keys, no conversion between types, never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class ReadingStep(IProcessor):
    """A step that takes a list of readings and gives one.

    A reading that a step changes is a new one: what an earlier step gave stays what it was.

    Args:
        name: What results, statistics and errors call it.

    Attributes:
        route: Which readings it is for; the others pass as they are. None: all.
        on_error: What becomes of a reading that it cannot process.
        dropped: How many readings were dropped because they could not be processed.
        on_dropped: Told of each of these, and why.
    """

    TURN_READINGS = 500
    """So many are processed before others have their turn on the event loop: 2.5 ms."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.route: Route | None = None
        self.on_error: OnError = "dead_letter"
        self.dropped = 0
        self.on_dropped: Callable[[Reading, str], None] | None = None

    @abstractmethod
    def apply(self, reading: Reading) -> Reading | Sequence[Reading] | None:
        """What becomes of one reading: one, several, or none.

        Raises:
            ValueError: It cannot be processed.
        """

    def get_processor_name(self) -> str:
        """The name given at construction."""
        return self._name

    def validate_input(self, data: Any) -> bool:
        """Whether it is a list of readings."""
        if not isinstance(data, list):
            return False
        if len(data) == 1:  # nearly always
            return isinstance(data[0], Reading)
        return all(isinstance(reading, Reading) for reading in data)

    async def process(self, data: Any) -> ProcessingResult:
        """Apply the step to each reading.

        Raises:
            ValueError: It is not a list of readings.
        """
        if not self.validate_input(data):
            raise ValueError(f"{self._name} takes a list of readings, not {type(data).__name__}")
        begun_s = time.perf_counter()
        kept: list[Reading] = []
        try:
            for first in range(0, len(data), self.TURN_READINGS):
                if first:
                    await asyncio.sleep(0)
                self._take(data[first : first + self.TURN_READINGS], kept)
        except ValueError as error:
            return ProcessingResult(
                success=False, error=str(error), processing_time=time.perf_counter() - begun_s
            )
        return ProcessingResult(
            success=True, processed_data=kept, processing_time=time.perf_counter() - begun_s
        )

    def _take(self, readings: Sequence[Reading], kept: list[Reading]) -> None:
        route = self.route
        for reading in readings:
            if route is not None and not route.matches(reading):
                kept.append(reading)
                continue
            try:
                made = self.apply(reading)
            except ValueError as error:
                made = self._unprocessed(reading, error)
            if isinstance(made, Reading):
                kept.append(made)
            elif made is not None:
                kept += made

    def _unprocessed(self, reading: Reading, error: ValueError) -> Reading | None:
        if self.on_error == "dead_letter":
            raise error
        if self.on_error == "drop":
            self.dropped += 1
            if self.on_dropped is not None:
                self.on_dropped(reading, str(error))
            return None
        doubt = Quality(flag=QualityFlag.UNCERTAIN, reason=f"{self._name}: {error}")
        return reading.changed(quality={**dict.fromkeys(reading.values, doubt), **reading.quality})


def number_of(reading: Reading, metric: str) -> int | float | None:
    """The number that a reading has for a metric; None for none, a text or a truth value."""
    value = reading.values.get(metric)
    if value is None or isinstance(value, bool | str):
        return None
    return value


def marked(reading: Reading, metric: str, flag: QualityFlag, reason: str) -> Reading:
    """The reading with a metric's quality lowered; a worse one that it has stays."""
    known = reading.quality.get(metric)
    if known is not None and (known.flag is QualityFlag.BAD or known.flag is flag):
        return reading
    return reading.changed(quality={**reading.quality, metric: Quality(flag=flag, reason=reason)})


def without(reading: Reading, metric: str) -> Reading | None:
    """The reading without a metric; None when nothing is left."""
    if len(reading.values) == 1:
        return None
    return reading.changed(
        values={name: value for name, value in reading.values.items() if name != metric},
        units={name: unit for name, unit in reading.units.items() if name != metric},
        quality={name: quality for name, quality in reading.quality.items() if name != metric},
    )


def with_number(reading: Reading, metric: str, value: float, unit: str | None = None) -> Reading:
    """The reading with another number for a metric, and its unit when that is another, too."""
    values = {**reading.values, metric: value}
    if unit is None:
        return reading.changed(values=values)
    return reading.changed(values=values, units={**reading.units, metric: unit})
