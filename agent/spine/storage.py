"""The storage manager: knows the backends, and hands readings to them.

Two ways lead in. `store_data` stores one item and returns when it is durable. `submit` hands over documents
in bulk and returns at once: they are pending, and become durable with the backend's next commit.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from pydantic_core import to_json

from agent.spine.errors import CONFIGURATION, STORAGE
from agent.spine.spine import Spine
from collectors.enums import EventType
from collectors.interfaces import IStorageBackend, IStorageManager
from collectors.models import QueryCriteria, StorageLocation, StorageStatistics, SystemEvent
from collectors.registration import BackendRegistration, check_backend

_DURABLE_POLL_S = 0.05
"""How late a STORAGE_COMPLETE of submitted documents may be. Waiting for durability properly would start a
commit, and a subscriber that only watches must not cost the flash a write."""
_WATCHED_MAX = 10_000
"""How many submissions are watched at once for their STORAGE_COMPLETE."""


@runtime_checkable
class Appending(Protocol):
    """A backend that takes documents in bulk, such as `buffer.TinyDBBuffer`."""

    def append(self, documents: Sequence[bytes], *, vouched: bool) -> range:
        """Take JSON objects; returns their ids. They are pending, not yet durable.

        Args:
            documents: The objects.
            vouched: They come from a JSON encoder and need not be parsed to make sure.

        Raises:
            BufferFull: There is no room now.
            RuntimeError: It cannot take anything.
        """
        ...

    async def room(self) -> None:
        """Wait until `append` would be accepted."""
        ...

    def durable_id(self) -> int:
        """Ids up to this one are durable."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A backend that knows its own statistics."""

    async def statistics(self) -> StorageStatistics:
        """What it holds."""
        ...


@dataclass(slots=True)
class _Entry:
    """A registered backend, and what went through this manager."""

    backend: IStorageBackend
    registration: BackendRegistration
    appending: Appending | None
    """The backend, if it takes documents in bulk. Asked once: asking a protocol costs microseconds."""
    measured: Measured | None
    """The backend, if it knows its own statistics."""
    stored: int = 0
    stored_bytes: int = 0
    last: datetime | None = None
    waits: int = 0
    """How often a submission found no room."""
    watched: deque[tuple[int, str, int]] = field(default_factory=deque)
    """Submissions whose STORAGE_COMPLETE is due: last id, source, number of documents."""
    watcher: "asyncio.Task[None] | None" = None


