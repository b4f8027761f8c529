"""The logs of a buffer's tables: opened when they are first used, recovered, and listed."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from buffer.edit import DELETED, EDITS, Edit, finish
from buffer.errors import DiskFault
from buffer.journal import SmallTable
from buffer.log import Log
from buffer.naming import READINGS, directory_name, table_of
from buffer.ranges import RangeSet
from buffer.segment import DamagedSegment, is_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffer.consumers import Consumers
    from buffer.journal import Journal
    from buffer.ledger import Ledger
    from buffer.losses import Losses
    from buffer.missing import MissingFiles
    from buffer.options import BufferOptions
    from buffer.place import Place
    from buffer.quarantine import Quarantine
    from buffer.recovery import Recovered

TABLES: Final = "tables"
"""The small table of tables that were made without a record, or dropped."""


class Logs:
    """All logs that were opened so far, and which tables there are.

    Attributes:
        opened: Those, by their table.
        notes: What was wrong when they were opened, for people to read.
        starting: The buffer itself is still being opened: what cannot be listed is an OSError.
    """

    def __init__(
        self,
        place: Place,
        options: BufferOptions,
        journal: Journal,
        *,
        ledger: Ledger,
        consumers: Consumers,
        losses: Losses,
        quarantine: Quarantine,
        missing: MissingFiles,
        on_missing: Callable[[int], object],
    ) -> None:
        """Make it, without opening any.

        Args:
            place: The buffer's directory.
            options: The buffer's.
            journal: The small tables.
            ledger: What is known to be lost.
            consumers: Of the readings.
            losses: Takes what is found lost.
            quarantine: Takes damaged files.
            missing: Sees which files of the readings are gone.
            on_missing: Called when the last files of the readings are gone, with the id that the next one gets.
        """
        self._missing = missing
        self._on_missing = on_missing
        self._place = place
        self._options = options
        self._journal = journal
        self._ledger = ledger
        self._consumers = consumers
        self._losses = losses
        self._quarantine = quarantine
        self._tables = SmallTable(journal, TABLES)
        self.opened: dict[str, Log] = {}
        self._lock = threading.RLock()
        self.notes: list[str] = []
        self.starting = True

    def of(self, table: str) -> Log:
        """The log behind a table, opened when it is first used.

        Raises:
            DiskFault: It was not used yet, and its directory cannot be listed.
        """
        log = self.opened.get(table)  # the lock may be held for long, by who opens another table
        if log is None:
            with self._lock:
                log = self.opened.get(table)
                if log is None:
                    log = self._open(table)
        return log

    def all(self) -> list[Log]:
        """Those that were opened."""
        return list(self.opened.values())

    # -- which tables there are

    def has(self, table: str) -> bool:
        """Whether a table has files: something was written to it, perhaps by an earlier process.

        Raises:
            DiskFault: Its directory cannot be listed.
        """
        return table in self.opened or self._is_table(directory_name(table))

    def names(self) -> set[str]:
        """The names of all tables that have or had records, or were made without, and were not dropped since.

        Raises:
            DiskFault: The directory, or a table's in it, cannot be listed.
        """
        try:
            directories = self._options.fs.list_directory(self._place.path)
        except OSError as error:
            raise DiskFault(f"{self._place.path} cannot be listed: {error}") from error
        logs = [self.of(table_of(name)) for name in directories if self._is_table(name)]
        known = dict(self._tables.items())
        names = {name for name, row in known.items() if row.get("created")}
        for log in logs:
            if log.ever_used and known.get(log.table, {}).get("dropped_at") != log.next_id:
                names.add(log.table)
        return names

    def note_made(self, table: str) -> None:
        """A table is to be listed though it has no record.

        Raises:
            DiskFault: The disk refused.
        """
        self._tables.put(table, {"created": True})

    def note_dropped(self, table: str) -> None:
        """A table is not to be listed any more, until it gets another record.

        Raises:
            DiskFault: The disk refused.
        """
        self._tables.put(table, {"dropped_at": self.of(table).next_id})

    def _is_table(self, directory: str) -> bool:
        """Whether it is one.

        Raises:
            DiskFault: It cannot be listed.
        """
        try:
            return is_table(self._options.fs, self._place.path, directory)
        except OSError as error:
            raise DiskFault(f"{directory} cannot be listed: {error}") from error

    # -- opening

    def _open(self, table: str) -> Log:
        options = self._options
        needed: set[str] = set()
        try:
            finish(f"{self._place.path}/{directory_name(table)}", table, self._journal, options.fs)
        except DiskFault:  # tried again before the next change
            needed = {name for made, _, new in self._journal.get(EDITS, table) or () for name in (made, new)}
        tombstones = RangeSet(self._journal.get(DELETED, table) or ())

        def take_in(found: Recovered) -> None:
            found.needed = needed
            found.losses = [left for loss in found.losses if (left := loss.without(tombstones))]
            if table == READINGS:
                self._consumers.recovered(found)
                self._missing.look(found)
                unsure = self._journal.damaged and not found.any_active
                if unsure and not found.missing:
                    self.notes.append(
                        f"the small tables in .state may have said that a file of {READINGS} is missing: what comes from now on"
                        " has a new store id"
                    )
                if found.missing or unsure:
                    # Now: what is written from here on hides it from the next opening, should this one not end.
                    self._on_missing(found.next_id)

        try:
            log = Log(
                options.fs,
                self._place.path,
                table,
                segment_bytes=options.segment_bytes,
                pending_bytes_max=options.pending_bytes_max,
                cursor=self._consumers.lowest_mark if table == READINGS else lambda: 0,
                quarantine=self._quarantine,
                losses=self._losses,
                look=self._place.is_here,
                on_recovered=take_in,
            )
        except OSError as error:
            if self.starting:
                raise
            raise DiskFault(f"{table} cannot be opened: {error}") from error
        self.notes += log.recovered.faults
        _hide(log, tombstones)
        log.finish_changes = Edit(log, self._journal, options.fs).carry_out
        self.opened[table] = log
        self._keep_dropped(log)
        return log

    def _keep_dropped(self, log: Log) -> None:
        """A crash skips ids: that must not look as if a table that was dropped, or never used, had had records."""
        row = self._journal.get(TABLES, log.table) or {}
        unused_from = row.get("dropped_at", 1)
        skipped = any(loss.first == unused_from and not loss.count for loss in log.recovered.losses)
        if skipped and not row.get("created") and not any(segment.count for segment in log.segments):
            with suppress(DiskFault):  # it is listed again, then
                self._tables.put(log.table, {"dropped_at": log.next_id})


def _hide(log: Log, tombstones: RangeSet) -> None:
    """Let what was deleted not be seen, as far as it is still there."""
    doubtful = list(log.recovered.damaged)
    for segment in log.segments:
        parts = list(tombstones.within(segment.base, segment.last))
        for first, last in parts:
            log.deleted.add(first, last)
        # Written anew without what was deleted; a crash then kept the tombstones.
        if parts and segment.rev and segment.count <= segment.last - segment.base:
            doubtful.append(segment)
    for segment in doubtful:
        with suppress(DamagedSegment, OSError):  # whoever reads it next will deal with that
            log.forget_strays(segment)
