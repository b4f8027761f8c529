"""Properties 1, 4 and 7: a registration is accepted exactly when it is valid; otherwise nothing happened."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collectors import QueryCriteria
from collectors.mocks import MockDataSource, MockProcessor, MockStorageBackend
from tests.contract.implementations import WORLDS
from tests.contract.strategies import (
    EXAMPLES,
    bad_names,
    configs,
    is_backend_config,
    is_source_config,
    names,
    not_configs,
)

SOURCE_KEYS = ["interval_s", "connect_timeout_s", "when_stream_ends"]
BACKEND_KEYS = ["store_timeout_s", "read_only"]


class Duck:
    """Has the methods of every interface and fulfils none."""

    def get_source_id(self):
        return "duck"

    def get_backend_id(self):
        return "duck"

    def get_processor_name(self):
        return "duck"

    def validate_input(self, data):
        return True

    async def process(self, data):
        return data


class NotCallable(MockProcessor):
    """Inherits from the interface, but cannot process."""

    process = None


@pytest.mark.parametrize("world_name", WORLDS)
@EXAMPLES
@given(source_id=names, config=configs(SOURCE_KEYS) | not_configs)
@example(source_id="s", config={})
@example(source_id="s", config={"interval_s": True})
@example(source_id="s", config={"interval_s": float("nan")})
@example(source_id="s", config={"interval_s": 10**400})
@example(source_id="s", config={"interval_s": "1"})
@example(source_id="s", config={"interval_s": 5, "when_stream_ends": "reconnect"})
async def test_01_source_is_registered_exactly_when_its_configuration_is_valid(world_name, source_id, config):
    async with WORLDS[world_name]() as world:
        source = MockDataSource(source_id)
        if is_source_config(config):
            assert await world.collection.register_source(source, config) == source_id
            assert (await world.collection.get_statistics(source_id)).success_count == 0
            with pytest.raises(ValueError, match="already"):
                await world.collection.register_source(MockDataSource(source_id), {})
        else:
            with pytest.raises(ValueError, match="configuration"):
                await world.collection.register_source(source, config)
            with pytest.raises(KeyError):
                await world.collection.start_collection(source_id)
            with pytest.raises(KeyError):
                await world.collection.get_statistics(source_id)
            assert await world.collection.register_source(source, {}) == source_id


@pytest.mark.parametrize("world_name", WORLDS)
@EXAMPLES
@given(thing=st.sampled_from([None, 5, "source", Duck(), MockDataSource]) | bad_names.map(MockDataSource))
async def test_01_only_sources_are_registered(world_name, thing: Any):
    async with WORLDS[world_name]() as world:
        with pytest.raises(ValueError):
            await world.collection.register_source(thing, {})


@pytest.mark.parametrize("world_name", WORLDS)
@EXAMPLES
@given(name=names)
async def test_04_processors_are_registered(world_name, name):
    async with WORLDS[world_name]() as world:
        processor_id = await world.processing.register_processor(MockProcessor(name))
        assert processor_id == name
        with pytest.raises(ValueError, match="already"):
            await world.processing.register_processor(MockProcessor(name))
        await world.processing.unregister_processor(processor_id)
        with pytest.raises(KeyError):
            await world.processing.unregister_processor(processor_id)


@pytest.mark.parametrize("world_name", WORLDS)
@EXAMPLES
@given(
    thing=st.sampled_from([None, 5, "step", object(), Duck(), MockProcessor, NotCallable("x")])
    | bad_names.map(MockProcessor)
)
async def test_04_nothing_else_is_registered_as_processor(world_name, thing: Any):
    async with WORLDS[world_name]() as world:
        with pytest.raises(ValueError):
            await world.processing.register_processor(thing)
        pipeline = await world.processing.create_pipeline("pipeline")
        with pytest.raises(ValueError):
            await pipeline.add_step(thing, order=1)
        assert pipeline.get_steps() == []


@pytest.mark.parametrize("world_name", WORLDS)
@EXAMPLES
@given(backend_id=names, config=configs(BACKEND_KEYS) | not_configs)
@example(backend_id="b", config={"store_timeout_s": 0})
@example(backend_id="b", config={"store_timeout_s": 2.5, "read_only": False})
@example(backend_id="b", config={"read_only": 1})
async def test_07_backend_is_registered_exactly_when_its_configuration_is_valid(
    world_name, backend_id, config
):
    async with WORLDS[world_name]() as world:
        backend = MockStorageBackend(backend_id)
        await backend.connect()
        if is_backend_config(config):
            assert await world.storage.register_backend(backend, config) == backend_id
            assert (await world.storage.get_statistics(backend_id)).stored_count == 0
            with pytest.raises(ValueError, match="already"):
                await world.storage.register_backend(MockStorageBackend(backend_id), {})
        else:
            with pytest.raises(ValueError, match="configuration"):
                await world.storage.register_backend(backend, config)
            with pytest.raises(KeyError):
                await world.storage.store_data(backend_id, {"a": 1})
            with pytest.raises(KeyError):
                await world.storage.query_data(backend_id, QueryCriteria())
            assert await world.storage.register_backend(backend, {}) == backend_id


@pytest.mark.parametrize("world_name", WORLDS)
@EXAMPLES
@given(
    thing=st.sampled_from([None, 5, "backend", Duck(), MockStorageBackend])
    | bad_names.map(MockStorageBackend)
)
async def test_07_only_backends_are_registered(world_name, thing: Any):
    async with WORLDS[world_name]() as world:
        with pytest.raises(ValueError):
            await world.storage.register_backend(thing, {})
