"""The storage layer: where data is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collectors.models import QueryCriteria, StorageLocation, StorageStatistics


class IStorageBackend(ABC):
    """A place that keeps data."""

    @abstractmethod
    async def connect(self) -> None:
        """Open the backend.

        Raises:
            ConnectionError: It cannot be opened.
            ValueError: Its configuration is invalid.
        """

    @abstractmethod
    async def disconnect(self) -> None:
        """Close the backend; everything accepted stays. Harmless after a failed or missing connect.

        Raises:
            ConnectionError: It cannot be closed.
        """

    @abstractmethod
    async def store(self, data: Any) -> StorageLocation:
        """Store one item; returns when it is durable.

        Raises:
            ConnectionError: The backend is not connected.
            ValueError: The data cannot be stored in this form.
            RuntimeError: Storing failed.
        """

    @abstractmethod
    async def query(self, criteria: QueryCriteria) -> list[Any]:
        """The items that match.

        Raises:
            ConnectionError: The backend is not connected.
            ValueError: The criteria make no sense.
        """

    @abstractmethod
    async def delete(self, location_id: str) -> None:
        """Delete one item.

        Raises:
            ConnectionError: The backend is not connected.
            KeyError: There is no such item.
        """

    @abstractmethod
    def get_backend_id(self) -> str:
        """The unique identifier of this backend."""


class IStorageManager(ABC):
    """Manages storage backends."""

    @abstractmethod
    async def register_backend(self, backend: IStorageBackend, config: dict[str, Any]) -> str:
        """Register a backend; returns its id.

        Raises:
            ValueError: The configuration is invalid; nothing is registered.
        """

    @abstractmethod
    async def unregister_backend(self, backend_id: str) -> None:
        """Forget a backend.

        Raises:
            KeyError: There is no such backend.
        """

    @abstractmethod
    async def store_data(self, backend_id: str, data: Any) -> StorageLocation:
        """Store one item in a backend; returns when it is durable.

        Raises:
            KeyError: There is no such backend.
            ConnectionError, ValueError, RuntimeError: As `IStorageBackend.store`.
        """

    @abstractmethod
    async def query_data(self, backend_id: str, criteria: QueryCriteria) -> list[Any]:
        """The items of a backend that match.

        Raises:
            KeyError: There is no such backend.
        """

    @abstractmethod
    async def get_statistics(self, backend_id: str) -> StorageStatistics:
        """What a backend holds.

        Raises:
            KeyError: There is no such backend.
        """