class StorageManager(IStorageManager):
    """The storage manager of the running program.

    Args:
        spine: Events, errors, tasks, time.
        sleep: Waits that many seconds; tests replace it.
    """

    def __init__(self, spine: Spine, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._spine = spine
        self._sleep = sleep
        self._entries: dict[str, _Entry] = {}

    async def register_backend(self, backend: IStorageBackend, config: dict[str, object]) -> str:
        """Register a backend; returns its id. `config` is a `BackendRegistration`.

        Raises:
            ValueError: The configuration is invalid, or the id is taken; nothing is registered.
        """
        try:
            backend_id, registration = check_backend(backend, config, self._entries)
        except ValueError as error:
            await self._spine.errors.report(error, layer=CONFIGURATION, operation="register_backend")
            raise
        self._entries[backend_id] = _Entry(
            backend,
            registration,
            appending=backend if isinstance(backend, Appending) else None,
            measured=backend if isinstance(backend, Measured) else None,
        )
        return backend_id

    async def unregister_backend(self, backend_id: str) -> None:
        """Forget a backend; it stays as connected as it is.

        Raises:
            KeyError: There is no such backend.
        """
        entry = self._entry(backend_id)
        del self._entries[backend_id]
        if entry.watcher is not None:
            entry.watcher.cancel()

    def backend(self, backend_id: str) -> IStorageBackend:
        """The backend of that id.

        Raises:
            KeyError: There is no such backend.
        """
        return self._entry(backend_id).backend

    async def store_data(self, backend_id: str, data: Any) -> StorageLocation:
        """Store one item in a backend; returns when it is durable.

        Raises:
            KeyError: There is no such backend.
            ConnectionError, ValueError, RuntimeError: As `IStorageBackend.store`.
        """
        entry = self._entry(backend_id)
        self._tell(EventType.STORAGE_START, backend_id, count=1)
        try:
            location = await _store(entry, data)
        except Exception as error:
            await self._failed(error, "store", backend_id)
            raise
        entry.stored += 1
        if entry.measured is None:
            entry.stored_bytes += len(to_json(data, fallback=str))
        entry.last = location.created_at
        self._tell(EventType.STORAGE_COMPLETE, backend_id, count=1, location_id=location.location_id)
        return location

    async def start_storing(self, backend_id: str, data: Any) -> str:
        """Store one item in the background; returns a task id. The task's result is the StorageLocation.

        Raises:
            KeyError: There is no such backend.
            RuntimeError: The program is ending.
        """
        self._entry(backend_id)
        task_id, _ = self._spine.start(
            STORAGE, self.store_data(backend_id, data), layer=STORAGE, subject=backend_id
        )
        return task_id

    async def submit(
        self, backend_id: str, documents: Sequence[bytes], *, source: str, vouched: bool = False
    ) -> range:
        """Hand over JSON objects; returns their ids, which are pending. Waits while there is no room.

        Args:
            backend_id: Where to.
            documents: The objects.
            source: Whose they are, for events and errors.
            vouched: They come from a JSON encoder and need not be parsed to make sure.

        Raises:
            KeyError: There is no such backend.
            TypeError: The backend does not take documents in bulk.
            RuntimeError: It is read-only, or cannot take them for another reason than want of room.
        """
        entry = self._entry(backend_id)
        backend = entry.appending
        if backend is None:
            raise TypeError(f"backend {backend_id!r} does not take documents in bulk")
        events = self._spine.events
        if events.has_subscribers(EventType.STORAGE_START):
            self._tell(EventType.STORAGE_START, backend_id, count=len(documents), source_id=source)
        try:
            ids = await self._append(entry, backend, documents, vouched=vouched)
        except Exception as error:
            await self._failed(error, "submit", backend_id, source_id=source)
            raise
        entry.stored += len(documents)
        entry.stored_bytes += sum(map(len, documents))
        entry.last = self._spine.clock.now()
        if documents and events.has_subscribers(EventType.STORAGE_COMPLETE):
            self._watch(backend_id, entry, backend, (ids[-1], source, len(documents)))
        return ids

    async def query_data(self, backend_id: str, criteria: QueryCriteria) -> list[Any]:
        """The items of a backend that match.

        Raises:
            KeyError: There is no such backend.
            ConnectionError, ValueError: As `IStorageBackend.query`.
        """
        entry = self._entry(backend_id)
        try:
            return await entry.backend.query(criteria)
        except Exception as error:
            await self._failed(error, "query", backend_id)
            raise

    async def get_statistics(self, backend_id: str) -> StorageStatistics:
        """What a backend holds; where it does not say, what went to it through this manager.

        Raises:
            KeyError: There is no such backend.
        """
        entry = self._entry(backend_id)
        if entry.measured is not None:
            return await entry.measured.statistics()
        return StorageStatistics(
            backend_id=backend_id,
            stored_count=entry.stored,
            storage_usage_bytes=entry.stored_bytes,
            last_storage_time=entry.last,
        )

    def _entry(self, backend_id: str) -> _Entry:
        try:
            return self._entries[backend_id]
        except KeyError:
            raise KeyError(f"no backend {backend_id!r}") from None

    async def _append(
        self, entry: _Entry, backend: Appending, documents: Sequence[bytes], *, vouched: bool
    ) -> range:
        if entry.registration.read_only:
            raise RuntimeError("the backend is registered as read-only")
        while True:  # others may be quicker to take the room, so once is not enough
            try:
                return backend.append(documents, vouched=vouched)
            except RuntimeError as error:
                # Imported when it happens: a manager of other backends has no need of the buffer.
                from buffer.errors import BufferFull

                if not isinstance(error, BufferFull):
                    raise
                entry.waits += 1
                await backend.room()

    async def _failed(self, error: Exception, operation: str, backend_id: str, **details: Any) -> None:
        await self._spine.errors.report(
            error, layer=STORAGE, operation=operation, critical=True, backend_id=backend_id, **details
        )

    def _tell(self, event_type: EventType, backend_id: str, **data: object) -> None:
        if self._spine.events.has_subscribers(event_type):
            self._spine.events.publish(
                SystemEvent(
                    event_type=event_type,
                    timestamp=self._spine.clock.now(),
                    source="storage_manager",
                    data={"backend_id": backend_id, **data},
                )
            )

    def _watch(
        self, backend_id: str, entry: _Entry, backend: Appending, submission: tuple[int, str, int]
    ) -> None:
        if len(entry.watched) >= _WATCHED_MAX:
            last_id, source, count = entry.watched.pop()
            submission = (max(last_id, submission[0]), source, count + submission[2])
        entry.watched.append(submission)
        if entry.watcher is None:
            _, entry.watcher = self._spine.start(
                "storage-watch",
                self._tell_durable(backend_id, entry, backend),
                layer=STORAGE,
                subject=backend_id,
            )
            entry.watcher.add_done_callback(lambda _: setattr(entry, "watcher", None))

    async def _tell_durable(self, backend_id: str, entry: _Entry, backend: Appending) -> None:
        while entry.watched:
            durable_id = backend.durable_id()
            while entry.watched and entry.watched[0][0] <= durable_id:
                last_id, source, count = entry.watched.popleft()
                self._tell(
                    EventType.STORAGE_COMPLETE, backend_id, count=count, source_id=source, last_id=last_id
                )
            if entry.watched:
                await self._sleep(_DURABLE_POLL_S)


async def _store(entry: _Entry, data: Any) -> StorageLocation:
    if entry.registration.read_only:
        raise RuntimeError("the backend is registered as read-only")
    limit_s = entry.registration.store_timeout_s
    try:
        async with asyncio.timeout(limit_s) as limit:
            return await entry.backend.store(data)
    except TimeoutError as error:
        if limit.expired():
            raise RuntimeError(f"not stored within {limit_s:g} s") from error
        raise
