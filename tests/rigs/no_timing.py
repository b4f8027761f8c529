"""A timing that takes every time as it is, for tests that are about something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.sync.batches import Record


class AsMeasured:
    """Corrects nothing."""

    def linked(self) -> None:
        pass

    def concerns(self, encoded: bytes) -> bool:
        return False

    async def apply(self, records: Sequence[Record]) -> Sequence[Record]:
        return records
