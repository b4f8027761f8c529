"""Sources and steps that could not be made or begun: they say why whenever they should do something, and harm no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.processors.reading_step import ReadingStep
from agent.spine.errors import describe
from collectors.interfaces import IDataSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import NoReturn

    from collectors.models import CollectedData, Reading


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


class UnusableStepError(RuntimeError):
    """A step of a pipeline cannot be made.

    Args:
        where: Which one.
        error: Why not.
    """

    def __init__(self, where: str, error: Exception) -> None:
        super().__init__(f"{where} cannot be used: {describe(error)}")


class UnusableStep(ReadingStep):
    """Stands in its place: it can process no reading, and `on_error` says what becomes of that.

    Args:
        name: The processor's.
        error: Why it cannot be used.
    """

    def __init__(self, name: str, error: UnusableStepError) -> None:
        super().__init__(name)
        self._reason = str(error)

    def apply(self, _reading: Reading) -> NoReturn:
        """Say why not.

        Raises:
            ValueError: Always.
        """
        raise ValueError(self._reason)
