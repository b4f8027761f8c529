"""Changing what is stored: segments are written anew, all of them or none.

1. Each segment that changes is written to a temporary file, synced.
2. What is to replace what is written to the small table `edits`: from here on the change happens,
   even when the power goes.
3. The new files are renamed into place, the directory is synced, the old ones are removed.

A crash before step 2 leaves temporary files, which are swept; one after it is made good at opening.
When the disk refuses step 2, it may have been done all the same: a crash then decides which. Without
one nothing happened, which is made sure before anything else is changed. On a full disk the new files go
first, to make room for that; a decision that is found without them is none, nor is what came with it.
"""

from __future__ import annotations

import secrets
from bisect import bisect_left
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from buffer.encoding import encoded
from buffer.errors import DiskFault
from buffer.filesystem import names_in
from buffer.lanes import LANES, lane_of
from buffer.naming import SealedName, directory_name, parse_sealed
from buffer.ranges import RangeSet
from buffer.segment import DamagedSegment, Segment, parse_json, split_lines
from buffer.writer import build_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from buffer.filesystem import FileSystem
    from buffer.journal import Journal
    from buffer.log import Log

EDITS: Final = "edits"
"""The small table of changes that were decided on."""
UNDONE: Final = "edits_undone"
"""The small table of what rows that became durable with a decision were before it."""
DELETED: Final = "deleted"
"""The small table of tombstones, as ranges of ids."""
KEEP: Final = object()
"""What a change returns for a document that stays as it is."""


@dataclass(slots=True)
class Changes:
    """What a change does that concerns consumers."""

    moved: dict[str, list[int]] = field(default_factory=lambda: {lane: [] for lane in LANES})
    """Records that came into a lane from another one."""
    removed: dict[str, list[int]] = field(default_factory=lambda: {lane: [] for lane in LANES})
    """Records that went, by lane."""
    emptied: list[tuple[int, int]] = field(default_factory=list)
    """The ids of files, as ranges, of which nothing is left."""


def _nothing_more(_: Changes) -> AbstractContextManager[list[tuple[str, str, Any]]]:
    return nullcontext([])


