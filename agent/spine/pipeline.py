"""The pipeline: processors in sequence. Bad data makes a result that says what and where; it never raises."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from agent.spine.errors import CONFIGURATION, PROCESSING, describe
from agent.spine.spine import Spine
from collectors.enums import EventType
from collectors.interfaces import IPipeline, IProcessor
from collectors.models import (
    CollectedData,
    PipelineResult,
    PipelineStep,
    ProcessingResult,
    ProcessingStatistics,
    SystemEvent,
)
from collectors.registration import check_step


@dataclass(slots=True)
class _Step:
    """A step and what it did."""

    step_id: str
    processor: IProcessor
    order: int
    successes: int = 0
    failures: int = 0
    seconds: float = 0.0


class Pipeline(IPipeline):
    """The pipeline of the running program. Several executions may run at once.

    Args:
        pipeline_id: What events and errors call it.
        spine: Where its events and errors go.
    """

    def __init__(self, pipeline_id: str, spine: Spine) -> None:
        self.pipeline_id = pipeline_id
        self._spine = spine
        self._monotonic_s = spine.clock.monotonic_s
        self._steps: tuple[_Step, ...] = ()

    async def add_step(self, processor: IProcessor, order: int) -> str:
        """Add a step (lower orders execute first); returns its id: the processor's name, numbered if taken.

        Raises:
            ValueError: The processor is invalid, or the order is taken.
        """
        try:
            name = check_step(processor, order, {step.order for step in self._steps})
        except ValueError as error:
            await self._spine.errors.report(
                error, layer=CONFIGURATION, operation="add_step", pipeline_id=self.pipeline_id
            )
            raise
        taken = {step.step_id for step in self._steps}
        step_id, number = name, 1
        while step_id in taken:
            number += 1
            step_id = f"{name}#{number}"
        # Replaced, not changed: an execution under way keeps the steps it began with.
        self._steps = tuple(sorted((*self._steps, _Step(step_id, processor, order)), key=attrgetter("order")))
        return step_id

    async def remove_step(self, step_id: str) -> None:
        """Remove a step.

        Raises:
            KeyError: There is no such step.
        """
        remaining = tuple(step for step in self._steps if step.step_id != step_id)
        if len(remaining) == len(self._steps):
            raise KeyError(f"no step {step_id!r}")
        self._steps = remaining

    def get_steps(self) -> list[PipelineStep]:
        """All steps in execution order."""
        return [
            PipelineStep(step_id=step.step_id, processor=step.processor, order=step.order)
            for step in self._steps
        ]

    def get_statistics(self) -> list[ProcessingStatistics]:
        """What each step did, in execution order."""
        return [
            ProcessingStatistics(
                step_name=step.step_id,
                execution_count=(count := step.successes + step.failures),
                success_count=step.successes,
                failure_count=step.failures,
                average_time=step.seconds / count if count else 0.0,
            )
            for step in self._steps
        ]

    async def execute(self, input_data: Any) -> PipelineResult:
        """Run every step, each on what the one before made. Stops at the first that fails."""
        return await self._run(self._steps, input_data)

    async def resume(self, step_id: str, data: Any) -> PipelineResult:
        """Run the steps after one, on what that one gives later than it took it.

        Raises:
            KeyError: There is no such step.
        """
        for place, step in enumerate(self._steps):
            if step.step_id == step_id:
                return await self._run(self._steps[place + 1 :], data)
        raise KeyError(f"no step {step_id!r}")

    async def _run(self, steps: Sequence[_Step], input_data: Any) -> PipelineResult:
        events = self._spine.events
        if events.has_subscribers(EventType.PROCESSING_START):
            self._tell(EventType.PROCESSING_START, {})
        begun_s = self._monotonic_s()
        results: list[ProcessingResult] = []
        data = input_data
        failed: _Step | None = None
        cause: Exception | None = None
        for step in steps:
            step_begun_s = self._monotonic_s()
            try:
                result = await _process(step.processor, data)
            except Exception as error:  # noqa: BLE001 (it becomes the result, and is reported)
                cause = error
                result = ProcessingResult(success=False, error=describe(error))
            elapsed_s = self._monotonic_s() - step_begun_s
            step.seconds += elapsed_s
            if not result.processing_time:
                result.processing_time = elapsed_s
            results.append(result)
            if result.success:
                step.successes += 1
                data = result.processed_data
                continue
            step.failures += 1
            failed = step
            break
        outcome = PipelineResult(
            success=failed is None,
            final_data=data if failed is None else None,
            step_results=results,
            failed_step=None if failed is None else failed.step_id,
            total_time=self._monotonic_s() - begun_s,
        )
        if failed is not None:
            await self._report(failed, results[-1], cause, input_data)
        if events.has_subscribers(EventType.PROCESSING_COMPLETE):
            self._tell(
                EventType.PROCESSING_COMPLETE,
                {"success": outcome.success, "failed_step": outcome.failed_step},
            )
        return outcome

    async def _report(
        self, step: _Step, result: ProcessingResult, cause: Exception | None, data: Any
    ) -> None:
        of_source: dict[str, Any] = {"source_id": data.source_id} if isinstance(data, CollectedData) else {}
        await self._spine.errors.report(
            cause or RuntimeError(result.error or "failed without saying why"),
            layer=PROCESSING,
            operation=step.step_id,
            pipeline_id=self.pipeline_id,
            **of_source,
        )

    def _tell(self, event_type: EventType, data: dict[str, Any]) -> None:
        self._spine.events.publish(
            SystemEvent(
                event_type=event_type,
                timestamp=self._spine.clock.now(),
                source="processing_manager",
                data={"pipeline_id": self.pipeline_id, **data},
            )
        )


async def _process(processor: IProcessor, data: Any) -> ProcessingResult:
    if not processor.validate_input(data):
        raise ValueError(f"{processor.get_processor_name()} does not take this input: {_shown(data)}")
    result = await processor.process(data)
    if not isinstance(result, ProcessingResult):
        raise TypeError(
            f"{processor.get_processor_name()} returned {type(result).__name__}, not a ProcessingResult"
        )
    if not result.success and not result.error:
        raise RuntimeError(f"{processor.get_processor_name()} failed without saying why")
    return result


def _shown(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 (fits a line of a log)
