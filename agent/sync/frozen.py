"""The bounds of batches that were sent and not acknowledged, kept over a restart: a resend is the same batch.

A batch that is full has the same bounds whenever it is taken. One that went before it was full, as live readings do,
would become part of a larger one after a restart; a receiver would recognise its readings all the same, but a cloud
that tells repetitions by a message's key would not. Bounds are written when the connection is lost and when the
program ends, not before each send, which would double what is written to the card. So a power cut while connected forgets those of
live batches, and costs no more than that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from agent.sync.lanes import SendLane

if TYPE_CHECKING:
    from collections.abc import Sequence

Bounds = tuple[SendLane, int, int]
"""Lane, first and last sequence number of a batch."""


class FrozenBounds(Protocol):
    """Where one upstream's are kept."""

    def load(self) -> list[Bounds]:
        """What was saved last; also what has been acknowledged since."""
        ...

    async def save(self, bounds: Sequence[Bounds]) -> None:
        """Keep these, durably. Raises RuntimeError when the disk refuses."""
        ...


class _Table(Protocol):
    def get(self, key: str) -> Any: ...

    async def put(self, key: str, value: Any) -> None: ...


class StoredBounds:
    """Those of one upstream, in a small table of the buffer."""

    def __init__(self, table: _Table, name: str) -> None:
        self._table = table
        self._name = name
        self._saved: list[Bounds] = []

    def load(self) -> list[Bounds]:
        """What was saved last; nothing where it cannot be understood."""
        try:
            self._saved = [
                (SendLane(lane), int(first), int(last))
                for lane, first, last in self._table.get(self._name) or ()
            ]
        except (TypeError, ValueError):
            self._saved = []
        return list(self._saved)

    async def save(self, bounds: Sequence[Bounds]) -> None:
        """Keep these, if they are others."""
        if list(bounds) != self._saved:
            await self._table.put(self._name, [[lane.value, first, last] for lane, first, last in bounds])
            self._saved = list(bounds)
