"""What one upstream would not take and lies on the device as dead letters: its receiver is told, so that it is not taken for lost.

Kept in a small durable table, a row an upstream: `{"<store>": [[first, last, count], ...]}`. What is sent again later and arrives stays
in it, since a number that has come needs no explanation. Bounded: of many, neighbours become one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

ASIDE: Final = "aside"
"""The small table."""
RANGES_MAX: Final = 100
"""Of a store."""

Ranges = tuple[tuple[int, int, int], ...]
"""First and last number and how many of those between, ascending."""


class _Table(Protocol):
    def get(self, key: str) -> Any: ...

    async def put(self, key: str, value: Any) -> None: ...


class SetAside:
    """What one upstream would not take.

    Args:
        table: Keeps it.
        upstream: Its name.
    """

    def __init__(self, table: _Table, upstream: str) -> None:
        self._table = table
        self._upstream = upstream
        self._unsaved: dict[str, Any] | None = None
        """What the disk has not taken yet."""

    def of(self, store_id: str) -> Ranges:
        """The readings of one store."""
        return tuple((first, last, count) for first, last, count in self._row().get(store_id, ()))

    async def add(self, store_id: str, first: int, last: int, count: int) -> None:
        """These were set aside; durable on return. Harmless when repeated.

        Raises:
            RuntimeError: The disk refuses. It is known all the same; a restart before the next addition forgets it.
        """
        known = self.of(store_id)
        if not any(low <= first and last <= high and count <= counted for low, high, counted in known):
            ranges = _bounded(sorted([*known, (first, last, count)]))
            self._unsaved = {**self._row(), store_id: [list(each) for each in ranges]}
        row = self._unsaved
        if row is None:
            return
        await self._table.put(self._upstream, row)
        if self._unsaved is row:
            self._unsaved = None

    def _row(self) -> dict[str, Any]:
        return self._table.get(self._upstream) or {} if self._unsaved is None else self._unsaved


def _bounded(ranges: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Overlapping or adjacent ones together; and the two with the least between them, while there are too many."""
    found: list[tuple[int, int, int]] = []
    for first, last, count in ranges:
        if found and first <= found[-1][1] + 1:
            low, high, counted = found[-1]
            high = max(high, last)
            found[-1] = low, high, min(counted + count, high - low + 1)
        else:
            found.append((first, last, count))
    while len(found) > RANGES_MAX:
        at = min(range(1, len(found)), key=lambda each: found[each][0] - found[each - 1][1])
        (low, _, counted), (_, high, count) = found[at - 1 : at + 1]
        found[at - 1 : at + 1] = [(low, high, counted + count)]
    return found
