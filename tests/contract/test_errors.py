"""Properties 10 to 13: every error becomes an ErrorInfo and reaches every handler that takes its type."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import ErrorInfo, ErrorType, EventType, IErrorHandler, QueryCriteria
from collectors.mocks import MockDataSource, MockErrorHandler, MockProcessor, MockStorageBackend
from tests.contract.implementations import HANDLERS, WORLDS
from tests.contract.strategies import EXAMPLES, exceptions

worlds = pytest.mark.parametrize("world_name", WORLDS)


async def assert_reported(world, handler, layer, error):
    """Exactly one error: complete, handled, and told as an event."""
    events = [e for e in await world.delivered(1) if e.event_type is EventType.ERROR_OCCURRED]
    assert len(events) == 1
    assert len(handler.errors) == 1
    info = handler.errors[0]
    assert isinstance(info, ErrorInfo)
    assert info.error_type in ErrorType
    assert info.timestamp.tzinfo is not None
    assert info.layer_name == layer
    assert info.operation
    assert info.message
    assert isinstance(info.details, dict)
    assert isinstance(info.is_critical, bool)
    assert events[0].data["error"] == info.message
    if isinstance(error, ConnectionError):
        assert info.error_type is ErrorType.CONNECTION
    return info


async def opened(world):
    handler = MockErrorHandler()
    world.add_handler(handler)
    await world.watch(EventType.ERROR_OCCURRED)
    return handler


@worlds
@EXAMPLES
@given(error=exceptions, operation=st.sampled_from(["connect", "collect_stream"]))
async def test_10_errors_of_the_collection_layer(world_name, error, operation):
    async with WORLDS[world_name]() as world:
        handler = await opened(world)
        source = MockDataSource("source")
        source.fail(operation, error)
        await world.collection.register_source(source, {})
        await world.collect_all("source")
        info = await assert_reported(world, handler, "collection", error)
        assert info.details["source_id"] == "source"
        assert info.error_type in {ErrorType.CONNECTION, ErrorType.VALIDATION}


@worlds
@EXAMPLES
@given(error=exceptions)
async def test_11_errors_of_the_processing_layer(world_name, error):
    async with WORLDS[world_name]() as world:
        handler = await opened(world)
        step = MockProcessor("step")
        step.fail("process", error)
        pipeline = await world.processing.create_pipeline("pipeline")
        step_id = await pipeline.add_step(step, 1)
        result = await world.processing.execute("pipeline", {"a": 1})
        assert not result.success
        info = await assert_reported(world, handler, "processing", error)
        assert info.operation == step_id


@worlds
@EXAMPLES
@given(error=exceptions, operation=st.sampled_from(["store", "query"]))
async def test_12_errors_of_the_storage_layer(world_name, error, operation):
    async with WORLDS[world_name]() as world:
        handler = await opened(world)
        backend = MockStorageBackend("backend")
        backend.fail(operation, error)
        await backend.connect()
        await world.storage.register_backend(backend, {})
        failing = (
            world.storage.store_data("backend", {"a": 1})
            if operation == "store"
            else world.storage.query_data("backend", QueryCriteria())
        )
        with pytest.raises(type(error)):
            await failing
        info = await assert_reported(world, handler, "storage", error)
        assert info.details["backend_id"] == "backend"
        assert info.is_critical


@worlds
async def test_10_to_12_refused_registrations_are_configuration_errors(world_name):
    async with WORLDS[world_name]() as world:
        handler = await opened(world)
        pipeline = await world.processing.create_pipeline("pipeline")
        for refused in (
            world.collection.register_source(MockDataSource("source"), {"interval_s": -1}),
            world.storage.register_backend(MockStorageBackend("backend"), {"read_only": "yes"}),
            world.processing.register_processor(None),
            world.processing.create_pipeline(""),
            pipeline.add_step(None, 1),
        ):
            with pytest.raises(ValueError):
                await refused
        assert [error.error_type for error in handler.errors] == [ErrorType.CONFIGURATION] * 5
        assert len(await world.delivered(5)) == 5


class Recorder(MockErrorHandler):
    """Notes that it was called, then does what the test says."""

    def __init__(self, error_types, behaviour):
        super().__init__(error_types)
        self.behaviour = behaviour

    async def handle_error(self, error):
        await super().handle_error(error)
        if self.behaviour == "raise":
            raise RuntimeError("handling failed")
        if self.behaviour == "raise oddly":
            raise ZeroDivisionError

    def can_handle(self, error_type):
        if self.behaviour == "cannot even say":
            raise RuntimeError("no idea")
        return super().can_handle(error_type)


@worlds
@EXAMPLES
@given(
    handlers=st.lists(
        st.tuples(
            st.sets(st.sampled_from(ErrorType)),
            st.sampled_from(["work", "raise", "raise oddly", "cannot even say"]),
        ),
        max_size=5,
    ),
    error=exceptions,
)
async def test_13_a_critical_error_reaches_every_handler_of_its_type(world_name, handlers, error):
    async with WORLDS[world_name]() as world:
        await world.watch(EventType.ERROR_OCCURRED)
        recorders = [Recorder(error_types, behaviour) for error_types, behaviour in handlers]
        for recorder in recorders:
            world.add_handler(recorder)
        witness = MockErrorHandler()
        world.add_handler(witness)
        backend = MockStorageBackend("backend")
        backend.fail("store", error)
        await backend.connect()
        await world.storage.register_backend(backend, {})
        with pytest.raises(type(error)):
            await world.storage.store_data("backend", {"a": 1})
        assert len(witness.errors) == 1
        info = witness.errors[0]
        assert info.is_critical
        for recorder in recorders:
            responsible = info.error_type in recorder.error_types and recorder.behaviour != "cannot even say"
            assert [e.message for e in recorder.errors] == [info.message] * responsible
        assert len(await world.delivered(1)) == 1


@pytest.mark.parametrize("handler_name", HANDLERS)
@EXAMPLES
@given(
    error_type=st.sampled_from(ErrorType),
    message=st.text(max_size=30),
    critical=st.booleans(),
    details=st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
async def test_a_handler_handles_what_it_says_it_can(handler_name, error_type, message, critical, details):
    handler: IErrorHandler = HANDLERS[handler_name]()
    assert handler.can_handle(error_type)
    info = ErrorInfo(
        error_type=error_type,
        timestamp=datetime.now(UTC),
        layer_name="layer",
        operation="operation",
        message=message,
        details=details,
        is_critical=critical,
    )
    await handler.handle_error(info)
    await handler.handle_error(info)
