"""`BufferDB`: a TinyDB over a directory of segments, with groups of inserts made durable together."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from tinydb import TinyDB

from buffer.capacity import ByteRate, Capacity
from buffer.changing import Changing
from buffer.committer import Committer
from buffer.consumer import Consumer, Record
from buffer.consumers import CONSUMERS, Consumers
from buffer.edit import disregard_given_up
from buffer.encoding import checked, trusted
from buffer.errors import BufferClosed, DiskFault
from buffer.identity import Identities, Identity
from buffer.journal import Journal, SmallTable
from buffer.ledger import Ledger
from buffer.log import Log
from buffer.logs import Logs
from buffer.losses import Losses
from buffer.missing import MissingFiles
from buffer.naming import READINGS
from buffer.options import CHANGEABLE, BufferOptions
from buffer.place import Place
from buffer.quarantine import Quarantine
from buffer.ranges import RangeSet
from buffer.retention import Retention
from buffer.selection import Found, Query, criteria_of
from buffer.summaries import Summaries
from buffer.table import BufferStorage, BufferTable
from buffer.wear import WEAR, Wear, WearMeter, stored_open, stored_reached, wear_of
from collectors.models import QueryCriteria

_log = logging.getLogger(__name__)


class BufferDB(TinyDB):
    """A TinyDB whose inserts are made durable in groups, and whose records consumers take out.

    Thread-safe. Its files are TinyDB databases, each of them, after every commit.

    Attributes:
        options: What it was opened with.
        ledger: What will never be delivered, and why.
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
        self._place = Place(self.options.fs, self.path)
        self._opened = False
        try:
            self._open()
        except BaseException:
            self._place.close()
            raise

    def _open(self) -> None:
        options = self.options
        quarantine = Quarantine(options.fs, f"{self.path}/.quarantine", options.quarantine_files_max)
        self.journal = Journal(options.fs, f"{self.path}/.state", set_aside=quarantine.take)
        disregard_given_up(self.path, self.journal, options.fs)
        self._state_fault: str | None = None
        self._identities = Identities(self.small_table("identity"), options.device_id, options.machine_id)
        self.ledger = Ledger(
            self.journal,
            READINGS,
            lambda: options.clock.now().timestamp(),
            lambda record_id: epoch.store_id if (epoch := self._identities.of(record_id)) else "",
        )
        self._consumers = Consumers(
            lambda: self.log(READINGS),
            self.small_table(CONSUMERS),
            self._identities.epochs,
            lambda low, high, absent: self.ledger.explained(READINGS, low, high, absent),
            lambda: self._losses.enter(),  # noqa: PLW0108 (made below)
        )
        reached = stored_reached(self.small_table(WEAR))
        # So far ids of readings were handed out, whatever their files say.
        named = max(reached, self._consumers.reached, self._identities.reached)
        self._losses = Losses(
            self.ledger,
            done=lambda table: self._consumers.done_in_all_lanes() if table == READINGS else RangeSet(),
            named=lambda table: named if table == READINGS else 0,
            on_entered=self._consumers.recount,
        )
        self._logs = Logs(
            self._place,
            options,
            self.journal,
            ledger=self.ledger,
            consumers=self._consumers,
            losses=self._losses,
            quarantine=quarantine,
            missing=MissingFiles(
                self._consumers, self.ledger, reached=reached, was_open=stored_open(self.small_table(WEAR))
            ),
            on_missing=self._identities.begin_anew,
        )
        self._changing = Changing(self.journal, options.fs, self.ledger, self._consumers)
        self._storage = BufferStorage(self)
        self._tables = {}
        readings = self.log(READINGS)
        missing = readings.recovered.missing and bool(self._identities.epochs)
        self._identities.begin(readings.next_id)
        if missing:
            self.notes.append(
                f"files of {READINGS} are missing: nobody knows any more which ids were given out, so what comes"
                f" from now on has the new store id {self.store_id}"
            )
        self._note_lost_state(readings)
        self._summaries = Summaries(options.fs, self.path, readings)
        self._retention = Retention(self, readings, self._consumers, self.journal)
        self._wear = WearMeter(self.small_table(WEAR), options.clock)
        readings.before_commit = self._before_commit
        readings.before_closing = partial(self._write_wear, closing=True)
        self._rate = ByteRate(options.clock.monotonic_s())
        self._committer = Committer(self, window_s=options.gather_s, report=self._report)
        self._opened = True
        self._logs.starting = False
        for note in self.notes:
            _log.warning("the buffer in %s: %s", self.path, note)
        if options.threaded:
            self._committer.start()

    @property
    def notes(self) -> list[str]:
        """What was wrong at opening, for people to read; also logged as warnings."""
        return self._logs.notes

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
        self._changing.edit(self.log(table), change, ids)

    def clear(self, *, table: str = READINGS) -> None:
        """Remove all records of a table, without reading them. Ids go on counting.

        Raises:
            DiskFault: The disk refused.
        """
        self.require_open()
        self._identities.write()
        self._changing.clear(self.log(table))

    def table(self, name: str, **kwargs: Any) -> BufferTable:
        """Access to a table, made when it is first used."""
        if name not in self._tables:
            kwargs.setdefault("cache_size", 0)
            if kwargs.pop("persist_empty", False):
                self._logs.note_made(name)
            self._tables[name] = BufferTable(self._storage, name, **kwargs)
        table = self._tables[name]
        assert isinstance(table, BufferTable)
        return table

    def tables(self) -> set[str]:
        """As `table_names`."""
        return self.table_names()

    def table_names(self) -> set[str]:
        """The names of all tables that have or had records, and were not dropped since.

        Raises:
            BufferClosed: The buffer is closed.
            DiskFault: The directory, or a table's in it, cannot be listed.
        """
        self.require_open()
        return self._logs.names()

    def drop_table(self, name: str) -> None:
        """Remove all records of a table. Ids are never reused, so the next record goes on counting.

        Raises:
            DiskFault: The disk refused; it may be there still.
        """
        if name in self.table_names():
            self.clear(table=name)
            self._logs.note_dropped(name)
        self._tables.pop(name, None)

    def drop_tables(self) -> None:
        """Remove all records of all tables.

        Raises:
            DiskFault: The disk refused; some may be there still.
        """
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
            # First: should the power go while they are written, the next opening still finds a file that was being written.
            self._consumers.persist,
            self._write_tombstones,
            *(log.close for log in self._logs.all()),
            self._consumers.persist,
            self.journal.settle,
        ):
            try:
                step()
            except DiskFault as fault:
                failure = fault
        self.journal.close()
        self._place.close()
        for log in self._logs.all():
            log.tell()
        if failure is not None:
            raise failure

    # -- parts

    def log(self, table: str) -> Log:
        """The log behind a table, opened when it is first used.

        Raises:
            DiskFault: It was not used yet, and its directory cannot be listed.
        """
        return self._logs.of(table)

    def has_log(self, table: str) -> bool:
        """Whether a table has files: something was written to it, perhaps by an earlier process.

        Raises:
            DiskFault: Its directory cannot be listed.
        """
        return self._logs.has(table)

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
        if not self._opened:
            self.require_open()
        ids = (self._logs.opened.get(table) or self.log(table)).append(documents, size)
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
        if not self._opened:
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
        self._changing.delete(self.log(table), record_id, self.flush)

    # -- what the committer calls

    def commit(self) -> None:
        """Commit all that waits, within the limits.

        Raises:
            DiskFault: The disk refused.
        """
        waiting, sound, tombstones = [], self._state_fault is None, False
        for log in list(self._logs.opened.values()):
            if log.deleted_unwritten:
                tombstones = True
            if log.waits:
                waiting.append(log)
                if log.fault:
                    sound = False
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

    def _before_commit(self) -> None:
        self._retention.settle()
        self._wear.note_open(self.bytes_written, self.log(READINGS).reached)

    def _write_wear(self, *, closing: bool = False) -> None:
        self._wear.write(self.bytes_written, self.log(READINGS).reached, closing=closing)

    def _write_tombstones(self) -> None:
        for log in self._logs.all():
            self._changing.write_tombstones(log)

    def maintain(self) -> None:
        """Write down what is written lazily, and let go of what nobody needs.

        Raises:
            DiskFault: The disk refused.
        """
        self._check_place()
        self.journal.check_place()
        for log in self._logs.all():
            log.check_place()
            log.tidy()
        self._consumers.persist()
        self._write_wear()
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
        if not self._place.make_again():
            return False
        self.journal.check_place()
        for log in self._logs.all():
            log.check_place()
            log.tidy()
        return True

    def _report(self, error: Exception | None) -> None:
        """On the committing thread: how its last turn went."""
        if error is None or isinstance(error, DiskFault):
            self._state_fault = None if error is None else str(error)
        else:
            self._state_fault = f"the committer failed: {error!r}"

    # -- looking

    @property
    def fault(self) -> str | None:
        """What is wrong with the disk now, None when nothing."""
        return self._state_fault or next((log.fault for log in self._logs.all() if log.fault), None)

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

    def wear(self) -> Wear:
        """How much was written to the disk since the buffer was made."""
        return wear_of(self._wear.row(self.bytes_written), self.options.card_endurance_bytes)

    @property
    def bytes_written(self) -> int:
        """What was handed to the file system since it was opened."""
        return self.journal.bytes_written + sum(log.bytes_written for log in self._logs.all())
