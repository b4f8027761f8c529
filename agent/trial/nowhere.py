"""What takes the buffer's place in a dry run: everything is durable at once, and nothing is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from collectors.interfaces import IStorageBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from collectors.models import QueryCriteria, StorageLocation


class Rows:
    """A small table in memory."""

    def __init__(self) -> None:
        self._rows: dict[str, Any] = {}

    def items(self) -> list[tuple[str, Any]]:
        """All rows."""
        return list(self._rows.items())

    def get(self, key: str) -> Any:
        """One row, or None."""
        return self._rows.get(key)

    async def put(self, key: str, value: Any) -> None:
        """Set a row."""
        self._rows[key] = value

    async def put_all(self, rows: dict[str, Any]) -> None:
        """Set several rows; None removes one."""
        for key, value in rows.items():
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = value


class Nowhere(IStorageBackend):
    """A buffer that keeps nothing.

    Args:
        backend_id: Its identifier.
        on_append: Told of all that it is given: the table, and the documents.
    """

    def __init__(self, backend_id: str, on_append: Callable[[str, Sequence[bytes]], None]) -> None:
        self._backend_id = backend_id
        self._on_append = on_append
        self._last_id = 0
        self._tables: dict[str, Rows] = {}

    def append(
        self,
        documents: Sequence[bytes],
        *,
        table: str = "readings",
        vouched: bool = False,  # noqa: ARG002 (part of the interface; nothing is parsed here)
    ) -> range:
        """Take records."""
        self._on_append(table, documents)
        first = self._last_id + 1
        self._last_id += len(documents)
        return range(first, self._last_id + 1)

    async def room(self, *, table: str = "readings") -> None:
        """There is always room."""

    async def wait_durable(self, last_id: int, *, table: str = "readings") -> None:
        """Nothing is waited for."""

    def durable_id(self, table: str = "readings") -> int:  # noqa: ARG002 (part of the interface)
        """Everything."""
        return self._last_id

    async def flush(self) -> None:
        """Nothing waits."""

    def state(self, name: str) -> Rows:
        """A small table."""
        return self._tables.setdefault(name, Rows())

    async def visit_recent(
        self, n: int, visit: Callable[[int, dict[str, Any]], None], *, table: str = "readings"
    ) -> None:
        """There is nothing to visit."""

    def get_backend_id(self) -> str:
        """The identifier given at construction."""
        return self._backend_id

    async def connect(self) -> None:
        """Nothing is opened."""

    async def disconnect(self) -> None:
        """Nothing is closed."""

    async def store(self, data: Any) -> StorageLocation:
        """Refused: what takes one item at a time expects to find it again.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError(f"a dry run stores nothing, neither this {type(data).__name__}")

    async def query(self, criteria: QueryCriteria) -> list[Any]:  # noqa: ARG002 (part of the interface)
        """Nothing is found."""
        return []

    async def delete(self, location_id: str) -> None:
        """Nothing is there.

        Raises:
            KeyError: Always.
        """
        raise KeyError(f"a dry run stores nothing: {location_id}")
