"""Properties 14 to 16: statistics say what really happened."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.mocks import MockDataSource, MockProcessor, MockStorageBackend
from tests.contract.implementations import BACKENDS, WORLDS, open_backend
from tests.contract.strategies import EXAMPLES, FEWER, documents

worlds = pytest.mark.parametrize("world_name", WORLDS)


@worlds
@EXAMPLES
@given(taken=st.lists(st.booleans(), max_size=8), refused_connects=st.integers(0, 2))
async def test_14_statistics_of_a_source(world_name, taken, refused_connects):
    async with WORLDS[world_name]() as world:
        outcomes = iter(taken)
        times = []

        async def sink(data):
            if not next(outcomes):
                raise RuntimeError("not taken")
            times.append(data.timestamp)

        world.sink = sink
        source = MockDataSource("source", stream_length=len(taken))
        source.fail("connect", ConnectionError("no link"), times=refused_connects)
        await world.collection.register_source(source, {})
        await world.collect_all("source")
        statistics = await world.collection.get_statistics("source")
        assert statistics.success_count == sum(taken)
        assert statistics.failure_count == len(taken) - sum(taken) + refused_connects
        assert statistics.last_collection_time == (times[-1] if times else None)
        assert statistics.average_processing_time >= 0
        assert (statistics.average_processing_time > 0) == bool(times)


@worlds
@EXAMPLES
@given(outcomes=st.lists(st.lists(st.sampled_from(["work", "raise"]), min_size=3, max_size=3), max_size=6))
async def test_15_statistics_of_each_step(world_name, outcomes):
    async with WORLDS[world_name]() as world:
        steps = [MockProcessor(name) for name in ("first", "second", "third")]
        pipeline = await world.processing.create_pipeline("pipeline")
        for order, step in reversed(list(enumerate(steps))):
            await pipeline.add_step(step, order)
        expected = [[0, 0], [0, 0], [0, 0]]
        for number, outcome in enumerate(outcomes):
            for place, behaviour in enumerate(outcome):
                if behaviour == "raise":
                    steps[place].fail("process", ValueError("bad"))
                    expected[place][1] += 1
                    break
                expected[place][0] += 1
            # Either way in counts.
            await (pipeline.execute(1) if number % 2 else world.processing.execute("pipeline", 1))
        statistics = await world.processing.get_statistics("pipeline")
        assert [s.step_name for s in statistics] == ["first", "second", "third"]
        assert [[s.success_count, s.failure_count] for s in statistics] == expected
        for step in statistics:
            assert step.execution_count == step.success_count + step.failure_count
            assert (step.average_time > 0) == bool(step.execution_count)


@worlds
@pytest.mark.parametrize("backend_name", BACKENDS)
@FEWER
@given(items=st.lists(st.none() | documents, max_size=6))
async def test_16_statistics_of_a_backend(world_name, backend_name, items):
    async with WORLDS[world_name]() as world, open_backend(backend_name) as backend:
        await backend.connect()
        backend_id = await world.storage.register_backend(backend, {})
        last = None
        for item in items:
            if item is None:
                with pytest.raises(ValueError):
                    await world.storage.store_data(backend_id, item)
            else:
                last = await world.storage.store_data(backend_id, item)
        statistics = await world.storage.get_statistics(backend_id)
        assert statistics.backend_id == backend_id
        assert statistics.stored_count == sum(item is not None for item in items)
        if last is None:
            assert statistics.last_storage_time is None
        else:
            assert statistics.storage_usage_bytes > 0
            assert abs((statistics.last_storage_time - last.created_at).total_seconds()) < 1


@worlds
async def test_read_only_and_slow_backends(world_name):
    async with WORLDS[world_name]() as world:
        backend = MockStorageBackend("backend")
        await backend.connect()
        await world.storage.register_backend(backend, {"read_only": True})
        with pytest.raises(RuntimeError, match="read-only"):
            await world.storage.store_data("backend", {"a": 1})
        assert (await world.storage.get_statistics("backend")).stored_count == 0
        await world.storage.unregister_backend("backend")
        with pytest.raises(KeyError):
            await world.storage.unregister_backend("backend")
        with pytest.raises(KeyError):
            await world.storage.get_statistics("backend")
