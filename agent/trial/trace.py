"""What each step was given and what it made of it, taken down while the real pipelines run."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from agent.processors.holding import HoldingStep
from agent.processors.reading_step import ReadingStep
from agent.spine.processing import ProcessingManager

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.spine.pipeline import Pipeline
    from agent.spine.spine import Spine
    from collectors.interfaces import IProcessor
    from collectors.models import PipelineResult, PipelineStep, Reading

Refused: TypeAlias = "tuple[Reading, str]"
"""A reading that a step dropped because it could not process it, and why."""


@dataclass(frozen=True, slots=True)
class StepRun:
    """One step at work."""

    number: int
    """Its place in the pipeline; decode is 0."""
    step_id: str
    holds: bool
    """It may give a reading later than it took it."""
    given: Any
    """A frame or message (`CollectedData`), for decode; else readings."""
    made: Sequence[Reading] | None
    """None: it failed."""
    error: str | None = None
    refused: Sequence[Refused] = ()

    def changes(self) -> Iterator[tuple[Reading | None, Reading | None]]:
        """What became of each reading: before and after. Without a before it was made, without an after left out."""
        given: Sequence[Reading] = self.given if isinstance(self.given, list) else ()
        same = {id(reading) for reading in given}
        like: dict[tuple[Any, ...], deque[Reading]] = defaultdict(deque)
        passed = {id(reading) for reading in self.made or () if id(reading) in same}
        for reading in given:
            if id(reading) not in passed:
                like[_moment(reading)].append(reading)
        for after in self.made or ():
            if id(after) in passed:
                yield after, after
            else:
                alike = like.get(_moment(after))
                yield (alike.popleft() if alike else None), after
        for alike in like.values():
            for reading in alike:
                yield reading, None


def _moment(reading: Reading) -> tuple[Any, ...]:
    return reading.source, reading.t, reading.boot, reading.up


@dataclass(frozen=True, slots=True)
class Passage:
    """One way through a pipeline, or the rest of one."""

    pipeline_id: str
    given: Any
    """What its first step was given."""
    steps: Sequence[StepRun]

    @property
    def final(self) -> Sequence[Reading]:
        """What came out at the end."""
        final: Sequence[Reading] = self.steps[-1].made or () if self.steps else self.given
        return final

    @property
    def is_held(self) -> bool:
        """Whether a step has taken something in that it may give later."""
        return any(step.holds and step.given and step.made is not None for step in self.steps)


@dataclass(slots=True)
class TraceLog:
    """What was taken down since it was last asked for."""

    passages: list[Passage] = field(default_factory=list)
    refused: dict[int, list[Refused]] = field(default_factory=dict)
    """By the identity of the step."""


class TracingManager(ProcessingManager):
    """The real manager of pipelines, which takes down what happens in them.

    Args:
        spine: Events, errors, tasks, time.
        log: Where it takes that down.
    """

    def __init__(self, spine: Spine, log: TraceLog) -> None:
        super().__init__(spine)
        self._log = log
        self.steps: dict[str, list[str]] = {}
        """The ids of the steps of each pipeline."""

    def adopt(self, pipelines: Mapping[str, Pipeline]) -> None:
        """Put these pipelines in the place of all there are, and listen to their steps."""
        super().adopt(pipelines)
        for pipeline_id, pipeline in pipelines.items():
            self.steps[pipeline_id] = [step.step_id for step in pipeline.get_steps()]
            for step in pipeline.get_steps():
                if isinstance(step.processor, ReadingStep):
                    step.processor.on_dropped = partial(self._note, step.processor)

    def _note(self, processor: IProcessor, reading: Reading, why: str) -> None:
        self._log.refused.setdefault(id(processor), []).append((reading, why))

    async def execute(self, pipeline_id: str, data: Any) -> PipelineResult:
        """Run a pipeline on one input."""
        result = await super().execute(pipeline_id, data)
        steps = (await self.get_pipeline(pipeline_id)).get_steps()
        self._take_down(pipeline_id, list(enumerate(steps)), data, result)
        return result

    async def resume(self, pipeline_id: str, step_id: str, data: Any) -> PipelineResult:
        """Run the steps of a pipeline after one."""
        result = await super().resume(pipeline_id, step_id, data)
        steps = list(enumerate((await self.get_pipeline(pipeline_id)).get_steps()))
        place = next(number for number, step in steps if step.step_id == step_id)
        self._take_down(pipeline_id, steps[place + 1 :], data, result)
        if isinstance(steps[place][1].processor, HoldingStep):
            gave = StepRun(place, step_id, holds=True, given=[], made=data)
            last = self._log.passages[-1]
            self._log.passages[-1] = Passage(pipeline_id, data, (gave, *last.steps))
        return result

    def _take_down(
        self, pipeline_id: str, steps: Sequence[tuple[int, PipelineStep]], data: Any, result: PipelineResult
    ) -> None:
        runs: list[StepRun] = []
        given = data
        for (number, step), outcome in zip(steps, result.step_results, strict=False):
            made = (outcome.processed_data or []) if outcome.success else None
            runs.append(
                StepRun(
                    number,
                    step.step_id,
                    isinstance(step.processor, HoldingStep),
                    given,
                    made,
                    outcome.error,
                    self._log.refused.pop(id(step.processor), ()),
                )
            )
            given = made
        self._log.passages.append(Passage(pipeline_id, data, runs))
