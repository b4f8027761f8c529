"""The processing manager: knows the processors and the pipelines."""

from collections.abc import Mapping
from typing import Any

from agent.spine.errors import CONFIGURATION, PROCESSING
from agent.spine.pipeline import Pipeline
from agent.spine.spine import Spine
from collectors.interfaces import IProcessingManager, IProcessor
from collectors.models import PipelineResult, ProcessingStatistics
from collectors.registration import check_pipeline_id, check_processor


class ProcessingManager(IProcessingManager):
    """The processing manager of the running program.

    Args:
        spine: Events, errors, tasks, time.
    """

    def __init__(self, spine: Spine) -> None:
        self._spine = spine
        self._processors: dict[str, IProcessor] = {}
        self._pipelines: dict[str, Pipeline] = {}

    async def register_processor(self, processor: IProcessor) -> str:
        """Register a processor; returns its id, which is its name.

        Raises:
            ValueError: It does not fulfil IProcessor, or the name is taken.
        """
        try:
            name = check_processor(processor, self._processors)
        except ValueError as error:
            await self._refused(error, "register_processor")
            raise
        self._processors[name] = processor
        return name

    async def unregister_processor(self, processor_id: str) -> None:
        """Forget a processor; pipelines that use it keep it.

        Raises:
            KeyError: There is no such processor.
        """
        self.processor(processor_id)
        del self._processors[processor_id]

    def processor(self, processor_id: str) -> IProcessor:
        """The processor of that id.

        Raises:
            KeyError: There is no such processor.
        """
        try:
            return self._processors[processor_id]
        except KeyError:
            raise KeyError(f"no processor {processor_id!r}") from None

    async def create_pipeline(self, pipeline_id: str) -> Pipeline:
        """Create an empty pipeline.

        Raises:
            ValueError: The id is empty or taken.
        """
        try:
            check_pipeline_id(pipeline_id, self._pipelines)
        except ValueError as error:
            await self._refused(error, "create_pipeline")
            raise
        pipeline = self._pipelines[pipeline_id] = Pipeline(pipeline_id, self._spine)
        return pipeline

    def adopt(self, pipelines: Mapping[str, Pipeline]) -> None:
        """Put these pipelines in the place of all there are, at once: nothing is executed between the two."""
        self._pipelines = dict(pipelines)

    async def get_pipeline(self, pipeline_id: str) -> Pipeline:
        """The pipeline of that id.

        Raises:
            KeyError: There is no such pipeline.
        """
        return self._pipeline(pipeline_id)

    async def delete_pipeline(self, pipeline_id: str) -> None:
        """Forget a pipeline.

        Raises:
            KeyError: There is no such pipeline.
        """
        self._pipeline(pipeline_id)
        del self._pipelines[pipeline_id]

    async def get_statistics(self, pipeline_id: str) -> list[ProcessingStatistics]:
        """What each step of a pipeline did, in execution order.

        Raises:
            KeyError: There is no such pipeline.
        """
        return self._pipeline(pipeline_id).get_statistics()

    async def execute(self, pipeline_id: str, data: Any) -> PipelineResult:
        """Run a pipeline on one input.

        Raises:
            KeyError: There is no such pipeline. Bad data does not raise.
        """
        return await self._pipeline(pipeline_id).execute(data)

    async def resume(self, pipeline_id: str, step_id: str, data: Any) -> PipelineResult:
        """Run the steps of a pipeline after one, on what that one gives later than it took it.

        Raises:
            KeyError: There is no such pipeline or step. Bad data does not raise.
        """
        return await self._pipeline(pipeline_id).resume(step_id, data)

    async def start_processing(self, pipeline_id: str, data: Any) -> str:
        """Run a pipeline in the background; returns a task id. The task's result is the PipelineResult.

        Raises:
            KeyError: There is no such pipeline.
            RuntimeError: The program is ending.
        """
        pipeline = self._pipeline(pipeline_id)
        task_id, _ = self._spine.start(
            PROCESSING, pipeline.execute(data), layer=PROCESSING, subject=pipeline_id
        )
        return task_id

    def _pipeline(self, pipeline_id: str) -> Pipeline:
        try:
            return self._pipelines[pipeline_id]
        except KeyError:
            raise KeyError(f"no pipeline {pipeline_id!r}") from None

    async def _refused(self, error: ValueError, operation: str) -> None:
        await self._spine.errors.report(error, layer=CONFIGURATION, operation=operation)
