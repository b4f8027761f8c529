"""Acknowledgements that sources wait for: each is given once what it stands for is durable.

Nothing here waits for a commit item by item: what wants an acknowledgement queues up with the id of its last record,
and `run` acknowledges in the order they came, as commits return. The queue is as long as what the sources have in
flight, which their connections bound.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Hashable

    from collectors.interfaces import Acknowledging


class Durability(Protocol):
    """Says what is on the disk, whatever the table."""

    def durable_id(self, table: str) -> int:
        """Everything up to this id is durable."""
        ...

    def wait_durable(self, last_id: int, *, table: str) -> Awaitable[None]:
        """Wait until everything up to an id is durable."""
        ...


@dataclass(frozen=True, slots=True)
class _Owed:
    """An acknowledgement that is due once something is durable."""

    table: str
    last_id: int
    """Up to this id the table must be durable."""
    source_id: str
    token: Hashable


class Acknowledgements:
    """Gives them.

    Args:
        disk: Says what is durable.
    """

    def __init__(self, disk: Durability) -> None:
        self._disk = disk
        self._sources: dict[str, Acknowledging] = {}
        self._owed: deque[_Owed] = deque()
        self._wanted = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()

    def give_to(self, source_id: str, source: Acknowledging) -> None:
        """Tell this source when what it delivered is safe."""
        self._sources[source_id] = source

    def owe(self, source_id: str, token: Hashable | None, need: tuple[str, int]) -> None:
        """An acknowledgement is due to a source once a table is durable up to an id; None: it waits for none."""
        if token is not None:
            self._owed.append(_Owed(*need, source_id, token))
            self._settled.clear()
            self._wanted.set()

    @property
    def are_due(self) -> bool:
        """Whether any is owed."""
        return bool(self._owed)

    async def run(self) -> None:
        """Acknowledge what has become durable, until cancelled."""
        while True:
            while self._owed:  # first, since what was owed when an earlier run failed is owed still
                # Waiting for the newest of a table lets one commit serve all that came before it.
                table = self._owed[0].table
                last_id = max(owed.last_id for owed in self._owed if owed.table == table)
                await self._disk.wait_durable(last_id, table=table)
                self._acknowledge_durable()
            self._settled.set()
            await self._wanted.wait()
            self._wanted.clear()

    def _acknowledge_durable(self) -> None:
        while self._owed and self._owed[0].last_id <= self._disk.durable_id(self._owed[0].table):
            owed = self._owed.popleft()
            self._sources[owed.source_id].acknowledge(owed.token)

    async def settled(self) -> None:
        """Wait until every acknowledgement that was due has been given."""
        await self._settled.wait()
