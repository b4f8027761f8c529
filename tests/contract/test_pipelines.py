"""Properties 5 and 6: a pipeline always gives a result, and a failed one names the step and says why."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import IProcessor, PipelineResult, ProcessingResult
from tests.contract.implementations import FACTORIES, PROCESSORS, WORLDS
from tests.contract.strategies import EXAMPLES, OddError, exceptions, json_values


class Step(IProcessor):
    """A processor that does what the test says."""

    def __init__(self, name: str, behaviour: Any) -> None:
        self.name = name
        self.behaviour = behaviour

    async def process(self, data):
        if isinstance(self.behaviour, Exception):
            raise self.behaviour
        if self.behaviour == "append":
            return ProcessingResult(success=True, processed_data=[*data, self.name])
        if self.behaviour == "fail":
            return ProcessingResult(success=False, error="cannot do it")
        if self.behaviour == "fail silently":
            return ProcessingResult(success=False)
        return self.behaviour

    def get_processor_name(self):
        return self.name

    def validate_input(self, data):
        if isinstance(self.behaviour, OddError):
            raise self.behaviour
        return self.behaviour != "refuse"


behaviours = (
    st.sampled_from(["append"] * 6 + ["fail", "fail silently", "refuse", None, {"a": 1}, 5]) | exceptions
)
steps = st.lists(
    st.tuples(st.sampled_from(["decode", "scale", "tag"]), behaviours, st.integers(-1000, 1000)),
    max_size=5,
    unique_by=lambda step: step[2],
)


@pytest.mark.parametrize("world_name", WORLDS)
@EXAMPLES
@given(steps=steps)
async def test_05_06_a_result_whatever_the_steps_do(world_name, steps):
    async with WORLDS[world_name]() as world:
        pipeline = await world.processing.create_pipeline("pipeline")
        ids = {}
        for name, behaviour, order in steps:
            ids[order] = await pipeline.add_step(Step(name, behaviour), order)
            assert ids[order].startswith(name)
        assert len(set(ids.values())) == len(steps)
        ordered = sorted(steps, key=lambda step: step[2])
        assert [step.step_id for step in pipeline.get_steps()] == [ids[step[2]] for step in ordered]

        result = await pipeline.execute([])

        assert isinstance(result, PipelineResult)
        failing = next((place for place, step in enumerate(ordered) if step[1] != "append"), None)
        assert result.success == (failing is None)
        assert result.total_time >= sum(step.processing_time for step in result.step_results) * 0.5
        if failing is None:
            assert result.final_data == [step[0] for step in ordered]
            assert result.failed_step is None
            assert [step.success for step in result.step_results] == [True] * len(steps)
        else:
            assert result.final_data is None
            assert result.failed_step == ids[ordered[failing][2]]
            assert [step.success for step in result.step_results] == [True] * failing + [False]
            assert result.step_results[-1].error


@pytest.mark.parametrize("world_name", WORLDS)
@pytest.mark.parametrize("processor_name", PROCESSORS)
@EXAMPLES
@given(data=json_values | st.binary() | st.just(object()) | st.lists(st.just(object()), min_size=1))
async def test_05_no_processor_lets_bad_data_out_of_a_pipeline(world_name, processor_name, data):
    async with WORLDS[world_name]() as world:
        pipeline = await world.processing.create_pipeline("pipeline")
        step_id = await pipeline.add_step(PROCESSORS[processor_name][0](), 1)
        result = await pipeline.execute(data)
        assert isinstance(result, PipelineResult)
        if not result.success:
            assert result.failed_step == step_id
            assert result.step_results[-1].error


@pytest.mark.parametrize("processor_name", PROCESSORS)
@EXAMPLES
@given(data=json_values | st.binary() | st.just(object()))
async def test_a_processor_refuses_what_it_does_not_take(processor_name, data):
    processor = PROCESSORS[processor_name][0]()
    assert isinstance(processor.validate_input(data), bool)
    try:
        result = await processor.process(data) if processor.validate_input(data) else None
    except ValueError:
        return
    assert result is None or isinstance(result, ProcessingResult)


@pytest.mark.parametrize("processor_name", PROCESSORS)
async def test_a_processor_takes_its_input(processor_name):
    make, make_input = PROCESSORS[processor_name]
    processor, data = make(), make_input()
    assert processor.get_processor_name()
    assert processor.validate_input(data)
    result = await processor.process(data)
    assert result.success
    assert result.error is None
    assert result.processed_data
    assert result.processing_time >= 0


@pytest.mark.parametrize("world_name", WORLDS)
async def test_orders_must_not_conflict(world_name):
    async with WORLDS[world_name]() as world:
        pipeline = await world.processing.create_pipeline("pipeline")
        await pipeline.add_step(Step("a", "append"), 1)
        for order in (1, True, "2", None, 1.5):
            with pytest.raises(ValueError, match="order"):
                await pipeline.add_step(Step("b", "append"), order)
        assert len(pipeline.get_steps()) == 1


@pytest.mark.parametrize("world_name", WORLDS)
async def test_a_removed_step_is_gone(world_name):
    async with WORLDS[world_name]() as world:
        pipeline = await world.processing.create_pipeline("pipeline")
        first = await pipeline.add_step(Step("a", "fail"), 1)
        await pipeline.add_step(Step("b", "append"), 2)
        await pipeline.remove_step(first)
        assert (await pipeline.execute([])).final_data == ["b"]
        with pytest.raises(KeyError):
            await pipeline.remove_step(first)


@pytest.mark.parametrize("world_name", WORLDS)
@EXAMPLES
@given(pipeline_id=st.text(max_size=5))
async def test_pipelines_are_created_found_and_deleted(world_name, pipeline_id):
    async with WORLDS[world_name]() as world:
        if not pipeline_id.strip():
            with pytest.raises(ValueError):
                await world.processing.create_pipeline(pipeline_id)
            return
        pipeline = await world.processing.create_pipeline(pipeline_id)
        assert await world.processing.get_pipeline(pipeline_id) is pipeline
        with pytest.raises(ValueError, match="already"):
            await world.processing.create_pipeline(pipeline_id)
        await world.processing.delete_pipeline(pipeline_id)
        for call in (
            world.processing.get_pipeline,
            world.processing.delete_pipeline,
            world.processing.get_statistics,
        ):
            with pytest.raises(KeyError):
                await call(pipeline_id)


@pytest.mark.parametrize("factories_name", FACTORIES)
async def test_factories_make_working_parts(factories_name):
    async with FACTORIES[factories_name]() as (collection, processing, storage):
        assert collection.create_collection_manager() is not collection.create_collection_manager()
        assert collection.create_metadata_parser()
        assert processing.create_processing_manager() is not processing.create_processing_manager()
        assert storage.create_storage_manager() is not storage.create_storage_manager()
        pipeline = processing.create_pipeline()
        await pipeline.add_step(Step("a", "append"), 1)
        assert (await pipeline.execute([])).final_data == ["a"]