class Edit:
    """One change of a log."""

    def __init__(
        self,
        log: Log,
        journal: Journal,
        fs: FileSystem,
        also: Callable[[Changes], AbstractContextManager[list[tuple[str, str, Any]]]] = _nothing_more,
    ) -> None:
        """Make it, without doing anything.

        Args:
            log: What is changed.
            journal: Where it is decided.
            fs: The file system.
            also: Gives rows of small tables that become durable together with the decision.
        """
        self._log = log
        self._journal = journal
        self._fs = fs
        self._also = also
        self._changes = Changes()
        self._made: list[tuple[str, Segment, SealedName]] = []

    def run(self, change: Callable[[int, dict[str, Any]], Any], ids: set[int] | None = None) -> None:
        """Apply a change to every record, or to those of some ids; durable when it returns.

        Args:
            change: Gets id and document; returns KEEP, the new document, or None to remove it.
            ids: Look at these only.

        Raises:
            DiskFault: The disk refused. Nothing changed, or everything will have at the next opening.
            Exception: Whatever `change` raises; nothing changed.
        """
        ascending = sorted(ids) if ids is not None else []

        def rewrite(segment: Segment) -> None:
            at = bisect_left(ascending, segment.base)
            if ids is None or (at < len(ascending) and ascending[at] <= segment.last):
                self._rewrite(segment, change, ids)

        self._apply(rewrite)

    def clear(self) -> None:
        """Remove all records, unread; durable when it returns.

        Raises:
            DiskFault: As `run`.
        """
        self._apply(lambda segment: self._make([segment], []))

    def replace(self, segments: list[Segment], records: list[tuple[int, bytes]]) -> None:
        """Replace adjacent sealed segments by one with some of their records; durable when it returns.

        Raises:
            DiskFault: As `run`.
        """
        with self._log.io:
            self.carry_out()  # what an earlier change left undone
            assert all(segment in self._log.segments and segment.sealed for segment in segments)
            self._make_and_decide(lambda: self._make(segments, records))
            self.carry_out()

    def _apply(self, prepare: Callable[[Segment], None]) -> None:
        """Have the files made that are to replace others, decide, and carry it out."""
        log = self._log
        with log.io:
            self.carry_out()  # what an earlier change left undone
            log.commit()
            log.require_active()
            log.roll()
            log.tidy()
            stored = [each for each in log.segments if each.count]
            if not all(each.sealed for each in stored):
                raise DiskFault(f"{log.table}: a segment could not be sealed")

            def make() -> None:
                for segment in stored:
                    prepare(segment)

            self._make_and_decide(make)
            self.carry_out()

    def _make_and_decide(self, make: Callable[[], None]) -> None:
        try:
            make()
            self._decide()
        except OSError as error:
            self._forget()
            raise DiskFault(f"{self._log.table}: the disk refuses a change: {error}") from error
        except BaseException as error:
            self._forget()
            if isinstance(error, DiskFault) and error.full and self._log.undecided:
                with suppress(DiskFault):  # before anything else is changed, then
                    self._give_up_undecided()
            raise

    def _rewrite(
        self, segment: Segment, change: Callable[[int, dict[str, Any]], Any], ids: set[int] | None
    ) -> None:
        records, changed = [], False
        for record_id, raw in self._records(segment):
            if record_id in self._log.deleted:
                changed = True
                continue
            if ids is not None and record_id not in ids:
                records.append((record_id, raw))
                continue
            document = parse_json(raw)
            lane = lane_of(document)
            result = change(record_id, document)
            if result is KEEP:
                records.append((record_id, raw))
                continue
            changed = True
            if result is None:
                self._changes.removed[lane].append(record_id)
            else:
                records.append((record_id, encoded(result)))
                if lane_of(result) != lane:
                    self._changes.moved[lane_of(result)].append(record_id)
        if changed:
            self._make([segment], records)

    def _records(self, segment: Segment) -> list[tuple[int, bytes]]:
        try:
            return split_lines(self._log.reader.raw(segment))
        except DamagedSegment:
            self._log.rewrite(segment)
        sound = self._log.first_segment(segment.base)
        assert sound is not None
        return split_lines(self._log.reader.raw(sound))

    def _make(self, segments: list[Segment], records: list[tuple[int, bytes]]) -> None:
        """Write what is to take the place of segments."""
        log = self._log
        bases = {segment.base for segment in segments}
        present = [each for each in log.segments if each.base in bases]
        first, last = present[0], present[-1]
        name, data = build_segment(
            log.table, first.base, first.rev + 1, records, last=last.last, cursor=log.cursor()
        )
        temporary = f"t.{secrets.token_hex(8)}.json"
        handle = self._fs.create(f"{log.directory}/{temporary}")
        self._made += [(temporary, old, name) for old in present]
        try:
            self._fs.write(handle, data, 0)
            self._fs.sync(handle)
        finally:
            self._fs.close(handle)
        log.bytes_written += len(data)
        if not records:
            self._changes.emptied.append((first.base, last.last))

    def _decide(self) -> None:
        if self._made:
            self._fs.sync_directory(self._log.directory)
            steps = [[temporary, old.name, str(new)] for temporary, old, new in self._made]
            with self._also(self._changes) as rows:
                # Should this fail, it may be on the disk all the same, and so then must be what it decides on.
                self._log.undecided = {temporary for temporary, _, _ in self._made}
                before = [[table, key, self._journal.get(table, key)] for table, key, _ in rows]
                undone = {"edits": steps, "rows": before} if before else None
                self._journal.put([(EDITS, self._log.table, steps), (UNDONE, self._log.table, undone), *rows])
                self._log.undecided = set()

    def _forget(self) -> None:
        self._remove({temporary for temporary, _, _ in self._made} - self._log.undecided)

    def _remove(self, temporaries: set[str]) -> None:
        for temporary in temporaries:
            with suppress(OSError):  # swept at the next opening
                self._fs.unlink(f"{self._log.directory}/{temporary}")

    def carry_out(self) -> None:
        """Do what was decided, on disk and then in memory; nothing when nothing was.

        What was not decided for sure is given up: from now on it is sure that it does not happen.

        Raises:
            DiskFault: The disk refused.
        """
        log = self._log
        log.remove_outdated()
        if log.undecided:
            self._give_up_undecided()
        for name in finish(log.directory, log.table, self._journal, self._fs):
            new = Segment(name.base, name.last, name.count, -1, name.rev, name)
            log.replace([each for each in log.segments if name.base <= each.base <= name.last], new)
            with log.lock:
                log.deleted.discard(name.base, name.last)
            if not name.count:
                with suppress(OSError, DiskFault):  # an empty file does no harm
                    log.drop(new)

    def _give_up_undecided(self) -> None:
        log = self._log
        try:
            self._journal.settle()
        except DiskFault as fault:
            if not fault.full:
                raise
            self._remove(log.undecided)  # there is no room for making sure: this is some
            self._journal.settle()
        self._remove(log.undecided)
        log.undecided = set()


