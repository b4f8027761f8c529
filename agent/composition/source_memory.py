"""The notes of a source, in the buffer's small tables (`collectors.interfaces.Memory`)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from buffer import StoreError

if TYPE_CHECKING:
    from agent.redelivery import StateTable

_log = logging.getLogger(__name__)


class SourceMemory:
    """What one source remembers over restarts.

    Args:
        table: A small durable table.
        source_id: Whose notes they are.
    """

    def __init__(self, table: StateTable, source_id: str) -> None:
        self._table = table
        self._source_id = source_id

    def recall(self) -> dict[str, Any]:
        """What was noted last; empty when nothing was."""
        row = self._table.get(self._key)
        return dict(row) if isinstance(row, dict) else {}

    async def note(self, notes: dict[str, Any]) -> None:
        """Put these in the place of all earlier notes. A disk that takes nothing keeps no source from working."""
        try:
            await self._table.put(self._key, notes)
        except (StoreError, OSError) as error:
            _log.warning(
                "source %s: what it should know after a restart is not kept: %s", self._source_id, error
            )

    @property
    def _key(self) -> str:
        return f"source:{self._source_id}"
