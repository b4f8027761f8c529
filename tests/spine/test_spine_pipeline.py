import asyncio

import pytest

from agent.spine import MetadataParser, ProcessingManager, open_spine
from collectors import EventType, ProcessingResult
from collectors.mocks import MockErrorHandler, MockProcessor
from tests.contract.implementations import collected


async def test_executions_may_overlap():
    gates = [asyncio.Event(), asyncio.Event()]

    class Waiting(MockProcessor):
        async def process(self, data):
            await gates[data].wait()
            return await super().process(data)

    async with open_spine() as spine:
        manager = ProcessingManager(spine)
        pipeline = await manager.create_pipeline("p")
        await pipeline.add_step(Waiting("wait"), 1)
        first = await manager.start_processing("p", 0)
        second = await manager.start_processing("p", 1)
        await asyncio.sleep(0)
        gates[1].set()
        async with asyncio.timeout(5):
            while (info := await spine.tasks.get_task_info(second)).completed_at is None:
                await asyncio.sleep(0)
        assert info.result.final_data == 1
        assert (await spine.tasks.get_task_info(first)).completed_at is None
        gates[0].set()


async def test_execution_keeps_the_steps_it_began_with():
    async with open_spine() as spine:
        pipeline = await ProcessingManager(spine).create_pipeline("p")

        class Removing(MockProcessor):
            async def process(self, data):
                await pipeline.remove_step("second")
                return await super().process(data)

        await pipeline.add_step(Removing("first"), 1)
        await pipeline.add_step(MockProcessor("second", lambda data: data + 1), 2)
        assert (await pipeline.execute(1)).final_data == 2
        assert [step.step_id for step in pipeline.get_steps()] == ["first"]


async def test_cancellation_goes_through():
    class Endless(MockProcessor):
        async def process(self, data):
            await asyncio.Event().wait()

    async with open_spine() as spine:
        pipeline = await ProcessingManager(spine).create_pipeline("p")
        await pipeline.add_step(Endless("endless"), 1)
        running = asyncio.create_task(pipeline.execute(1))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_time_of_a_step_that_does_not_say_is_measured():
    class Untimed(MockProcessor):
        async def process(self, data):
            await asyncio.sleep(0.001)
            return ProcessingResult(success=True, processed_data=data)

    async with open_spine() as spine:
        pipeline = await ProcessingManager(spine).create_pipeline("p")
        await pipeline.add_step(Untimed("untimed"), 1)
        result = await pipeline.execute(1)
        assert result.total_time >= result.step_results[0].processing_time >= 0.001


async def test_failures_are_reported_with_their_pipeline_and_told():
    async with open_spine() as spine:
        handler, seen = MockErrorHandler(), []
        spine.errors.add_handler(handler)
        await spine.events.subscribe(EventType.PROCESSING_COMPLETE, seen.append)
        pipeline = await ProcessingManager(spine).create_pipeline("p")
        await pipeline.add_step(MockProcessor("a"), 1)
        result = await pipeline.execute(None)
        assert result.step_results[0].error == "a does not take this input: None"
        assert handler.errors[0].details["pipeline_id"] == "p"
        assert await spine.events.drain(1)
        assert seen[0].data == {"pipeline_id": "p", "success": False, "failed_step": "a"}


async def test_long_input_is_shown_short():
    class Picky(MockProcessor):
        def validate_input(self, data):
            return False

    async with open_spine() as spine:
        pipeline = await ProcessingManager(spine).create_pipeline("p")
        await pipeline.add_step(Picky("a"), 1)
        result = await pipeline.execute("x" * 10_000)
        assert len(result.step_results[0].error) < 150


async def test_processors_are_found_by_id():
    async with open_spine() as spine:
        manager = ProcessingManager(spine)
        processor = MockProcessor("a")
        await manager.register_processor(processor)
        assert manager.processor("a") is processor
        with pytest.raises(KeyError, match="no processor 'b'"):
            manager.processor("b")


async def test_metadata_is_sorted_into_its_places():
    data = collected()
    data.metadata = {
        "quality": {"rssi_dbm": -70, "snr_db": 9.5},
        "tags": {"topic": "a/b"},
        "up_ns": 5,
        "vendor": "x",
    }
    parsed = await MetadataParser().parse(data)
    assert parsed.schema == {"data_format": "json", "collection_method": "test", "size_bytes": 21}
    assert parsed.quality_indicators == {"rssi_dbm": -70.0, "snr_db": 9.5}
    assert parsed.source_attributes == {
        "source_id": "sensor",
        "tags": {"topic": "a/b"},
        "up_ns": 5,
        "vendor": "x",
    }
    assert parsed.is_valid


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"frame_error": "no terminator"}, "frame_error: no terminator"),
        ({"quality": [1]}, "quality: must be numbers by name, not list"),
        ({"quality": {"a": float("nan")}}, "quality.a: must be a finite number, not nan"),
        ({"quality": {"a": "high"}}, "quality.a: must be a finite number, not 'high'"),
        ({"tags": {"a": 1}}, "tags: must be texts by name, not {'a': 1}"),
    ],
)
async def test_what_is_wrong_with_metadata_is_said(metadata, reason):
    data = collected()
    data.metadata = metadata
    parsed = await MetadataParser().parse(data)
    assert parsed.validation_errors == [reason]
    assert not parsed.is_valid


async def test_unknown_format_is_not_valid():
    parsed = await MetadataParser(frozenset({"json"})).parse(collected(data_format="xml"))
    assert parsed.validation_errors == ["data_format: 'xml' is not known"]
