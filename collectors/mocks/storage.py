"""Mocks of the storage layer."""

import asyncio
import itertools
import json
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json

from collectors.criteria import select
from collectors.enums import ErrorType, EventType, TaskStatus
from collectors.interfaces import IStorageBackend, IStorageLayerFactory, IStorageManager
from collectors.mocks.crosscutting import Surroundings
from collectors.mocks.faults import Faults
from collectors.models import QueryCriteria, Reading, StorageLocation, StorageStatistics
from collectors.registration import BackendRegistration, check_backend


class MockStorageBackend(Faults, IStorageBackend):
    """Keeps items in memory, as JSON, so that it takes and gives what a real one would.

    Args:
        backend_id: Its identifier.
    """

    def __init__(self, backend_id: str) -> None:
        super().__init__()
        self.backend_id = backend_id
        self.connected = False
        self._items: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._last: datetime | None = None

    @property
    def items(self) -> list[dict[str, Any]]:
        """What is stored, in the order it came."""
        return [json.loads(text) for text in self._items.values()]

    async def connect(self) -> None:
        """Open the backend.

        Raises:
            ConnectionError, ValueError: If so injected.
        """
        self._enter("connect")
        self.connected = True

    async def disconnect(self) -> None:
        """Close the backend; what is stored stays.

        Raises:
            ConnectionError: If so injected.
        """
        self._enter("disconnect")
        self.connected = False

    async def store(self, data: Any) -> StorageLocation:
        """Store one item: a JSON object, a Reading or another model.

        Raises:
            ConnectionError: The backend is not connected.
            ValueError: JSON cannot hold it.
            RuntimeError: If so injected.
        """
        self._enter("store")
        self._connected()
        if isinstance(data, Reading):
            data = data.to_document()
        elif isinstance(data, BaseModel):
            data = data.model_dump(mode="json")
        if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
            raise ValueError(f"only JSON objects can be stored, not {data!r}")
        try:
            text = json.dumps(data, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"JSON cannot hold this: {error}") from error
        location_id = str(next(self._numbers))
        self._items[location_id] = text
        self._last = datetime.now(UTC)
        return StorageLocation(
            backend_id=self.backend_id,
            location_id=location_id,
            path=f"memory://{self.backend_id}/{location_id}",
            created_at=self._last,
        )

    async def query(self, criteria: QueryCriteria) -> list[Any]:
        """The items that match; see `collectors.criteria` for the filters.

        Raises:
            ConnectionError: The backend is not connected.
            ValueError: The criteria make no sense.
        """
        self._enter("query")
        self._connected()
        records = zip(self._items, self.items, strict=True)
        return [item for _, item in select(records, criteria)]

    async def delete(self, location_id: str) -> None:
        """Delete one item.

        Raises:
            ConnectionError: The backend is not connected.
            KeyError: There is no such item.
        """
        self._enter("delete")
        self._connected()
        if self._items.pop(location_id, None) is None:
            raise KeyError(f"no item {location_id!r}")

    async def statistics(self) -> StorageStatistics:
        """What is stored."""
        return StorageStatistics(
            backend_id=self.backend_id,
            stored_count=len(self._items),
            storage_usage_bytes=sum(len(text.encode()) for text in self._items.values()),
            last_storage_time=self._last,
        )

    def get_backend_id(self) -> str:
        """The identifier given at construction."""
        return self.backend_id

    def _connected(self) -> None:
        if not self.connected:
            raise ConnectionError(f"backend {self.backend_id!r} is not connected")


