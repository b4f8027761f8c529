"""`TinyDBBuffer`: the contract, and what the agent uses."""

import asyncio
import threading

import pytest

from buffer import BufferClosed, BufferFull, TinyDBBuffer
from collectors.models import QueryCriteria, Reading


@pytest.fixture
async def buffer(tmp_path):
    opened = TinyDBBuffer("main", tmp_path / "b", device_id="d", window_s=60)
    await opened.connect()
    yield opened
    await opened.disconnect()


async def test_store_query_delete(buffer):
    first = await buffer.store({"sensor": "a", "values": {"t": 1}})
    second = await buffer.store(Reading(source="soil", t=5.0, values={"t": 2}))
    assert (first.backend_id, first.location_id) == ("main", "readings/1")
    assert await buffer.query(QueryCriteria(filters={"values.t": {"$gte": 2}})) == [
        {"source": "soil", "t": 5.0, "values": {"t": 2}}
    ]
    await buffer.delete(first.location_id)
    with pytest.raises(KeyError):
        await buffer.delete(first.location_id)
    number = "9" * 5000  # of more digits than Python makes a number of
    wrongs = ["", "readings", "readings/x", "nowhere/1", "readings/²", "readings/02", f"readings/{number}"]
    for wrong in wrongs:
        with pytest.raises(KeyError):
            await buffer.delete(wrong)
    assert len(await buffer.query(QueryCriteria())) == 1
    await buffer.delete(second.location_id)
    statistics = await buffer.statistics()
    assert statistics.stored_count == 0
    assert statistics.last_storage_time == second.created_at


async def test_statistics_count_what_is_durable(buffer):
    buffer.append([b"{}"] * 3)
    assert (await buffer.statistics()).stored_count == 0
    await buffer.flush()
    assert (await buffer.statistics()).stored_count == 3


@pytest.mark.parametrize("wrong", [None, 5, "text", [1], {"a": object()}, {"a": float("nan")}])
async def test_what_cannot_be_stored_is_a_value_error(buffer, wrong):
    with pytest.raises(ValueError):
        await buffer.store(wrong)


async def test_queries_sort_and_page(buffer):
    buffer.append([b'{"n":%d,"s":{"k":"%d"}}' % (at, at % 3) for at in range(30)])
    await buffer.flush()
    found = await buffer.query(
        QueryCriteria(filters={"s.k": "1", "n": {"$lt": 20}}, sort_by="-n", limit=3, offset=1)
    )
    assert [each["n"] for each in found] == [16, 13, 10]
    assert [each["n"] for each in await buffer.query(QueryCriteria(sort_by="n", offset=27))] == [27, 28, 29]
    assert [each["n"] for each in await buffer.query(QueryCriteria(filters={"n": {"$in": [3, 5]}}))] == [3, 5]
    with pytest.raises(ValueError, match="no comparison"):
        await buffer.query(QueryCriteria(filters={"n": {"$near": 1}}))


async def test_not_connected(tmp_path):
    buffer = TinyDBBuffer("main", tmp_path)
    await buffer.disconnect()
    for call in (
        buffer.store({}),
        buffer.query(QueryCriteria()),
        buffer.delete("readings/1"),
        buffer.flush(),
    ):
        with pytest.raises(ConnectionError):
            await call
    assert buffer.fault is None


async def test_wrong_options_and_places(tmp_path):
    with pytest.raises(ValueError, match="segment_bytes is 1"):
        await TinyDBBuffer("main", tmp_path, segment_bytes=1).connect()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConnectionError):
        await TinyDBBuffer("main", tmp_path / "file").connect()


async def test_one_process_at_a_time(buffer, tmp_path):
    with pytest.raises(ConnectionError, match="another process"):
        await TinyDBBuffer("other", tmp_path / "b").connect()


async def test_waiting_is_served_long_before_the_window_ends(buffer):
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for at in range(50):
            group.create_task(buffer.store({"n": at}))
    assert buffer.durable_id() == 50
    assert len(await buffer.recent(100)) == 50


async def test_consumers(buffer):
    consumer = buffer.consumer("cloud")
    assert not await consumer.wait(0.01)
    assert await consumer.take(5) is None
    waiting = asyncio.create_task(consumer.wait(30))
    buffer.append([b"{}"] * 20)
    await buffer.flush()
    assert await waiting
    batch = await consumer.take(15)
    assert (len(batch), batch.device_id, batch.store_id) == (15, "d", buffer.store_id)
    assert consumer.backlog == 20
    consumer.ack(batch)
    assert consumer.backlog == 5
    rest = await consumer.take(15)
    consumer.release(rest)
    assert (await consumer.take(15)).first == 16


