"""Mocks of the processing layer."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from collectors.enums import ErrorType, EventType, TaskStatus
from collectors.interfaces import IPipeline, IProcessingLayerFactory, IProcessingManager, IProcessor
from collectors.mocks.crosscutting import Surroundings
from collectors.mocks.faults import Faults
from collectors.models import PipelineResult, PipelineStep, ProcessingResult, ProcessingStatistics
from collectors.registration import check_pipeline_id, check_processor, check_step


class MockProcessor(Faults, IProcessor):
    """Gives back what it is given, or what a function makes of it.

    Args:
        name: Its name.
        transform: Makes the output from the input; what it raises, `process` raises.
    """

    def __init__(self, name: str, transform: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        self.name = name
        self.transform = transform
        self.inputs: list[Any] = []
        """What it was given, in order."""

    async def process(self, data: Any) -> ProcessingResult:
        """Process one input.

        Raises:
            ValueError: The input is None, or the transform says so.
        """
        self._enter("process")
        if not self.validate_input(data):
            raise ValueError(f"{self.name} takes anything but None")
        begun_s = time.perf_counter()
        self.inputs.append(data)
        processed = data if self.transform is None else self.transform(data)
        return ProcessingResult(
            success=True, processed_data=processed, processing_time=time.perf_counter() - begun_s
        )

    def get_processor_name(self) -> str:
        """The name given at construction."""
        return self.name

    def validate_input(self, data: Any) -> bool:
        """Whether it is not None."""
        return data is not None


class MockPipeline(Faults, IPipeline):
    """A pipeline that keeps every result.

    Args:
        pipeline_id: What events and errors call it.
        surroundings: What it reports to.
    """

    def __init__(self, pipeline_id: str = "pipeline", surroundings: Surroundings | None = None) -> None:
        super().__init__()
        self.pipeline_id = pipeline_id
        self.surroundings = surroundings or Surroundings()
        self.results: list[PipelineResult] = []
        """What `execute` returned, in order."""
        self._steps: list[PipelineStep] = []
        self._statistics: dict[str, ProcessingStatistics] = {}

    async def add_step(self, processor: IProcessor, order: int) -> str:
        """Add a step (lower orders execute first); returns its id: the processor's name, numbered if taken.

        Raises:
            ValueError: The processor is invalid, or the order is taken.
        """
        self._enter("add_step")
        try:
            name = check_step(processor, order, {step.order for step in self._steps})
        except ValueError as error:
            await self.surroundings.report(
                error, layer="configuration", operation="add_step", error_type=ErrorType.CONFIGURATION
            )
            raise
        step_id, number = name, 1
        while step_id in self._statistics:
            number += 1
            step_id = f"{name}#{number}"
        self._steps.append(PipelineStep(step_id=step_id, processor=processor, order=order))
        self._steps.sort(key=lambda step: step.order)
        self._statistics[step_id] = ProcessingStatistics(step_name=step_id)
        return step_id

    async def remove_step(self, step_id: str) -> None:
        """Remove a step.

        Raises:
            KeyError: There is no such step.
        """
        self._enter("remove_step")
        if self._statistics.pop(step_id, None) is None:
            raise KeyError(f"no step {step_id!r}")
        self._steps = [step for step in self._steps if step.step_id != step_id]

    def get_steps(self) -> list[PipelineStep]:
        """All steps in execution order."""
        return list(self._steps)

    def get_statistics(self) -> list[ProcessingStatistics]:
        """What each step did, in execution order."""
        return [self._statistics[step.step_id].model_copy() for step in self._steps]

    async def execute(self, input_data: Any) -> PipelineResult:
        """Run every step, each on what the one before made. Stops at the first that fails."""
        self.calls["execute"] += 1
        await self._tell(EventType.PROCESSING_START)
        begun_s = time.perf_counter()
        result = PipelineResult(success=True, final_data=input_data)
        for step in list(self._steps):
            outcome, cause = await _attempt(step.processor, result.final_data)
            result.step_results.append(outcome)
            self._count(step.step_id, outcome)
            if outcome.success:
                result.final_data = outcome.processed_data
                continue
            result.success = False
            result.final_data = None
            result.failed_step = step.step_id
            await self.surroundings.report(
                cause or RuntimeError(outcome.error or "failed without saying why"),
                layer="processing",
                operation=step.step_id,
                error_type=ErrorType.PROCESSING,
                pipeline_id=self.pipeline_id,
            )
            break
        result.total_time = time.perf_counter() - begun_s
        self.results.append(result)
        await self._tell(EventType.PROCESSING_COMPLETE, success=result.success)
        return result

    def _count(self, step_id: str, outcome: ProcessingResult) -> None:
        statistics = self._statistics[step_id]
        total_s = statistics.average_time * statistics.execution_count + outcome.processing_time
        statistics.execution_count += 1
        statistics.success_count += outcome.success
        statistics.failure_count += not outcome.success
        statistics.average_time = total_s / statistics.execution_count

    async def _tell(self, event_type: EventType, **data: Any) -> None:
        await self.surroundings.tell(event_type, "processing_manager", pipeline_id=self.pipeline_id, **data)


async def _attempt(processor: IProcessor, data: Any) -> tuple[ProcessingResult, Exception | None]:
    begun_s = time.perf_counter()
    try:
        if not processor.validate_input(data):
            raise ValueError(f"{processor.get_processor_name()} does not take this input")  # noqa: TRY301 (it joins what process raises)
        outcome = await processor.process(data)
        if not isinstance(outcome, ProcessingResult):
            raise TypeError(f"returned {type(outcome).__name__}, not a ProcessingResult")  # noqa: TRY301 (likewise)
    except Exception as error:  # noqa: BLE001 (it becomes the result, and is reported)
        elapsed_s = time.perf_counter() - begun_s
        message = str(error) or type(error).__name__
        return ProcessingResult(success=False, error=message, processing_time=elapsed_s), error
    if not outcome.success and not outcome.error:
        outcome = outcome.model_copy(update={"error": "failed without saying why"})
    return outcome, None


class MockProcessingManager(Faults, IProcessingManager):
    """Knows mock pipelines.

    Args:
        surroundings: What it reports to.
    """

    def __init__(self, surroundings: Surroundings | None = None) -> None:
        super().__init__()
        self.surroundings = surroundings or Surroundings()
        self.processors: dict[str, IProcessor] = {}
        self.pipelines: dict[str, MockPipeline] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def register_processor(self, processor: IProcessor) -> str:
        """Register a processor; returns its id, which is its name.

        Raises:
            ValueError: It does not fulfil IProcessor, or the name is taken.
        """
        self._enter("register_processor")
        try:
            name = check_processor(processor, self.processors)
        except ValueError as error:
            await self._refused(error, "register_processor")
            raise
        self.processors[name] = processor
        return name

    async def unregister_processor(self, processor_id: str) -> None:
        """Forget a processor.

        Raises:
            KeyError: There is no such processor.
        """
        self._enter("unregister_processor")
        if self.processors.pop(processor_id, None) is None:
            raise KeyError(f"no processor {processor_id!r}")

    async def create_pipeline(self, pipeline_id: str) -> MockPipeline:
        """Create an empty pipeline.

        Raises:
            ValueError: The id is empty or taken.
        """
        self._enter("create_pipeline")
        try:
            check_pipeline_id(pipeline_id, self.pipelines)
        except ValueError as error:
            await self._refused(error, "create_pipeline")
            raise
        pipeline = self.pipelines[pipeline_id] = MockPipeline(pipeline_id, self.surroundings)
        return pipeline

    async def get_pipeline(self, pipeline_id: str) -> MockPipeline:
        """The pipeline of that id.

        Raises:
            KeyError: There is no such pipeline.
        """
        self._enter("get_pipeline")
        return self._pipeline(pipeline_id)

    async def delete_pipeline(self, pipeline_id: str) -> None:
        """Forget a pipeline.

        Raises:
            KeyError: There is no such pipeline.
        """
        self._enter("delete_pipeline")
        self._pipeline(pipeline_id)
        del self.pipelines[pipeline_id]

    async def get_statistics(self, pipeline_id: str) -> list[ProcessingStatistics]:
        """What each step of a pipeline did, in execution order.

        Raises:
            KeyError: There is no such pipeline.
        """
        self._enter("get_statistics")
        return self._pipeline(pipeline_id).get_statistics()

    async def execute(self, pipeline_id: str, data: Any) -> PipelineResult:
        """Run a pipeline on one input.

        Raises:
            KeyError: There is no such pipeline. Bad data does not raise.
        """
        self._enter("execute")
        return await self._pipeline(pipeline_id).execute(data)

    async def start_processing(self, pipeline_id: str, data: Any) -> str:
        """Run a pipeline in the background; returns a task id. The task's result is the PipelineResult.

        Raises:
            KeyError: There is no such pipeline.
        """
        self._enter("start_processing")
        pipeline = self._pipeline(pipeline_id)
        task_id = await self.surroundings.tasks.create_task("processing")
        await self.surroundings.tasks.update_status(task_id, TaskStatus.RUNNING)
        running = asyncio.create_task(
            self._run(task_id, pipeline, data), name=f"mock-processing:{pipeline_id}"
        )
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return task_id

    async def _run(self, task_id: str, pipeline: MockPipeline, data: Any) -> None:
        self.surroundings.tasks.finish(task_id, result=await pipeline.execute(data))

    def _pipeline(self, pipeline_id: str) -> MockPipeline:
        try:
            return self.pipelines[pipeline_id]
        except KeyError:
            raise KeyError(f"no pipeline {pipeline_id!r}") from None

    async def _refused(self, error: ValueError, operation: str) -> None:
        await self.surroundings.report(
            error, layer="configuration", operation=operation, error_type=ErrorType.CONFIGURATION
        )


class MockProcessingLayerFactory(IProcessingLayerFactory):
    """Makes mocks of the processing layer.

    Args:
        surroundings: What they report to.
    """

    def __init__(self, surroundings: Surroundings | None = None) -> None:
        self.surroundings = surroundings or Surroundings()

    def create_processing_manager(self) -> MockProcessingManager:
        """A mock processing manager."""
        return MockProcessingManager(self.surroundings)

    def create_pipeline(self) -> MockPipeline:
        """An empty mock pipeline that no manager knows."""
        return MockPipeline(surroundings=self.surroundings)
