"""Property 8: what is stored has a location, which can be queried and deleted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import QueryCriteria, Reading, StorageLocation
from tests.contract.implementations import BACKENDS, open_backend
from tests.contract.strategies import FEWER, documents

backends = pytest.mark.parametrize("backend_name", BACKENDS)


async def everything(backend):
    return await backend.query(QueryCriteria())


@backends
@FEWER
@given(items=st.lists(documents, min_size=1, max_size=5), victim=st.integers(0, 4))
async def test_08_a_stored_item_can_be_queried_and_deleted(backend_name, items, victim):
    async with open_backend(backend_name) as backend:
        await backend.connect()
        locations = [await backend.store(item) for item in items]
        for location in locations:
            assert isinstance(location, StorageLocation)
            assert location.backend_id == backend.get_backend_id()
            assert location.path
            assert location.created_at.tzinfo is not None
        assert len({location.location_id for location in locations}) == len(items)
        assert await everything(backend) == items

        place = victim % len(items)
        doomed = locations[place].location_id
        found = await backend.query(QueryCriteria(filters={"location_id": doomed}))
        if "location_id" not in items[place]:
            assert items[place] in found
        await backend.delete(doomed)
        assert await everything(backend) == items[:place] + items[place + 1 :]
        with pytest.raises(KeyError):
            await backend.delete(doomed)


@backends
@FEWER
@given(
    numbers=st.lists(st.integers(0, 5), max_size=8),
    limit=st.none() | st.integers(0, 10),
    offset=st.none() | st.integers(0, 10),
    wanted=st.none() | st.integers(0, 5),
)
async def test_08_filters_order_limit_and_offset(backend_name, numbers, limit, offset, wanted):
    async with open_backend(backend_name) as backend:
        await backend.connect()
        for place, number in enumerate(numbers):
            await backend.store({"number": number, "place": place})
        filters = {} if wanted is None else {"number": wanted}
        found = await backend.query(
            QueryCriteria(filters=filters, sort_by="number", limit=limit, offset=offset)
        )
        matching = sorted(n for n in numbers if wanted is None or n == wanted)
        first = offset or 0
        last = len(numbers) if limit is None else first + limit
        assert [item["number"] for item in found] == matching[first:last]


@backends
@pytest.mark.parametrize(
    "bad", [None, object(), [1], "text", {"a": object()}, {"a": float("nan")}, {"a": {1, 2}}]
)
async def test_what_json_cannot_hold_is_refused(backend_name, bad):
    async with open_backend(backend_name) as backend:
        await backend.connect()
        with pytest.raises(ValueError):
            await backend.store(bad)
        assert await everything(backend) == []


@backends
async def test_a_backend_that_is_not_connected_says_so(backend_name):
    async with open_backend(backend_name) as backend:
        assert backend.get_backend_id()
        await backend.disconnect()  # harmless after a missing connect
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await backend.store({"a": 1})
            with pytest.raises(ConnectionError):
                await backend.query(QueryCriteria())
            with pytest.raises(ConnectionError):
                await backend.delete("1")
            await backend.connect()
            await backend.disconnect()


@backends
async def test_what_is_stored_stays(backend_name):
    async with open_backend(backend_name) as backend:
        await backend.connect()
        first = await backend.store({"a": 1})
        await backend.disconnect()
        await backend.connect()
        second = await backend.store({"a": 2})
        assert first.location_id != second.location_id
        assert await everything(backend) == [{"a": 1}, {"a": 2}]


@backends
async def test_what_comes_out_is_a_copy(backend_name):
    async with open_backend(backend_name) as backend:
        await backend.connect()
        item = {"a": [1]}
        await backend.store(item)
        item["a"].append(2)
        (await everything(backend))[0]["a"].append(3)
        assert await everything(backend) == [{"a": [1]}]


@backends
@pytest.mark.parametrize("location_id", ["", "0", "no such", "-1", "999999", "1.5"])
async def test_deleting_what_is_not_there(backend_name, location_id):
    async with open_backend(backend_name) as backend:
        await backend.connect()
        await backend.store({"a": 1})
        with pytest.raises(KeyError):
            await backend.delete(location_id)
        assert await everything(backend) == [{"a": 1}]


@backends
async def test_models_are_stored_as_documents(backend_name):
    async with open_backend(backend_name) as backend:
        await backend.connect()
        reading = Reading(source="soil", t=1.5, values={"temperature": 21.5})
        await backend.store(reading)
        await backend.store(QueryCriteria(sort_by="t"))
        stored = await everything(backend)
        assert Reading.from_document(stored[0]) == reading
        assert QueryCriteria.model_validate(stored[1]) == QueryCriteria(sort_by="t")


@backends
async def test_criteria_mean_the_same_everywhere(backend_name):
    async with open_backend(backend_name) as backend:
        await backend.connect()
        soil = {"source": "soil", "values": {"temperature": 21.5}, "t": 2}
        hall = {"source": "hall", "values": {"temperature": 18.0}, "t": 1}
        odd = {"source": "odd", "location_id": "its own"}
        for item in (soil, hall, odd):
            await backend.store(item)

        async def found(sort_by=None, **filters):
            return await backend.query(QueryCriteria(filters=filters, sort_by=sort_by))

        assert await found(source="soil") == [soil]
        assert await found(**{"values.temperature": {"$gt": 20}}) == [soil]
        assert await found(t={"$exists": True}, sort_by="t") == [hall, soil]
        assert await found(t={"$exists": True}, sort_by="-t") == [soil, hall]
        assert await found(location_id="its own") == [odd]
        assert await found(source="nowhere") == []
        with pytest.raises(ValueError, match="no comparison"):
            await found(t={"$near": 1})