async def test_a_cancelled_take_gives_its_batch_back(buffer):
    buffer.append([b"{}"] * 20)
    await buffer.flush()
    consumer = buffer.consumer("cloud")
    blocked = threading.Event()
    buffer._reading.submit(blocked.wait)
    taking = asyncio.create_task(consumer.take(20))
    await asyncio.sleep(0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    blocked.set()
    async with asyncio.timeout(5):
        while (batch := await consumer.take(20)) is None:
            await asyncio.sleep(0.001)
    assert len(batch) == 20


async def test_room_is_waited_for(tmp_path):
    buffer = TinyDBBuffer("main", tmp_path, pending_bytes_max=2_000, window_s=60)
    await buffer.connect()
    documents = [b'{"pad":"' + b"x" * 200 + b'"}'] * 9
    buffer.append(documents)
    with pytest.raises(BufferFull):
        buffer.append(documents)
    waiting = asyncio.create_task(buffer.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await asyncio.wait_for(waiting, 5)
    buffer.append(documents)
    await buffer.disconnect()


async def test_who_waits_is_told_when_it_closes(tmp_path):
    buffer = TinyDBBuffer("main", tmp_path)
    await buffer.connect()
    consumer = buffer.consumer("cloud")
    waiting = asyncio.create_task(consumer.wait(30))
    await asyncio.sleep(0)
    (record_id,) = buffer.append([b"{}"])
    durable = asyncio.create_task(buffer.wait_durable(record_id))
    never = asyncio.create_task(buffer.wait_durable(record_id + 1))
    await asyncio.sleep(0)
    await buffer.disconnect()
    await durable
    await waiting
    with pytest.raises(BufferClosed):
        await never
    with pytest.raises(BufferClosed):
        buffer.append([b"{}"])
    await buffer.connect()
    assert len(await buffer.recent(5)) == 1
    await buffer.disconnect()


async def test_small_tables(buffer):
    state = buffer.state("device_state")
    await state.put("boot", {"count": 1})
    await state.put_all({"a": {"x": 1}, "boot": {"count": 2}})
    assert state.get("boot") == {"count": 2}
    assert dict(state.items()) == {"boot": {"count": 2}, "a": {"x": 1}}
    state.get("boot")["count"] = 99
    assert state.get("boot") == {"count": 2}
    await state.remove("a")
    assert state.get("a") is None
    async with asyncio.TaskGroup() as group:
        for at in range(50):
            group.create_task(state.put(f"k{at}", {"n": at}))
    await buffer.disconnect()
    await buffer.connect()
    assert len(buffer.state("device_state")) == 51


async def test_dead_letters_are_a_table_of_their_own(buffer):
    ids = buffer.append([b'{"why":"test"}'], table="dead_letters")
    await buffer.wait_durable(ids[-1], table="dead_letters")
    assert buffer.durable_id("dead_letters") == 1
    assert [record.document for record in await buffer.recent(5, table="dead_letters")] == [{"why": "test"}]
    await buffer.delete("dead_letters/1")
    assert await buffer.recent(5, table="dead_letters") == []


async def test_who_gives_up_waiting_is_forgotten_though_nothing_is_committed(buffer):
    consumer = buffer.consumer("cloud")
    held = []
    for _ in range(500):
        assert not await consumer.wait(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await buffer.wait_durable(1 << 30)
        held.append(sum(map(len, kept_by(buffer))))
    assert max(held) < 200
    later = asyncio.create_task(consumer.wait(30))
    await asyncio.sleep(0)
    await buffer.store({})
    assert await later


def kept_by(buffer):
    for waiters in buffer._waiters.values():
        yield waiters._conditions
        yield waiters._by_id


async def test_a_cancelled_connect_leaves_nothing_locked(tmp_path):
    buffer = TinyDBBuffer("main", tmp_path / "b", device_id="d")
    going_on = threading.Event()
    opened = buffer._opened

    def slowly():
        assert going_on.wait(30)
        return opened()

    buffer._opened = slowly
    for again in (buffer.connect, buffer.disconnect):
        connecting = asyncio.create_task(buffer.connect())
        await asyncio.sleep(0.01)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        waiting = asyncio.create_task(again())
        await asyncio.sleep(0.01)
        going_on.set()
        await waiting
        await buffer.disconnect()
        going_on.clear()
        other = TinyDBBuffer("other", tmp_path / "b", device_id="d")
        await other.connect()
        await other.disconnect()


async def test_two_may_connect_it_at_once(tmp_path):
    buffer = TinyDBBuffer("main", tmp_path / "b", device_id="d")
    await asyncio.gather(buffer.connect(), buffer.connect())
    await buffer.store({})
    await buffer.disconnect()


@pytest.mark.parametrize("options", [{"nonsense": 1}, {"quota_bytes": "2 GB"}, {"full": 3}])
async def test_options_of_the_wrong_kind_are_a_value_error(tmp_path, options):
    with pytest.raises(ValueError, match="makes no sense"):
        await TinyDBBuffer("main", tmp_path / "b", **options).connect()
