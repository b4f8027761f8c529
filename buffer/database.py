"""`BufferDB`: a TinyDB over a directory of segments, with groups of inserts made durable together."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, Final

from tinydb import TinyDB

from buffer.capacity import ByteRate, Capacity
from buffer.committer import Committer
from buffer.consumers import CONSUMERS, Consumer, Consumers, Record
from buffer.edit import DELETED, EDITS, KEEP, Changes, Edit, finish
from buffer.encoding import checked, trusted
from buffer.errors import BufferClosed, BufferLocked, DiskFault, UnknownRecord
from buffer.identity import Identities, Identity
from buffer.journal import Journal, SmallTable
from buffer.lanes import ALARM, NORMAL, lane_of
from buffer.ledger import Ledger, Lost
from buffer.log import Log
from buffer.losses import Losses
from buffer.naming import directory_name, is_segment, table_of
from buffer.options import CHANGEABLE, BufferOptions
from buffer.quarantine import Quarantine
from buffer.ranges import RangeSet
from buffer.recovery import Loss, Recovered
from buffer.retention import Retention
from buffer.segment import DamagedSegment
from buffer.selection import Found, Query, criteria_of
from buffer.summaries import Summaries
from buffer.table import BufferStorage, BufferTable
from buffer.version import raise_mark, require_readable
from buffer.wear import WEAR, Wear, WearMeter, wear_of
from collectors.models import QueryCriteria

_log = logging.getLogger(__name__)

READINGS: Final = "readings"
DEAD_LETTERS: Final = "dead_letters"
_TOMBSTONES_MAX: Final = 1_000
_REMOVALS_TOLD_APART: Final = 16
"""A removal of more separate runs of records is one range in the ledger."""


class BufferDB(TinyDB):
    """A TinyDB whose inserts are made durable in groups, and whose records consumers take out.

    Thread-safe. Its files are TinyDB databases, each of them, after every commit.

    Attributes:
        options: What it was opened with.
        ledger: What will never be delivered, and why.
        notes: What was wrong at opening, for people to read; also logged as warnings.
    """

    table_class = BufferTable
    default_table_name = READINGS

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Open a buffer, and recover what a crash left. Never fails for what is in the files.

        Args:
            path: Its directory; made when missing.
            **options: The fields of `BufferOptions`.

        Raises:
            BufferLocked: Another process has it open.
            UnknownFormat: A newer version wrote it, in a format that this one cannot read; nothing is touched.
            OSError: The directory cannot be made or read at all.
            ValueError: An option makes no sense.
        """
        self.options = BufferOptions(**options)
        self.path = os.fspath(path)
        fs = self.options.fs
        require_readable(fs, self.path)
        fs.make_directory(self.path)
        try:
            self._lock_handle = fs.lock(f"{self.path}/.lock")
        except BlockingIOError as error:
            raise BufferLocked(f"{self.path} is open in another process") from error
        self._opened = False
        try:
            self._open()
        except BaseException:
            fs.close(self._lock_handle)
            raise

    def _open(self) -> None:
        options = self.options
        with suppress(OSError):  # the next opening does it
            raise_mark(options.fs, self.path)
        self._logs: dict[str, Log] = {}
        self._logs_lock = threading.RLock()
        self._place_lock = threading.Lock()
        self._quarantine = Quarantine(options.fs, f"{self.path}/.quarantine", options.quarantine_files_max)
        self.journal = Journal(options.fs, f"{self.path}/.state", set_aside=self._quarantine.take)
        self.notes: list[str] = []
        self._state_fault: str | None = None
        self._identities = Identities(self.small_table("identity"), options.device_id, options.machine_id)
        self.ledger = Ledger(
            self.journal,
            READINGS,
            lambda: options.clock.now().timestamp(),
            lambda record_id: epoch.store_id if (epoch := self._identities.of(record_id)) else "",
        )
        self._consumers = Consumers(
            lambda: self.log(READINGS), self.small_table(CONSUMERS), self._identities.epochs
        )
        self._losses = Losses(
            self.ledger,
            done=lambda table: self._done() if table == READINGS else RangeSet(),
            on_entered=self._consumers.recount,
        )
        self._storage = BufferStorage(self)
        self._tables = {}
        readings = self.log(READINGS)
        self._identities.begin(readings.next_id)
        self._note_lost_state(readings)
        self._summaries = Summaries(options.fs, self.path, readings)
        self._retention = Retention(self, readings, self._consumers, self.journal)
        self._wear = WearMeter(self.small_table(WEAR), options.clock)
        self._rate = ByteRate(options.clock.monotonic_s())
        self._committer = Committer(self, window_s=options.gather_s, report=self._report)
        self._opened = True
        for note in self.notes:
            _log.warning("the buffer in %s: %s", self.path, note)
        if options.threaded:
            self._committer.start()

    def _note_lost_state(self, readings: Log) -> None:
        if self.journal.damaged:
            self.notes.append("the small tables in .state are damaged or torn: what can be read is used")
        if self._identities.lost and any(segment.count for segment in readings.segments):
            self.notes.append(
                f"the identity in .state is lost: all readings get the new store id {self.store_id}, so that"
                " a receiver takes those sent again for new ones; what upstreams acknowledged is known in part"
            )

    # -- TinyDB's own

    def __repr__(self) -> str:
        counts = {name: len(self.table(name)) for name in self.tables()} if self._opened else "closed"
        return f"<BufferDB path={self.path!r} tables={counts}>"

    @property
    def store_id(self) -> str:
        """The random identity of this store, part of every record's key."""
        return self.epochs[-1].store_id

    @property
    def epochs(self) -> list[Identity]:
        """Whose records these are, ascending; the last one is the present identity."""
        return self._identities.epochs

    def edit(
        self,
        change: Callable[[int, dict[str, Any]], Any],
        ids: set[int] | None = None,
        *,
        table: str = READINGS,
    ) -> None:
        """Change records of a table, all or none; see `buffer.edit`.

        Raises:
            DiskFault: The disk refused.
        """
        self.require_open()
        self._identities.write()
        log = self.log(table)
        with self._consumers.paused():
            Edit(log, self.journal, self.options.fs, partial(self._also, table)).run(change, ids)
        self._consumers.recount()

    @contextmanager
    def _also(self, table: str, changes: Changes) -> Iterator[list[tuple[str, str, Any]]]:
        """Gives what must become durable together with a change: what it means to consumers."""
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
        with self.ledger.entering(losses) as entries:
            yield [*((CONSUMERS, name, row) for name, row in rows.items()), *entries]
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
        losses = [Lost(table, Loss(*part, owed.count_within(*part), "removed"), lane) for part in parts]
        return losses, self._consumers.gone(had)

    def clear(self, *, table: str = READINGS) -> None:
        """Remove all records of a table, without reading them. Ids go on counting.

        Raises:
            DiskFault: The disk refused.
        """
        self.require_open()
        self._identities.write()
        log = self.log(table)
        with self._consumers.paused():
            Edit(log, self.journal, self.options.fs, partial(self._cleared, log)).clear()
        self._consumers.recount()

    @contextmanager
    def _cleared(self, log: Log, _: Changes) -> Iterator[list[tuple[str, str, Any]]]:
        losses, rows = [], {}
        if log.table == READINGS and self._consumers.names():
            self._consumers.remember(log.lowest_id, log.durable_id)  # else they would be missed after a crash
            done, holes = self._done(), RangeSet()
            for part in done.missing_within(log.lowest_id, log.durable_id):
                count = log.count(*part)
                if count:
                    losses.append(Lost(log.table, Loss(*part, count, "removed")))
                else:
                    holes.add(*part)
            rows = self._consumers.gone(holes)
        with self.ledger.entering(losses) as entries:
            yield [*((CONSUMERS, name, row) for name, row in rows.items()), *entries]
        self._consumers.written(rows)

    def table(self, name: str, **kwargs: Any) -> BufferTable:
        """Access to a table, made when it is first used."""
        if name not in self._tables:
            kwargs.setdefault("cache_size", 0)
            if kwargs.pop("persist_empty", False):
                self.small_table("tables").put(name, {"created": True})
            self._tables[name] = BufferTable(self._storage, name, **kwargs)
        table = self._tables[name]
        assert isinstance(table, BufferTable)
        return table

    def tables(self) -> set[str]:
        """The names of all tables that have or had records."""
        return self.table_names()

    def table_names(self) -> set[str]:
        """The names of all tables that have or had records, and were not dropped since.

        Raises:
            BufferClosed: The buffer is closed.
            DiskFault: The directory cannot be listed.
        """
        self.require_open()
        try:
            directories = self.options.fs.list_directory(self.path)
        except OSError as error:
            raise DiskFault(f"{self.path} cannot be listed: {error}") from error
        logs = [self.log(table_of(name)) for name in directories if self._is_table(name)]
        known = dict(self.small_table("tables").items())
        names = {name for name, row in known.items() if row.get("created")}
        for log in logs:
            if log.ever_used and known.get(log.table, {}).get("dropped_at") != log.next_id:
                names.add(log.table)
        return names

    def drop_table(self, name: str) -> None:
        """Remove all records of a table. Ids are never reused, so the next record goes on counting."""
        if name in self.table_names():
            self.clear(table=name)
            self.small_table("tables").put(name, {"dropped_at": self.log(name).next_id})
        self._tables.pop(name, None)

    def drop_tables(self) -> None:
        """Remove all records of all tables."""
        for name in self.table_names():
            self.drop_table(name)
        self._tables.clear()

    def close(self) -> None:
        """Commit what waits, and close. Harmless when repeated.

        Raises:
            DiskFault: What waited could not be made durable.
        """
        if not self._opened:
            return
        self._opened = False
        self._committer.stop()
        failure: DiskFault | None = None
        for step in (
            self._identities.write,
            *(log.close for log in self._all_logs()),
            self._consumers.persist,
            self._write_tombstones,
            self.journal.settle,
            self._write_wear,
        ):
            try:
                step()
            except DiskFault as fault:
                failure = fault
        self.journal.close()
        self.options.fs.close(self._lock_handle)
        for log in self._all_logs():
            log.tell()
        if failure is not None:
            raise failure

    # -- parts

    def log(self, table: str) -> Log:
        """The log behind a table, opened when it is first used.

        Raises:
            DiskFault: It was not used yet, and its directory cannot be listed.
        """
        log = self._logs.get(table)  # the lock may be held for long, by who opens another table
        if log is None:
            with self._logs_lock:
                log = self._logs.get(table)
                if log is None:
                    log = self._open_log(table)
        return log

    def has_log(self, table: str) -> bool:
        """Whether a table has files: something was written to it, perhaps by an earlier process."""
        return table in self._logs or self._is_table(directory_name(table))

    def _is_table(self, directory: str) -> bool:
        """Whether it is one: others put things into the buffer's directory, a socket or `lost+found`."""
        if directory.startswith("."):
            return False
        try:
            names = self.options.fs.list_directory(f"{self.path}/{directory}")
        except OSError:
            return False
        return any(map(is_segment, names))

    def _open_log(self, table: str) -> Log:
        options = self.options
        needed: set[str] = set()
        try:
            finish(f"{self.path}/{directory_name(table)}", table, self.journal, options.fs)
        except DiskFault:  # tried again before the next change
            needed = {name for made, _, new in self.journal.get(EDITS, table) or () for name in (made, new)}

        tombstones = RangeSet(self.journal.get(DELETED, table) or ())

        def take_in(found: Recovered) -> None:
            found.needed = needed
            found.losses = [left for loss in found.losses if (left := loss.without(tombstones))]
            if table == READINGS:
                self._consumers.recovered(found)
                found.losses += list(self._gaps(found))

        try:
            log = Log(
                options.fs,
                self.path,
                table,
                segment_bytes=options.segment_bytes,
                pending_bytes_max=options.pending_bytes_max,
                cursor=self._consumers.lowest_mark if table == READINGS else lambda: 0,
                quarantine=self._quarantine,
                losses=self._losses,
                look=self._is_here,
                on_recovered=take_in,
            )
        except OSError as error:
            if not self._opened:
                raise
            raise DiskFault(f"{table} cannot be opened: {error}") from error
        self.notes += log.recovered.faults
        for segment in log.segments:
            for first, last in tombstones.within(segment.base, segment.last):
                log.deleted.add(first, last)
        for segment in log.recovered.damaged:
            with suppress(DamagedSegment, OSError):  # whoever reads it next will deal with that
                log.forget_strays(segment)
        log.finish_changes = Edit(log, self.journal, options.fs).carry_out
        self._logs[table] = log
        self._keep_dropped(log)
        return log

    def _gaps(self, found: Recovered) -> Iterator[Loss]:
        """Ids of readings that nothing accounts for: somebody removed files while the buffer was closed.

        Without consumers nobody is owed anything, and records are removed without an entry.
        """
        if not self._consumers.names():
            return
        accounted_for = self._done()
        for loss in found.losses:
            accounted_for.add(loss.first, loss.last)
        following = self._consumers.since + 1
        for segment in found.segments:
            for low, high in self.ledger.unexplained(READINGS, following, segment.base - 1):
                for part in accounted_for.missing_within(low, high):
                    yield Loss(*part, part[1] - part[0] + 1, "file missing")
            following = max(following, segment.last + 1)

    def _keep_dropped(self, log: Log) -> None:
        """A crash skips ids: that must not look as if a table that was dropped, or never used, had had records."""
        row = self.journal.get("tables", log.table) or {}
        unused_from = row.get("dropped_at", 1)
        skipped = any(loss.first == unused_from and not loss.count for loss in log.recovered.losses)
        if skipped and not row.get("created") and not any(segment.count for segment in log.segments):
            with suppress(DiskFault):  # it is listed again, then
                self.small_table("tables").put(log.table, {"dropped_at": log.next_id})

    def _all_logs(self) -> list[Log]:
        return list(self._logs.values())

    def renew_state(self) -> None:
        """Write all small tables to a new file; damaged ones go to the quarantine.

        Raises:
            DiskFault: The disk refused.
        """
        self.require_open()
        self.journal.renew()

    def small_table(self, name: str) -> SmallTable:
        """A small durable table: keys to JSON objects."""
        return SmallTable(self.journal, name)

    # -- storing

    def insert_json(
        self, documents: Sequence[bytes], *, table: str = READINGS, vouched: bool = False
    ) -> range:
        """Append JSON objects as they are; the fast way in. Pending when it returns, unless sync is 'each'.

        Args:
            documents: The objects.
            table: Where to.
            vouched: They were just made by a JSON encoder, so they are not parsed to make sure. One
                that is no JSON object then makes its frame unreadable.

        Raises:
            InvalidDocument: One is not a JSON object; none was appended.
            BufferFull: Too much waits already; none was appended.
            BufferClosed: The buffer is closed.
        """
        documents, size = trusted(documents) if vouched else checked(documents)
        ids = self.append_checked(documents, size, table=table)
        if self.options.sync == "each":
            self.flush()
        return ids

    def append_checked(self, documents: Sequence[bytes], size: int, *, table: str) -> range:
        """Append what `encoding.checked` gave. Never touches the disk.

        Raises:
            BufferFull, BufferClosed: As `insert_json`.
        """
        self.require_open()
        ids = (self._logs.get(table) or self.log(table)).append(documents, size)
        if self.options.threaded:
            self._committer.arrived(size)
        return ids

    def arrived(self, size: int) -> None:
        """Tell the committer that something waits."""
        if self.options.threaded:
            self._committer.arrived(size)

    def require_open(self) -> None:
        """Raises BufferClosed when it is not open."""
        if not self._opened:
            raise BufferClosed(f"the buffer at {self.path} is closed")

    def flush(self) -> None:
        """Make everything inserted so far durable.

        Raises:
            DiskFault: The disk refused; it is tried again by itself.
        """
        self.require_open()
        self.commit()
        self._committer.relax()

    def wait_durable(self, record_id: int, *, table: str = READINGS) -> None:
        """Return when a record is durable, sharing the commit with those who come at the same time.

        Raises:
            BufferClosed: The buffer was closed first.
        """
        log = self.log(table)
        if not self.options.threaded:
            while log.durable_id < record_id:
                self.flush()
            return
        event = threading.Event()
        log.listen(event.set)
        try:
            self.hurry()
            while log.durable_id < record_id:
                self.require_open()
                event.wait()
                event.clear()
        finally:
            log.unlisten(event.set)

    def hurry(self, waiters: int = 1) -> None:
        """Somebody waits for a commit."""
        if self.options.threaded:
            self._committer.hurry(waiters)

    def durable_id(self, table: str = READINGS) -> int:
        """Every record of a table up to this id is on disk."""
        return self.log(table).durable_id

    def delete(self, record_id: int, *, table: str = READINGS) -> None:
        """Delete one record; durable when it returns.

        Its bytes stay in their segment under a tombstone until the segment goes or is written anew.

        Raises:
            UnknownRecord: There is none of this id.
            DiskFault: The disk refused; the record is still there.
        """
        self.require_open()
        log = self.log(table)
        with log.io:
            # First what an earlier change left undone: its end takes the tombstones that it covers.
            Edit(log, self.journal, self.options.fs).carry_out()
            found = log.find(record_id)
            if found is None:
                raise UnknownRecord(f"no item '{table}/{record_id}'")
            if record_id > log.durable_id:
                self.flush()
            ranges = RangeSet(log.deleted)
            ranges.add(record_id, record_id)
            losses, rows = self._removed(table, [record_id], lane_of(found))
            with self.ledger.entering(losses) as entries:
                known = [(CONSUMERS, name, row) for name, row in rows.items()]
                self.journal.put([(DELETED, table, list(ranges)), *known, *entries])
            self._consumers.written(rows)
            with log.lock:
                log.deleted.add(record_id, record_id)
                log.version += 1
        if len(ranges) > _TOMBSTONES_MAX:
            self.edit(lambda _, __: KEEP, table=table)
        self._consumers.recount()

    # -- what the committer calls

    def commit(self) -> None:
        """Commit all that waits, within the limits.

        Raises:
            DiskFault: The disk refused.
        """
        waiting, sound, tombstones = [], True, False
        for log in self._all_logs():
            tombstones = tombstones or log.deleted_unwritten
            if log.waits:
                waiting.append(log)
                sound = sound and not log.fault
        # Each file that is written is looked for by itself, so the whole place need not be.
        if not (waiting and sound):
            self._check_place()
        try:
            self._commit(waiting)
        except DiskFault:
            if not self._check_place():
                raise
            self._commit(waiting)
        if tombstones:
            with suppress(DiskFault):  # tried again with the next commit
                self._write_tombstones()
        if self._losses:
            with suppress(DiskFault):  # likewise
                self._losses.enter()

    def _commit(self, logs: list[Log]) -> None:
        self._identities.write()
        for log in logs:
            self._retention.commit(log)

    def _write_tombstones(self) -> None:
        """Write down which ones damage made needless."""
        for log in self._all_logs():
            if log.deleted_unwritten:
                with log.io:
                    self.journal.put([(DELETED, log.table, list(log.deleted) or None)])
                    log.deleted_unwritten = False

    def maintain(self) -> None:
        """Write down what is written lazily, and let go of what nobody needs.

        Raises:
            DiskFault: The disk refused.
        """
        self._check_place()
        self.journal.check_place()
        for log in self._all_logs():
            log.check_place()
            log.tidy()
        self._consumers.persist()
        self._wear.write(self.bytes_written)
        self.capacity()  # takes a sample of the rate
        self._retention.trim()
        self._summaries.maintain(self._committer.busy if self.options.threaded else lambda: False)

    def _check_place(self) -> bool:
        """When somebody removed the buffer's directory, make it again, and enter what went with it.

        Returns:
            Whether it was removed.

        Raises:
            DiskFault: The disk refused, another process was faster, or the directory is somewhere else.
        """
        fs = self.options.fs
        with self._place_lock:
            if self._is_here():
                return False
            try:
                fs.make_directory(self.path)
                handle = fs.lock(f"{self.path}/.lock")
            except OSError as error:
                raise DiskFault(f"{self.path} was removed, and cannot be made again: {error}") from error
            fs.close(self._lock_handle)
            self._lock_handle = handle
        with suppress(OSError):  # the next opening does it
            raise_mark(fs, self.path)
        self.journal.check_place()
        for log in self._all_logs():
            log.check_place()
            log.tidy()
        return True

    def _is_here(self) -> bool:
        """Whether the directory is the one that was opened; False when it was removed.

        Raises:
            DiskFault: It is there no longer, but it was not removed: moved, or its disk unmounted. What it
                holds is sound, and nothing new must be written in its place, where it would be hidden when
                the disk is back.
        """
        fs = self.options.fs
        try:
            if fs.in_place(self._lock_handle, f"{self.path}/.lock"):
                return True
            removed = fs.removed(self._lock_handle)
        except OSError as error:
            raise DiskFault(f"{self.path}: {error}") from error
        if not removed:
            raise DiskFault(
                f"{self.path} is not there: it was moved, or its disk unmounted; put it back, or start again"
            )
        return False

    def _report(self, error: Exception | None) -> None:
        """On the committing thread: how its last turn went."""
        if error is None or isinstance(error, DiskFault):
            self._state_fault = None if error is None else str(error)
        else:
            self._state_fault = f"the committer failed: {error!r}"

    def _done(self) -> RangeSet:
        """What everybody has."""
        return self._consumers.done(ALARM).common(self._consumers.done(NORMAL))

    # -- looking

    @property
    def fault(self) -> str | None:
        """What is wrong with the disk now, None when nothing."""
        return self._state_fault or next((log.fault for log in self._all_logs() if log.fault), None)

    def query(
        self, criteria: QueryCriteria, *, table: str = READINGS, check: Callable[[], object] = lambda: None
    ) -> list[Found]:
        """Ids and documents that match, as `collectors.criteria` says; what waits for its commit, too.

        Segments that cannot have any are not read. Holds no more than twice `offset + limit` of them in memory,
        when there is a limit.

        Args:
            criteria: Which, and in which order.
            table: Of which table.
            check: Called before each segment is read; what it raises ends the query.

        Raises:
            DiskFault: The disk cannot be read.
            ValueError: The criteria make no sense.
            BufferClosed: The buffer is closed.
        """
        self.require_open()
        self._summaries.load()
        return Query(self.log(table), criteria, check=check).run()

    def readings(
        self,
        *,
        source: str | None = None,
        since_s: float | None = None,
        until_s: float | None = None,
        check: Callable[[], object] = lambda: None,
    ) -> Iterator[Record]:
        """The readings of a source, or of all, measured in a time range; ascending by id, a few in memory at a time.

        Ends with what there was when it began. Segments that cannot have any are not read.

        Args:
            source: Of this source only.
            since_s: Measured then or later: seconds since 1970.
            until_s: Measured before.
            check: As in `query`.

        Raises:
            DiskFault: The disk cannot be read.
            BufferClosed: The buffer is closed.
        """
        self.require_open()
        self._summaries.load()
        query = Query(self.log(READINGS), criteria_of(source, since_s, until_s), check=check)
        return (Record(*found) for found in query.stream())

    def consumer(self, name: str) -> Consumer:
        """The consumer of this name; a new one begins with the oldest record there is.

        Raises:
            DiskFault: A new one cannot be made durable.
        """
        self.require_open()
        return self._consumers.get(name)

    def consumers(self) -> list[str]:
        """The names of all consumers that were not forgotten; records are kept for each of them."""
        return self._consumers.names()

    def forget_consumer(self, name: str) -> None:
        """Keep nothing for a consumer any more.

        Raises:
            DiskFault: The disk refused; it is still there.
        """
        self._consumers.forget(name)
        self.ledger.forget(name)

    def capacity(self) -> Capacity:
        """How much room there is for readings, and how long it lasts."""
        readings = self.log(READINGS)
        rate = self._rate.per_s(readings.stored_bytes, self.options.clock.monotonic_s())
        return Capacity(
            self._retention.limits.bound_bytes(),
            readings.disk_bytes - self._retention.delivered_bytes(),
            rate,
        )

    def change(self, **options: Any) -> None:
        """Set some options anew, of those that can be while it is open (`buffer.options.CHANGEABLE`).

        Never waits for the disk. A lower quota is kept from the next commit on, not at once.

        Raises:
            ValueError: One cannot be changed, or makes no sense; nothing was changed.
        """
        if fixed := sorted(options.keys() - CHANGEABLE):
            raise ValueError(f"{', '.join(fixed)} cannot be changed while the buffer is open")
        self.options = replace(self.options, **options)
        self._retention.change(self.options)
        self._committer.change(self.options.gather_s)

    def _write_wear(self) -> None:
        self._wear.write(self.bytes_written, closing=True)

    def wear(self) -> Wear:
        """How much was written to the disk since the buffer was made."""
        return wear_of(self._wear.row(self.bytes_written), self.options.card_endurance_bytes)

    @property
    def bytes_written(self) -> int:
        """What was handed to the file system since it was opened."""
        return self.journal.bytes_written + sum(log.bytes_written for log in self._all_logs())