def finish(directory: str, table: str, journal: Journal, fs: FileSystem) -> list[SealedName]:
    """Carry out on disk a change that was decided on; nothing when there is none.

    Returns:
        The names of the new files.

    Raises:
        DiskFault: The disk refused; it is tried again before the next change and at the next opening.
    """
    steps = journal.get(EDITS, table)
    if not steps:
        return []
    try:
        names = set(fs.list_directory(directory))
        # Somebody removed the files, or a damaged journal does not say that it was done.
        if not _is_possible(steps, names):
            journal.put([(EDITS, table, None), (UNDONE, table, None)])
            return []
        journal.make_durable()  # else a cut could leave a part of what is done now, and no decision
        for temporary, new in {temporary: new for temporary, _, new in steps}.items():
            if temporary in names:
                fs.rename(f"{directory}/{temporary}", f"{directory}/{new}")
        fs.sync_directory(directory)
        for _, old, _ in steps:
            if old in names:
                fs.unlink(f"{directory}/{old}")
        fs.sync_directory(directory)  # else an old file might come back when its new one goes, too
        made = dict.fromkeys(new for _, _, new in steps)
    except OSError as error:
        raise DiskFault(f"{directory_name(table)}: a change could not be finished: {error}") from error
    done = [name for new in made if (name := parse_sealed(new)) is not None]
    tombstones = RangeSet(journal.get(DELETED, table) or ())
    for name in done:
        tombstones.discard(name.base, name.last)  # what they hid is gone
    journal.put([(EDITS, table, None), (UNDONE, table, None), (DELETED, table, list(tombstones) or None)])
    return done


def disregard_given_up(root: str, journal: Journal, fs: FileSystem) -> None:
    """Take back decisions whose new files were given up, in memory: writing them down had failed.

    To be done before anybody reads what may have come with them. Nothing needs to be written: the files stay away.
    Of a damaged journal nobody knows whether it said that they were carried out.

    Raises:
        OSError: The directory of a table in question cannot be listed.
    """
    for table, undone in () if journal.damaged else journal.items(UNDONE):
        steps = undone["edits"]
        names = set(names_in(fs, f"{root}/{directory_name(table)}"))
        if steps == journal.get(EDITS, table) and not _is_possible(steps, names):
            rows = [(each, key, value) for each, key, value in undone["rows"]]
            journal.assume([(EDITS, table, None), (UNDONE, table, None), *rows])


def _is_possible(steps: Sequence[Sequence[str]], names: set[str]) -> bool:
    """Whether a change can be carried out, or was begun: the files are there."""
    return any(new in names for _, _, new in steps) or all(made in names for made, _, _ in steps)
