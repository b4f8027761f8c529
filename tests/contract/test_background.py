"""Property 9: everything started in the background has a unique id that the task tracker knows."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import CollectionStatus, PipelineResult, StorageLocation, TaskStatus
from collectors.mocks import MockDataSource, MockProcessor, MockStorageBackend
from tests.contract.implementations import ENDED, TRACKERS, WORLDS
from tests.contract.strategies import EXAMPLES

worlds = pytest.mark.parametrize("world_name", WORLDS)
trackers = pytest.mark.parametrize("tracker_name", TRACKERS)


@worlds
@EXAMPLES
@given(kinds=st.lists(st.sampled_from(["collection", "processing", "storage"]), max_size=6))
async def test_09_whatever_is_started_is_tracked(world_name, kinds):
    async with WORLDS[world_name]() as world:
        backend = MockStorageBackend("backend")
        await backend.connect()
        await world.storage.register_backend(backend, {})
        pipeline = await world.processing.create_pipeline("pipeline")
        await pipeline.add_step(MockProcessor("step"), 1)
        ids = []
        for number, kind in enumerate(kinds):
            if kind == "collection":
                await world.collection.register_source(MockDataSource(f"source-{number}"), {})
                ids.append(await world.collection.start_collection(f"source-{number}"))
            elif kind == "processing":
                ids.append(await world.processing.start_processing("pipeline", {"a": number}))
            else:
                ids.append(await world.storage.start_storing("backend", {"a": number}))
            info = await world.tasks.get_task_info(ids[-1])
            assert (info.task_id, info.task_type) == (ids[-1], kind)
        assert len(set(ids)) == len(ids)
        for task_id, kind in zip(ids, kinds, strict=True):
            assert await world.finished(task_id) is TaskStatus.COMPLETED
            info = await world.tasks.get_task_info(task_id)
            assert info.created_at <= info.started_at <= info.completed_at
            assert info.progress == 1.0
            if kind == "processing":
                assert isinstance(info.result, PipelineResult)
            if kind == "storage":
                assert isinstance(info.result, StorageLocation)


@worlds
async def test_09_what_fails_in_the_background_says_so(world_name):
    async with WORLDS[world_name]() as world:
        backend = MockStorageBackend("backend")
        await world.storage.register_backend(backend, {})
        task_id = await world.storage.start_storing("backend", {"a": 1})
        assert await world.finished(task_id) is TaskStatus.FAILED
        assert "not connected" in (await world.tasks.get_task_info(task_id)).error


@worlds
async def test_what_is_unknown_is_not_started(world_name):
    async with WORLDS[world_name]() as world:
        with pytest.raises(KeyError):
            await world.collection.start_collection("nobody")
        with pytest.raises(KeyError):
            await world.processing.start_processing("nothing", 1)
        with pytest.raises(KeyError):
            await world.storage.start_storing("nowhere", 1)
        for call in (world.collection.stop_collection, world.collection.get_task_status):
            with pytest.raises(KeyError):
                await call("no task")
        with pytest.raises(KeyError):
            await world.collection.unregister_source("nobody")


class Endless(MockDataSource):
    """A source whose stream waits for something that never comes."""

    async def collect_stream(self):
        async for data in super().collect_stream():
            yield data
        await asyncio.Event().wait()


@worlds
async def test_a_collection_is_started_once_and_stopped(world_name):
    async with WORLDS[world_name]() as world:
        source = Endless("source")
        await world.collection.register_source(source, {})
        task_id = await world.collection.start_collection("source")
        with pytest.raises(RuntimeError):
            await world.collection.start_collection("source")
        while (await world.collection.get_statistics("source")).success_count < 3:
            await asyncio.sleep(0)
        assert await world.collection.get_task_status(task_id) is CollectionStatus.RUNNING
        assert (await world.tasks.get_task_info(task_id)).status is TaskStatus.RUNNING
        await world.collection.stop_collection(task_id)
        await world.collection.stop_collection(task_id)
        assert await world.collection.get_task_status(task_id) is CollectionStatus.STOPPED
        assert (await world.tasks.get_task_info(task_id)).status in ENDED
        again = await world.collection.start_collection("source")
        assert again != task_id
        await world.collection.unregister_source("source")
        with pytest.raises(KeyError):
            await world.collection.get_statistics("source")
        await world.finished(again)


@trackers
@EXAMPLES
@given(
    changes=st.lists(st.sampled_from(TaskStatus), max_size=6),
    progress=st.lists(st.floats(0, 1), max_size=3),
)
async def test_a_task_goes_forward_only(tracker_name, changes, progress):
    tracker = TRACKERS[tracker_name]()
    task_id = await tracker.create_task("sync")
    info = await tracker.get_task_info(task_id)
    assert (info.status, info.progress, info.started_at) == (TaskStatus.PENDING, 0.0, None)
    for value in progress:
        await tracker.update_progress(task_id, value)
        assert (await tracker.get_task_info(task_id)).progress == value
    for status in changes:
        await tracker.update_status(task_id, status)
    ended = next((status for status in changes if status in ENDED), None)
    info = await tracker.get_task_info(task_id)
    assert info.status is (ended or (changes[-1] if changes else TaskStatus.PENDING))
    assert (info.completed_at is not None) == (ended is not None)
    await tracker.cancel_task(task_id)
    info = await tracker.get_task_info(task_id)
    assert info.status is (ended or TaskStatus.CANCELLED)


@trackers
async def test_a_tracker_refuses_nonsense(tracker_name):
    tracker = TRACKERS[tracker_name]()
    for task_type in ("", "  ", None):
        with pytest.raises(ValueError):
            await tracker.create_task(task_type)
    task_id = await tracker.create_task("sync")
    for progress in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="progress"):
            await tracker.update_progress(task_id, progress)
    for call in (
        tracker.get_task_info("x"),
        tracker.cancel_task("x"),
        tracker.update_status("x", TaskStatus.RUNNING),
        tracker.update_progress("x", 0.5),
    ):
        with pytest.raises(KeyError):
            await call
    assert (await tracker.get_task_info(task_id)).status is TaskStatus.PENDING


@trackers
async def test_what_a_tracker_gives_is_a_copy(tracker_name):
    tracker = TRACKERS[tracker_name]()
    task_id = await tracker.create_task("sync")
    (await tracker.get_task_info(task_id)).status = TaskStatus.FAILED
    assert (await tracker.get_task_info(task_id)).status is TaskStatus.PENDING
