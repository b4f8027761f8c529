"""Property 17: start and complete of each layer, once each, in order; no subscriber harms another."""

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import EventType, SystemEvent
from collectors.mocks import MockDataSource, MockProcessor, MockStorageBackend
from tests.contract.implementations import EMITTERS, PATIENCE_S, WORLDS
from tests.contract.strategies import EXAMPLES, FEWER

worlds = pytest.mark.parametrize("world_name", WORLDS)
emitters = pytest.mark.parametrize("emitter_name", EMITTERS)

ONE_ITEM = [
    EventType.COLLECTION_START,
    EventType.COLLECTION_COMPLETE,
    EventType.PROCESSING_START,
    EventType.PROCESSING_COMPLETE,
    EventType.STORAGE_START,
    EventType.STORAGE_COMPLETE,
]


def event(event_type, number=0):
    return SystemEvent(event_type=event_type, timestamp=datetime.now(UTC), source="test", data={"n": number})


async def raising(_event):
    raise RuntimeError("a bad subscriber")


def raising_at_once(_event):
    raise ZeroDivisionError


async def blocking(_event):
    await asyncio.Event().wait()


@worlds
@FEWER
@given(
    items=st.integers(0, 3),
    pests=st.lists(
        st.tuples(st.sampled_from([raising, raising_at_once, blocking]), st.sampled_from(EventType)),
        max_size=3,
    ),
)
async def test_17_one_item_tells_its_way_in_order(world_name, items, pests):
    async with WORLDS[world_name]() as world:
        for handler, event_type in pests:
            await world.events.subscribe(event_type, handler)
        await world.watch()
        backend = MockStorageBackend("backend")
        await backend.connect()
        await world.storage.register_backend(backend, {})
        pipeline = await world.processing.create_pipeline("pipeline")
        await pipeline.add_step(MockProcessor("step"), 1)

        async def way(data):
            result = await world.processing.execute("pipeline", {"raw": data.raw_data.decode()})
            await world.storage.store_data("backend", result.final_data)

        world.sink = way
        await world.collection.register_source(MockDataSource("source", stream_length=items), {})
        await world.collect_all("source")
        seen = await world.delivered(6 * items)
        assert [e.event_type for e in seen] == ONE_ITEM * items
        assert len(backend.items) == items
        for told in seen:
            assert told.timestamp.tzinfo is not None
            assert told.source


@emitters
@EXAMPLES
@given(
    emitted=st.lists(st.sampled_from(EventType), max_size=10),
    wanted=st.sets(st.sampled_from(EventType)),
)
async def test_17_a_subscriber_sees_its_types_once_each_in_order(emitter_name, emitted, wanted):
    async with EMITTERS[emitter_name]() as emitter, asyncio.timeout(PATIENCE_S):
        seen = []

        async def note(told):
            await asyncio.sleep(0)
            seen.append((told.event_type, told.data["n"]))

        ids = [await emitter.subscribe(event_type, note) for event_type in wanted]
        assert len(set(ids)) == len(ids)
        for number, event_type in enumerate(emitted):
            await emitter.emit(event(event_type, number))
        expected = [(t, n) for n, t in enumerate(emitted) if t in wanted]
        while len(seen) < len(expected):
            await asyncio.sleep(0)
        assert seen == expected


@emitters
async def test_17_plain_functions_may_subscribe(emitter_name):
    async with EMITTERS[emitter_name]() as emitter, asyncio.timeout(PATIENCE_S):
        seen = []
        await emitter.subscribe(EventType.STORAGE_START, seen.append)
        await emitter.subscribe(EventType.STORAGE_START, raising_at_once)
        await emitter.emit(event(EventType.STORAGE_START))
        while not seen:
            await asyncio.sleep(0)


@emitters
async def test_nothing_comes_after_unsubscribing(emitter_name):
    async with EMITTERS[emitter_name]() as emitter, asyncio.timeout(PATIENCE_S):
        ended, going_on = [], []
        first = await emitter.subscribe(EventType.STORAGE_START, ended.append)
        await emitter.subscribe(EventType.STORAGE_START, going_on.append)
        await emitter.emit(event(EventType.STORAGE_START))
        while not (ended and going_on):
            await asyncio.sleep(0)
        await emitter.unsubscribe(first)
        await emitter.emit(event(EventType.STORAGE_START))
        while len(going_on) < 2:
            await asyncio.sleep(0)
        assert len(ended) == 1
        with pytest.raises(KeyError):
            await emitter.unsubscribe(first)


@emitters
async def test_a_handler_must_be_callable_and_a_type_must_exist(emitter_name):
    async with EMITTERS[emitter_name]() as emitter:
        with pytest.raises(ValueError, match="callable"):
            await emitter.subscribe(EventType.STORAGE_START, "not a function")
        with pytest.raises(ValueError):
            await emitter.subscribe("no such type", raising)


@emitters
async def test_a_subscriber_may_unsubscribe_itself(emitter_name):
    async with EMITTERS[emitter_name]() as emitter, asyncio.timeout(PATIENCE_S):
        seen = []

        async def once(told):
            await emitter.unsubscribe(subscription)
            await asyncio.sleep(0)
            seen.append(told)

        subscription = await emitter.subscribe(EventType.STORAGE_START, once)
        await emitter.emit(event(EventType.STORAGE_START))
        await emitter.emit(event(EventType.STORAGE_START))
        while not seen:
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(seen) == 1
