"""The pipelines of a configuration: which steps the readings of a source go through.

Each source has one pipeline of the contract: `decode`, then the steps of each [[pipeline]] that it may be for, in the
order of the file. Sources that go through the same ones share it; a step that is in several of them is one object.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from pydantic_core import to_json

from agent.composition.unusable import UnusableStep, UnusableStepError
from agent.held import Holder
from agent.processors.holding import HoldingStep
from agent.processors.registry import create_processor
from agent.processors.route import Route
from agent.spine.errors import PROCESSING
from agent.spine.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from agent.config import AgentConfig, PipelineConfig, StepConfig
    from agent.processors.decode import Decode
    from agent.processors.reading_step import ReadingStep
    from agent.spine.spine import Spine
    from collectors.models import Reading

    TakeLate: TypeAlias = Callable[[str, str | None, list[Reading]], Awaitable[None]]
    """Pipeline, step (None: it is in that pipeline no more), readings."""

PLAIN = "(plain)"
"""The pipeline of sources that no [[pipeline]] is for: it only decodes. No [[pipeline]] can have this name."""


def pipeline_id_of(config: AgentConfig, source_id: str) -> str:
    """The id of a source's pipeline."""
    return "+".join(pipeline.name for pipeline in config.pipelines_of(source_id)) or PLAIN


class Pipelines:
    """Makes the pipelines of all sources.

    Args:
        config: The whole configuration.
        spine: Where their events and errors go.
        decode: Their first step.
        before: Those that are in use: a [[pipeline]] that did not change keeps its steps, and what they remember. None at
            the start: then a step that cannot be made keeps nothing else from it; later that holds only for one that
            could not be used before.

    Attributes:
        made: The pipelines by their ids.
        after_holding: The pipelines with steps that hold readings back, and in each the steps that come after the
            first of those.

    Raises:
        UnusableStepError: A step cannot be made.
    """

    def __init__(
        self, config: AgentConfig, spine: Spine, decode: Decode, before: Pipelines | None = None
    ) -> None:
        self._config = config
        self._spine = spine
        self._decode = decode
        kept = {} if before is None else before.unchanged(config)
        self._unusable: list[UnusableStepError] = []
        pardoned = None if before is None else before.with_unusable_steps()
        self._steps = {
            pipeline.name: kept.get(pipeline.name)
            or self._make_steps(pipeline, whatever_works=pardoned is None or pipeline in pardoned)
            for pipeline in config.pipeline
        }
        self.made: dict[str, Pipeline] = {}
        self._holding: dict[str, tuple[HoldingStep, dict[str, str]]] = {}
        """Steps that hold readings back, by key: and by which id each pipeline has them."""
        self.after_holding: dict[str, frozenset[str]] = {}

    async def make(self) -> None:
        """Make them, and tell which steps cannot be used."""
        for error in self._unusable:
            await self._spine.errors.report(error, layer=PROCESSING, operation="make_step", critical=True)
        for pipeline_id, source in {
            pipeline_id_of(self._config, source.id): source for source in self._config.source
        }.items():
            await self._make(pipeline_id, self._config.pipelines_of(source.id))

    def unchanged(self, config: AgentConfig) -> dict[str, list[ReadingStep]]:
        """The steps of each [[pipeline]] that is the same in another configuration, and can be used, by its name."""
        others = {pipeline.name: pipeline for pipeline in config.pipeline}
        unusable = self.with_unusable_steps()
        return {
            pipeline.name: self._steps[pipeline.name]
            for pipeline in self._config.pipeline
            if others.get(pipeline.name) == pipeline and pipeline not in unusable
        }

    def with_unusable_steps(self) -> list[PipelineConfig]:
        """Each [[pipeline]] that has a step which could not be made."""
        return [
            pipeline
            for pipeline in self._config.pipeline
            if any(isinstance(step, UnusableStep) for step in self._steps[pipeline.name])
        ]

    def _make_steps(self, pipeline: PipelineConfig, *, whatever_works: bool) -> list[ReadingStep]:
        steps = []
        for number, config in enumerate(pipeline.step, start=1):
            where = f"step {number} of {pipeline.name} ({config.processor})"
            try:
                step = create_processor(config.processor, config.options)
            except Exception as error:
                unusable = UnusableStepError(where, error)
                if not whatever_works:
                    raise unusable from error
                self._unusable.append(unusable)
                step = UnusableStep(config.processor, unusable)
            steps.append(_routed(pipeline, config, step))
        return steps

    async def _make(self, pipeline_id: str, parts: Sequence[PipelineConfig]) -> None:
        pipeline = self.made[pipeline_id] = Pipeline(pipeline_id, self._spine)
        await pipeline.add_step(self._decode, 0)
        placed = [(part, place, step) for part in parts for place, step in enumerate(self._steps[part.name])]
        after: set[str] | None = None
        for order, (part, place, step) in enumerate(placed, start=1):
            step_id = await pipeline.add_step(step, order)
            if after is not None:
                after.add(step_id)
            if isinstance(step, HoldingStep):
                after = set() if after is None else after
                self._holding.setdefault(_key(part, place), (step, {}))[1][pipeline_id] = step_id
        if after is not None:
            self.after_holding[pipeline_id] = frozenset(after)

    def holders(self, take_late: TakeLate) -> list[Holder]:
        """The steps that hold readings back.

        Args:
            take_late: Brings what a step gives later through the rest of its pipeline.
        """
        return [
            Holder(key, step, partial(self._resume, take_late, step_ids))
            for key, (step, step_ids) in self._holding.items()
        ]

    async def _resume(
        self, take_late: TakeLate, step_ids: Mapping[str, str], readings: Sequence[Reading]
    ) -> None:
        by_pipeline: dict[str, list[Reading]] = {}
        for reading in readings:
            by_pipeline.setdefault(pipeline_id_of(self._config, reading.source), []).append(reading)
        for pipeline_id, own in by_pipeline.items():
            await take_late(pipeline_id, step_ids.get(pipeline_id), own)


def _routed(pipeline: PipelineConfig, config: StepConfig, step: ReadingStep) -> ReadingStep:
    step.on_error = config.on_error
    if pipeline.tags is not None or pipeline.metrics is not None:
        metrics = None if pipeline.metrics is None else frozenset(pipeline.metrics)
        step.route = Route(None, pipeline.tags, metrics)
    return step


def _key(pipeline: PipelineConfig, place: int) -> str:
    """Names what a step holds. Another step, or other options, give another name: they could not go on with it."""
    step = pipeline.step[place]
    options = hashlib.sha256(to_json(step.options)).hexdigest()[:12]
    return f"{pipeline.name}/{place}:{step.processor}:{options}"
