"""Losses on their way into the ledger.

What tells of a loss on disk (a damaged file, a torn end, the last id before a gap) stays until the
ledger has it: else a crash between the two would make it a silent one. So whoever is about to remove
such a thing notes the loss first, and then insists that it is entered.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffer.ledger import Ledger
    from buffer.loss import Loss
    from buffer.ranges import RangeSet


class Losses:
    """What is still to be entered. Thread-safe."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        done: Callable[[str], RangeSet],
        named: Callable[[str], int],
        on_entered: Callable[[], None],
    ) -> None:
        """Make it.

        Args:
            ledger: Where they go.
            done: Gives the ids of a table that everybody has.
            named: Gives the highest id of a table that other small tables name.
            on_entered: Called after each.
        """
        self._ledger = ledger
        self._named = named
        self._done = done
        self._on_entered = on_entered
        self._waiting: list[tuple[str, Loss]] = []
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def note(self, table: str, loss: Loss) -> None:
        """There is a loss; it is in memory only. Noting it again is harmless."""
        # What everybody has is none: only local history is the poorer.
        owed: Loss | None = loss
        if loss.count:
            done = self._done(table)
            owed = None if done.covers(loss.first, loss.last) else loss.beyond(done.first_missing(1) - 1)
        if owed is not None and (table, owed) not in self._waiting:
            self._waiting.append((table, owed))

    def enter(self) -> None:
        """Enter all that was noted, each of them once, though several threads do this.

        Raises:
            DiskFault: The disk refused; what is left is tried again the next time.
        """
        with self._lock:
            while self._waiting:
                table, loss = self._waiting[0]
                self._ledger.add(table, loss, once=True)  # perhaps it was entered just before a crash
                del self._waiting[0]
                self._on_entered()

    def unexplained(self, table: str, first: int, last: int) -> list[tuple[int, int]]:
        """The ids of which the ledger says nothing, as ranges."""
        return list(self._ledger.unexplained(table, first, last))

    def lacking(self, table: str, first: int, last: int) -> list[tuple[int, int]]:
        """Likewise those that not everybody has."""
        done = self._done(table)
        found = self.unexplained(table, first, last)
        return [part for low, high in found for part in done.missing_within(low, high)]

    def highest(self, table: str) -> int:
        """The highest id of a table that was entered, or that other small tables name."""
        return max(self._ledger.highest(table), self._named(table))


class SeenLosses(Losses):
    """Losses that somebody who only looks comes to: told, never entered."""

    def __init__(self, tell: Callable[[Loss], None]) -> None:
        """Make it.

        Args:
            tell: Is told each.
        """
        self._tell = tell

    def note(self, table: str, loss: Loss) -> None:  # noqa: ARG002 (there is but one table)
        """There is a loss."""
        self._tell(loss)

    def enter(self) -> None:
        """Nothing is written."""

    def unexplained(self, table: str, first: int, last: int) -> list[tuple[int, int]]:  # noqa: ARG002 (likewise)
        """All of them: nothing is compared with what was entered."""
        return [(first, last)]

    def lacking(self, table: str, first: int, last: int) -> list[tuple[int, int]]:
        """Likewise."""
        return self.unexplained(table, first, last)

    def highest(self, table: str) -> int:  # noqa: ARG002 (likewise)
        """Nothing is given out here."""
        return 0
