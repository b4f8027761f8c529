import asyncio
from contextlib import asynccontextmanager

import pytest

from agent.spine import Appending, StorageManager, open_spine
from buffer.errors import BufferFull
from collectors import EventType, IStorageBackend
from collectors.mocks import MockErrorHandler, MockStorageBackend


class Log(MockStorageBackend):
    """A backend that takes documents in bulk, as the buffer does."""

    def __init__(self, backend_id="buffer", room_for=1000):
        super().__init__(backend_id)
        self.room_for = room_for
        self.appended = []
        self.durable = 0
        self.has_room = asyncio.Event()

    def append(self, documents, *, vouched):
        self._enter("append")
        if len(documents) > self.room_for:
            self.has_room.clear()
            raise BufferFull("no room")
        self.room_for -= len(documents)
        first = len(self.appended) + 1
        self.appended.extend(documents)
        return range(first, first + len(documents))

    async def room(self):
        await self.has_room.wait()

    def durable_id(self):
        return self.durable


@asynccontextmanager
async def storage(backend=None, config=None):
    async with open_spine(close_timeout_s=1) as spine:
        handler = MockErrorHandler()
        spine.errors.add_handler(handler)
        manager = StorageManager(spine, sleep=lambda _seconds: asyncio.sleep(0))
        manager.spine, manager.errors = spine, handler.errors
        if backend is not None:
            await backend.connect()
            await manager.register_backend(backend, config or {})
        yield manager


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_submitting_gives_ids():
    log = Log()
    async with storage(log) as manager:
        assert await manager.submit("buffer", [b"{}", b"{}"], source="soil") == range(1, 3)
        assert await manager.submit("buffer", [], source="soil") == range(3, 3)
        assert await manager.submit("buffer", [b"{}"], source="soil") == range(3, 4)
        assert manager.backend("buffer") is log


async def test_submitting_waits_for_room_even_when_others_are_quicker():
    log = Log(room_for=0)
    async with storage(log) as manager:
        waiting = [
            asyncio.create_task(manager.submit("buffer", [b"{}"], source=str(number))) for number in range(3)
        ]
        for _ in range(5):
            await asyncio.sleep(0)
        for number in range(3):
            assert len(log.appended) == number
            log.room_for = 1
            log.has_room.set()
            await until(lambda number=number: len(log.appended) == number + 1)
        assert [len(ids) for ids in await asyncio.gather(*waiting)] == [1, 1, 1]
        assert manager.errors == []


async def test_other_failures_are_reported_and_raised():
    log = Log()
    log.fail("append", RuntimeError("the card is gone"))
    async with storage(log) as manager:
        with pytest.raises(RuntimeError, match="card is gone"):
            await manager.submit("buffer", [b"{}"], source="soil")
        assert [(e.operation, e.is_critical, e.details["source_id"]) for e in manager.errors] == [
            ("submit", True, "soil")
        ]


async def test_not_every_backend_takes_documents_in_bulk():
    async with storage(MockStorageBackend("plain")) as manager:
        with pytest.raises(TypeError, match="bulk"):
            await manager.submit("plain", [b"{}"], source="soil")
    assert isinstance(Log(), Appending)


async def test_read_only_backend_takes_nothing():
    async with storage(Log(), {"read_only": True}) as manager:
        with pytest.raises(RuntimeError, match="read-only"):
            await manager.submit("buffer", [b"{}"], source="soil")


async def test_submitted_documents_are_complete_when_they_are_durable():
    log, seen = Log(), []
    async with storage(log) as manager:
        for event_type in (EventType.STORAGE_START, EventType.STORAGE_COMPLETE):
            await manager.spine.events.subscribe(event_type, seen.append)
        for source in ("soil", "hall", "roof"):
            await manager.submit("buffer", [b"{}", b"{}"], source=source)
        await until(lambda: len(seen) == 3)
        for _ in range(20):
            await asyncio.sleep(0)
        assert [e.event_type for e in seen] == [EventType.STORAGE_START] * 3
        log.durable = 5  # the third is not wholly durable
        await until(lambda: len(seen) == 5)
        log.durable = 6
        await until(lambda: len(seen) == 6)
        complete = [e.data for e in seen[3:]]
        assert [(d["source_id"], d["last_id"], d["count"]) for d in complete] == [
            ("soil", 2, 2),
            ("hall", 4, 2),
            ("roof", 6, 2),
        ]
        # The watcher has ended; the next submission starts another.
        await manager.submit("buffer", [b"{}"], source="soil")
        log.durable = 7
        await until(lambda: len(seen) == 8)


async def test_nobody_listening_means_nobody_watches():
    async with storage(Log()) as manager:
        await manager.submit("buffer", [b"{}"], source="soil")
        assert manager.spine.tasks.list_tasks() == []


async def test_forgetting_a_backend_ends_its_watcher():
    async with storage(Log()) as manager:
        await manager.spine.events.subscribe(EventType.STORAGE_COMPLETE, print)
        await manager.submit("buffer", [b"{}"], source="soil")
        await manager.unregister_backend("buffer")
        await until(lambda: manager.spine.tasks.list_tasks()[0].completed_at is not None)


async def test_store_that_takes_too_long_has_failed():
    class Slow(MockStorageBackend):
        async def store(self, data):
            await asyncio.Event().wait()

    async with storage(Slow("slow"), {"store_timeout_s": 0.01}) as manager:
        with pytest.raises(RuntimeError, match=r"not stored within 0\.01 s"):
            await manager.store_data("slow", {"a": 1})
        assert len(manager.errors) == 1


async def test_statistics_of_a_backend_that_has_none_of_its_own():
    class Plain(IStorageBackend):
        async def connect(self): ...
        async def disconnect(self): ...
        async def query(self, criteria): ...
        async def delete(self, location_id): ...
        def get_backend_id(self):
            return "plain"

        async def store(self, data):
            return await mock.store(data)

    mock = MockStorageBackend("plain")
    await mock.connect()
    async with storage(Plain()) as manager:
        location = await manager.store_data("plain", {"a": 1})
        statistics = await manager.get_statistics("plain")
        assert (statistics.stored_count, statistics.last_storage_time) == (1, location.created_at)
        assert statistics.storage_usage_bytes == len(b'{"a":1}')
