"""What all steps after `decode` share: a list of readings in, a list of readings out."""

import asyncio
import time
from abc import abstractmethod
from typing import Any

from pydantic import ConfigDict

from collectors.interfaces import IProcessor
from collectors.models import Model, ProcessingResult, Reading

_TURN_READINGS = 500
"""So many are processed before others have their turn on the event loop: 2.5 ms."""


class StepOptions(Model):
    """The options of a step: no unknown keys, no conversion between types, never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ReadingStep(IProcessor):
    """A step that takes a list of readings and gives one.

    A reading that a step changes is a new one: what an earlier step gave stays what it was.

    Args:
        name: What results, statistics and errors call it.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @abstractmethod
    def apply(self, reading: Reading) -> Reading | None:
        """What becomes of one reading; None drops it.

        Raises:
            ValueError: It cannot be processed.
        """

    def get_processor_name(self) -> str:
        """The name given at construction."""
        return self._name

    def validate_input(self, data: Any) -> bool:
        """Whether it is a list of readings."""
        return isinstance(data, list) and all(isinstance(reading, Reading) for reading in data)

    async def process(self, data: Any) -> ProcessingResult:
        """Apply the step to each reading.

        Raises:
            ValueError: It is not a list of readings.
        """
        if not self.validate_input(data):
            raise ValueError(f"{self._name} takes a list of readings, not {type(data).__name__}")
        begun_s = time.perf_counter()
        try:
            kept: list[Reading] = []
            for first in range(0, len(data), _TURN_READINGS):
                if first:
                    await asyncio.sleep(0)
                turn = data[first : first + _TURN_READINGS]
                kept += [changed for reading in turn if (changed := self.apply(reading)) is not None]
        except ValueError as error:
            return ProcessingResult(
                success=False, error=str(error), processing_time=time.perf_counter() - begun_s
            )
        return ProcessingResult(
            success=True, processed_data=kept, processing_time=time.perf_counter() - begun_s
        )
