"""The processing layer: what is made of the data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collectors.models import PipelineResult, PipelineStep, ProcessingResult, ProcessingStatistics


class IProcessor(ABC):
    """A single processing step."""

    @abstractmethod
    async def process(self, data: Any) -> ProcessingResult:
        """Process one input.

        Raises:
            ValueError: The input is invalid.
        """

    @abstractmethod
    def get_processor_name(self) -> str:
        """The unique name of this processor."""

    @abstractmethod
    def validate_input(self, data: Any) -> bool:
        """Whether `process` would take this input."""


class IPipeline(ABC):
    """Processors executed in sequence."""

    @abstractmethod
    async def add_step(self, processor: IProcessor, order: int) -> str:
        """Add a step (lower orders execute first); returns its id.

        Raises:
            ValueError: The processor is invalid, or the order is taken.
        """

    @abstractmethod
    async def remove_step(self, step_id: str) -> None:
        """Remove a step.

        Raises:
            KeyError: There is no such step.
        """

    @abstractmethod
    async def execute(self, input_data: Any) -> PipelineResult:
        """Run every step. Bad data gives a result that says so; it never raises."""

    @abstractmethod
    def get_steps(self) -> list[PipelineStep]:
        """All steps in execution order."""


class IProcessingManager(ABC):
    """Manages processors and pipelines."""

    @abstractmethod
    async def register_processor(self, processor: IProcessor) -> str:
        """Register a processor; returns its id.

        Raises:
            ValueError: It does not fulfil IProcessor.
        """

    @abstractmethod
    async def unregister_processor(self, processor_id: str) -> None:
        """Forget a processor.

        Raises:
            KeyError: There is no such processor.
        """

    @abstractmethod
    async def create_pipeline(self, pipeline_id: str) -> IPipeline:
        """Create an empty pipeline.

        Raises:
            ValueError: The id is empty or taken.
        """

    @abstractmethod
    async def get_pipeline(self, pipeline_id: str) -> IPipeline:
        """The pipeline of that id.

        Raises:
            KeyError: There is no such pipeline.
        """

    @abstractmethod
    async def delete_pipeline(self, pipeline_id: str) -> None:
        """Forget a pipeline.

        Raises:
            KeyError: There is no such pipeline.
        """

    @abstractmethod
    async def get_statistics(self, pipeline_id: str) -> list[ProcessingStatistics]:
        """What each step of a pipeline did, in execution order.

        Raises:
            KeyError: There is no such pipeline.
        """
