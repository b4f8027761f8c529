"""A source that could not be made or begun: it says why whenever it should connect, and harms no other source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.spine.errors import describe
from collectors.interfaces import IDataSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from collectors.models import CollectedData


class UnusableSource(IDataSource):
    """Stands in its place.

    Args:
        source_id: Its id.
        error: Why it cannot be used.
    """

    def __init__(self, source_id: str, error: Exception) -> None:
        self._source_id = source_id
        self._reason = f"it cannot be used: {describe(error)}"

    async def connect(self) -> None:
        """Say why not.

        Raises:
            ConnectionError: Always.
        """
        raise ConnectionError(self._reason)

    async def disconnect(self) -> None:
        """Nothing is connected."""

    async def collect(self) -> CollectedData:
        """Say why not.

        Raises:
            ConnectionError: Always.
        """
        raise ConnectionError(self._reason)

    async def collect_stream(self) -> AsyncIterator[CollectedData]:
        """Say why not.

        Raises:
            ConnectionError: Always.
        """
        yield await self.collect()

    def get_source_id(self) -> str:
        """Its id."""
        return self._source_id
