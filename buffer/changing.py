"""Changing and removing what is stored, and what that means to consumers: all of it durable in one step.

What a removal takes from a consumer that did not have it is entered in the loss ledger. What all have,
and ids that are no records, are settled for all where they go.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from buffer.consumers import CONSUMERS
from buffer.edit import DELETED, KEEP, Changes, Edit
from buffer.errors import DiskFault, UnknownRecord
from buffer.lanes import lane_of
from buffer.ledger import Lost
from buffer.loss import Loss
from buffer.naming import READINGS
from buffer.ranges import RangeSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from buffer.consumers import Consumers
    from buffer.filesystem import FileSystem
    from buffer.journal import Journal
    from buffer.ledger import Ledger
    from buffer.log import Log

_REMOVED: Final = "removed"
_TOMBSTONES_MAX: Final = 1_000
_REMOVALS_TOLD_APART: Final = 16
"""A removal of more separate runs of records is one range in the ledger."""

_Rows = list[tuple[str, str, Any]]


class Changing:
    """Changes the records of any table."""

    def __init__(self, journal: Journal, fs: FileSystem, ledger: Ledger, consumers: Consumers) -> None:
        self._journal = journal
        self._fs = fs
        self._ledger = ledger
        self._consumers = consumers

    def edit(
        self, log: Log, change: Callable[[int, dict[str, Any]], Any], ids: set[int] | None = None
    ) -> None:
        """Change records of a table, all or none; see `buffer.edit`.

        Raises:
            DiskFault: The disk refused.
        """
        with self._consumers.paused():
            Edit(log, self._journal, self._fs, partial(self._also, log.table)).run(change, ids)
        self._consumers.recount()

    def clear(self, log: Log) -> None:
        """Remove all records of a table, without reading them.

        Raises:
            DiskFault: The disk refused.
        """
        with self._consumers.paused():
            Edit(log, self._journal, self._fs, partial(self._cleared, log)).clear()
        self._consumers.recount()

    def delete(self, log: Log, record_id: int, flush: Callable[[], None]) -> None:
        """Delete one record, by a tombstone.

        Args:
            log: The table's.
            record_id: Which.
            flush: Makes what waits durable, so that there is something to delete.

        Raises:
            UnknownRecord: There is none of this id.
            DiskFault: The disk refused; the record is still there.
        """
        # Before the lock of this log: it takes those of all, one after the other, as it does in other threads.
        if log.durable_id < record_id < log.next_id:
            flush()
        with log.io:
            # First what an earlier change left undone: its end takes the tombstones that it covers.
            Edit(log, self._journal, self._fs).carry_out()
            found = log.find(record_id) if record_id <= log.durable_id else None
            if found is None:
                raise UnknownRecord(f"no item '{log.table}/{record_id}'")
            tombstones = RangeSet(log.deleted)
            tombstones.add(record_id, record_id)
            losses, rows = self._removed(log.table, [record_id], lane_of(found))
            with self._ledger.entering(losses) as entries:
                self._journal.put([(DELETED, log.table, list(tombstones)), *_of_consumers(rows), *entries])
            self._consumers.written(rows)
            with log.lock:
                log.deleted.add(record_id, record_id)
                log.version += 1
        if len(tombstones) > _TOMBSTONES_MAX:
            with suppress(DiskFault):  # it is deleted all the same; the next one tries again
                self.edit(log, lambda _, __: KEEP)
        self._consumers.recount()

    def write_tombstones(self, log: Log) -> None:
        """Write down which ones damage made needless, if it did.

        Raises:
            DiskFault: The disk refused.
        """
        if log.deleted_unwritten:
            with log.io:
                self._journal.put([(DELETED, log.table, list(log.deleted) or None)])
                log.deleted_unwritten = False

    # -- what it means to consumers

    @contextmanager
    def _also(self, table: str, changes: Changes) -> Iterator[_Rows]:
        """Gives what must become durable together with a change."""
        rows: dict[str, Any] = {}
        for lane, moved in changes.moved.items() if table == READINGS else ():
            if moved:
                rows = self._consumers.moved(moved, lane)
        losses = []
        for lane, ids in changes.removed.items():
            lost, rows_too = self._removed(table, ids, lane)
            losses += lost
            rows |= rows_too
        if table == READINGS:
            holes = RangeSet(changes.emptied)
            for each in chain(*changes.removed.values()):
                holes.discard(each, each)  # live until this is decided
            rows |= self._consumers.gone(holes)
        with self._ledger.entering(losses) as entries:
            yield [*_of_consumers(rows), *entries]
        self._consumers.written(rows)

    def _removed(self, table: str, ids: list[int], lane: str) -> tuple[list[Lost], dict[str, Any]]:
        """What the removal of records costs consumers: those that not all of them have.

        Returns:
            The losses, and rows of consumers that say what all of them have.
        """
        if table != READINGS or not ids or not self._consumers.names():
            return [], {}
        done = self._consumers.done(lane)
        owed, had = RangeSet(), RangeSet()
        for each in ids:
            (had if each in done else owed).add(each, each)
        parts = list(owed)
        if len(parts) > _REMOVALS_TOLD_APART:
            parts = [(parts[0][0], parts[-1][1])]
        losses = [Lost(table, Loss(*part, owed.count_within(*part), _REMOVED), lane) for part in parts]
        return losses, self._consumers.gone(had)

    @contextmanager
    def _cleared(self, log: Log, _: Changes) -> Iterator[_Rows]:
        """Likewise when all records go, unread."""
        losses, rows = [], {}
        if log.table == READINGS and self._consumers.names():
            self._consumers.remember(log.lowest_id, log.durable_id)  # else they would be missed after a crash
            done, holes = self._consumers.done_in_all_lanes(), RangeSet()
            for part in done.missing_within(log.lowest_id, log.durable_id):
                count = log.count(*part)
                if count:
                    losses.append(Lost(log.table, Loss(*part, count, _REMOVED)))
                else:
                    holes.add(*part)
            rows = self._consumers.gone(holes)
        with self._ledger.entering(losses) as entries:
            yield [*_of_consumers(rows), *entries]
        self._consumers.written(rows)


def _of_consumers(rows: dict[str, Any]) -> _Rows:
    return [(CONSUMERS, name, row) for name, row in rows.items()]