class MockStorageManager(Faults, IStorageManager):
    """Hands items to backends and keeps where they went.

    Args:
        surroundings: What it reports to.
    """

    def __init__(self, surroundings: Surroundings | None = None) -> None:
        super().__init__()
        self.surroundings = surroundings or Surroundings()
        self.backends: dict[str, tuple[IStorageBackend, BackendRegistration]] = {}
        self.stored: list[StorageLocation] = []
        """Where everything went, in order."""
        self._statistics: dict[str, StorageStatistics] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def register_backend(self, backend: IStorageBackend, config: dict[str, Any]) -> str:
        """Register a backend; returns its id.

        Raises:
            ValueError: The configuration is invalid, or the id is taken; nothing is registered.
        """
        self._enter("register_backend")
        try:
            backend_id, registration = check_backend(backend, config, self.backends)
        except ValueError as error:
            await self.surroundings.report(
                error,
                layer="configuration",
                operation="register_backend",
                error_type=ErrorType.CONFIGURATION,
            )
            raise
        self.backends[backend_id] = (backend, registration)
        self._statistics[backend_id] = StorageStatistics(backend_id=backend_id)
        return backend_id

    async def unregister_backend(self, backend_id: str) -> None:
        """Forget a backend.

        Raises:
            KeyError: There is no such backend.
        """
        self._enter("unregister_backend")
        self._backend(backend_id)
        del self.backends[backend_id]
        del self._statistics[backend_id]

    async def store_data(self, backend_id: str, data: Any) -> StorageLocation:
        """Store one item in a backend.

        Raises:
            KeyError: There is no such backend.
            ConnectionError, ValueError, RuntimeError: As `IStorageBackend.store`.
        """
        self._enter("store_data")
        backend, registration = self._backend(backend_id)
        await self.surroundings.tell(EventType.STORAGE_START, "storage_manager", backend_id=backend_id)
        try:
            location = await _store(backend, registration, data)
        except Exception as error:
            await self._failed(error, "store", backend_id)
            raise
        self.stored.append(location)
        statistics = self._statistics[backend_id]
        statistics.stored_count += 1
        statistics.storage_usage_bytes += len(to_json(data, fallback=str))
        statistics.last_storage_time = location.created_at
        await self.surroundings.tell(
            EventType.STORAGE_COMPLETE,
            "storage_manager",
            backend_id=backend_id,
            location_id=location.location_id,
        )
        return location

    async def start_storing(self, backend_id: str, data: Any) -> str:
        """Store one item in the background; returns a task id. The task's result is the StorageLocation.

        Raises:
            KeyError: There is no such backend.
        """
        self._enter("start_storing")
        self._backend(backend_id)
        task_id = await self.surroundings.tasks.create_task("storage")
        await self.surroundings.tasks.update_status(task_id, TaskStatus.RUNNING)
        running = asyncio.create_task(self._run(task_id, backend_id, data), name=f"mock-storage:{backend_id}")
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return task_id

    async def query_data(self, backend_id: str, criteria: QueryCriteria) -> list[Any]:
        """The items of a backend that match.

        Raises:
            KeyError: There is no such backend.
        """
        self._enter("query_data")
        backend, _ = self._backend(backend_id)
        try:
            return await backend.query(criteria)
        except Exception as error:
            await self._failed(error, "query", backend_id)
            raise

    async def get_statistics(self, backend_id: str) -> StorageStatistics:
        """What was stored in a backend through this manager.

        Raises:
            KeyError: There is no such backend.
        """
        self._enter("get_statistics")
        self._backend(backend_id)
        return self._statistics[backend_id].model_copy()

    def _backend(self, backend_id: str) -> tuple[IStorageBackend, BackendRegistration]:
        try:
            return self.backends[backend_id]
        except KeyError:
            raise KeyError(f"no backend {backend_id!r}") from None

    async def _run(self, task_id: str, backend_id: str, data: Any) -> None:
        try:
            location = await self.store_data(backend_id, data)
        except Exception as error:  # noqa: BLE001 (store_data reported it; the task says so)
            self.surroundings.tasks.finish(task_id, error=str(error) or type(error).__name__)
        else:
            self.surroundings.tasks.finish(task_id, result=location)

    async def _failed(self, error: Exception, operation: str, backend_id: str) -> None:
        await self.surroundings.report(
            error,
            layer="storage",
            operation=operation,
            error_type=ErrorType.STORAGE,
            critical=True,
            backend_id=backend_id,
        )


async def _store(backend: IStorageBackend, registration: BackendRegistration, data: Any) -> StorageLocation:
    if registration.read_only:
        raise RuntimeError("the backend is registered as read-only")
    try:
        async with asyncio.timeout(registration.store_timeout_s) as limit:
            return await backend.store(data)
    except TimeoutError as error:
        if limit.expired():
            raise RuntimeError("not stored in time") from error
        raise


class MockStorageLayerFactory(IStorageLayerFactory):
    """Makes mocks of the storage layer.

    Args:
        surroundings: What they report to.
    """

    def __init__(self, surroundings: Surroundings | None = None) -> None:
        self.surroundings = surroundings or Surroundings()

    def create_storage_manager(self) -> MockStorageManager:
        """A mock storage manager."""
        return MockStorageManager(self.surroundings)
