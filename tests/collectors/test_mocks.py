"""What the mocks offer beyond the contract: they count, fail when asked to, and show what they were given."""

import asyncio
from datetime import UTC, datetime

import pytest

import collectors
from collectors import CollectionStatus, EventType, QueryCriteria, SystemEvent, examples, mocks
from collectors.mocks import (
    MockCollectionManager,
    MockDataSource,
    MockErrorHandler,
    MockEventEmitter,
    MockPipeline,
    MockProcessor,
    MockStorageBackend,
    MockStorageManager,
    MockTaskTracker,
    Surroundings,
)
from tests.contract.strategies import OddError


async def test_failures_are_injected_and_calls_counted():
    source = MockDataSource("soil")
    source.fail("connect", ConnectionError("unplugged"), times=2)
    for _ in range(2):
        with pytest.raises(ConnectionError, match="unplugged"):
            await source.connect()
    await source.connect()
    assert source.calls["connect"] == 3
    with pytest.raises(ValueError, match="no method 'fly'"):
        source.fail("fly", ValueError())


async def test_different_failures_come_in_turn():
    backend = MockStorageBackend("memory")
    await backend.connect()
    backend.fail("store", RuntimeError("full"))
    backend.fail("store", ConnectionError("gone"))
    with pytest.raises(RuntimeError, match="full"):
        await backend.store({"a": 1})
    with pytest.raises(ConnectionError, match="gone"):
        await backend.store({"a": 1})
    await backend.store({"a": 1})
    assert backend.items == [{"a": 1}]


async def test_stream_of_a_mock_ends():
    source = MockDataSource("soil", b"x", stream_length=2, metadata={"tags": {"a": "b"}})
    await source.connect()
    samples = [data async for data in source.collect_stream()]
    assert [data.raw_data for data in samples] == [b"x", b"x"]
    samples[0].metadata.clear()
    assert source.metadata == {"tags": {"a": "b"}}


async def test_mock_source_notes_acknowledgements():
    source = MockDataSource("soil")
    assert isinstance(source, collectors.Acknowledging)
    source.acknowledge("token")
    assert source.acknowledged == ["token"]


async def test_processor_shows_its_inputs_and_transforms():
    processor = MockProcessor("double", lambda data: data * 2)
    assert (await processor.process(4)).processed_data == 8
    assert processor.inputs == [4]
    with pytest.raises(ValueError):
        await processor.process(None)


async def test_pipeline_keeps_its_results():
    pipeline = MockPipeline()
    await pipeline.add_step(MockProcessor("a"), 1)
    result = await pipeline.execute(1)
    assert pipeline.results == [result]
    assert pipeline.calls["execute"] == 1


async def test_emitter_keeps_events_and_what_handlers_raised():
    emitter = MockEventEmitter(patience_s=0.01)

    async def blocked(_event):
        await asyncio.Event().wait()

    def broken(_event):
        raise OddError

    await emitter.subscribe(EventType.STORAGE_START, blocked)
    await emitter.subscribe(EventType.STORAGE_START, broken)
    event = SystemEvent(event_type=EventType.STORAGE_START, timestamp=datetime.now(UTC), source="test")
    await emitter.emit(event)
    assert emitter.emitted(EventType.STORAGE_START) == [event]
    assert emitter.emitted(EventType.STORAGE_COMPLETE) == []
    assert [type(error) for error in emitter.handler_errors] == [TimeoutError, OddError]


async def test_tracker_finishes_tasks():
    tracker = MockTaskTracker()
    good, bad = await tracker.create_task("a"), await tracker.create_task("a")
    tracker.finish(good, result=5)
    tracker.finish(bad, error="broken")
    tracker.finish(bad, result=5)
    assert tracker.tasks[good].result == 5
    assert (tracker.tasks[bad].error, tracker.tasks[bad].result) == ("broken", None)


async def test_surroundings_are_shared():
    surroundings = Surroundings(handlers=[MockErrorHandler()])
    collection = MockCollectionManager(surroundings)
    storage = MockStorageManager(surroundings)
    source = MockDataSource("soil")
    source.fail("connect", ConnectionError("unplugged"))
    await collection.register_source(source, {})
    task_id = await collection.start_collection("soil")
    await collection.finished(task_id)
    assert await collection.get_task_status(task_id) is CollectionStatus.ERROR
    await storage.register_backend(MockStorageBackend("memory"), {})
    with pytest.raises(ConnectionError):
        await storage.store_data("memory", {"a": 1})
    assert [error.layer_name for error in surroundings.errors] == ["collection", "storage"]
    with pytest.raises(KeyError):
        await collection.finished("nothing")


async def test_manager_mocks_show_what_went_through():
    collection = MockCollectionManager()
    await collection.register_source(MockDataSource("soil", b"x"), {})
    await collection.finished(await collection.start_collection("soil"))
    assert [data.raw_data for data in collection.collected] == [b"x"] * 3
    storage = MockStorageManager()
    backend = MockStorageBackend("memory")
    await backend.connect()
    await storage.register_backend(backend, {"store_timeout_s": 5})
    location = await storage.store_data("memory", {"a": 1})
    assert storage.stored == [location]
    assert await storage.query_data("memory", QueryCriteria()) == [{"a": 1}]


async def test_slow_mock_backend_times_out():
    class Slow(MockStorageBackend):
        async def store(self, data):
            await asyncio.Event().wait()

    storage = MockStorageManager()
    await storage.register_backend(Slow("slow"), {"store_timeout_s": 0.01})
    with pytest.raises(RuntimeError, match="in time"):
        await storage.store_data("slow", {})


async def test_examples_do_what_they_say(capsys):
    await examples.main()
    assert capsys.readouterr().out.count("\n") == 4
    assert await examples.collect_process_store() == [
        {"source": "greenhouse", "temperature": 21.5},
        {"source": "greenhouse", "temperature": 22.0},
    ]
    assert await examples.managers_together() == (3, 3)
    assert await examples.watch_events() == [EventType.COLLECTION_START, EventType.COLLECTION_COMPLETE]
    [error] = await examples.handle_errors()
    assert "'warm' is not a number" in error.message


def test_mocks_are_not_loaded_before_they_are_asked_for():
    import subprocess
    import sys

    code = "import sys, collectors; assert 'collectors.mocks' not in sys.modules; collectors.MockProcessor; assert 'collectors.mocks' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="MockNothing"):
        _ = collectors.MockNothing
    assert mocks.__all__
