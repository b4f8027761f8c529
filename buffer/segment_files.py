"""The files of a table: recovered, mended, replaced, dropped.

Locks: `io` is held while files change, one flush in flight; `lock` guards what is in memory and is
held for moments only, never while the disk works, so that `append` is safe on an event loop. Who
needs both takes `io` first.
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from buffer.errors import DiskFault
from buffer.filesystem import FileSystem, read_file
from buffer.layout import is_of
from buffer.loss import FILE_MISSING, NOT_JSON, Loss
from buffer.losses import Losses
from buffer.naming import directory_name, parse_sealed
from buffer.quarantine import Quarantine
from buffer.ranges import RangeSet
from buffer.recovery import Recovered, Recovery
from buffer.salvage import losses_of, salvage
from buffer.segment import (
    DamagedSegment,
    Segment,
    SegmentReader,
    is_object,
)
from buffer.writer import build_segment, create_durably

_LOOKED_AT = 3


class SegmentFiles:
    """The files of one table. Thread-safe.

    Attributes:
        table: Its name.
        directory: Where its files are.
        durable_id: Every record up to here is on disk.
        segments: Its files, ascending; the active one last.
        deleted: Ids with a tombstone: on disk still, but not to be seen.
        deleted_unwritten: Some of them went, and the small table does not know it yet.
        undecided: Files of a change that may be decided on disk, though the disk says it is not.
        outdated: Names of files whose place others took, and that the disk refused to move out of the way.
        finish_changes: Called before one of its files is replaced or goes: carries out what was decided on
            and not done yet.
        recovered: What was found at opening.
        bytes_written: What was handed to the file system since it was opened.
        version: Counts up when records are changed or go; a new one only moves `next_id`.
    """

    def __init__(
        self,
        fs: FileSystem,
        root: str,
        table: str,
        *,
        cursor: Callable[[], int],
        quarantine: Quarantine,
        losses: Losses,
        look: Callable[[], object],
        on_recovered: Callable[[Recovered], None] = lambda _: None,
    ) -> None:
        """Recover the table's directory.

        Args:
            fs: The file system.
            root: The buffer's directory.
            table: The table's name.
            cursor: Up to which id all consumers have acknowledged.
            quarantine: Takes damaged files.
            losses: Takes what cannot be read any more, and ids that are skipped.
            look: Raises DiskFault when the whole buffer is somewhere else, so that nothing in it is lost.
            on_recovered: Is told what was found, before anything is written.

        Raises:
            OSError: The directory cannot be made or listed.
            ValueError: The table's name cannot be a directory's.
        """
        self.table = table
        self.directory = f"{root}/{directory_name(table)}"
        self.lock = threading.Lock()
        self.io = threading.RLock()
        self.deleted = RangeSet()
        self.deleted_unwritten = False
        self.undecided: set[str] = set()
        self.outdated: set[str] = set()
        self._going = RangeSet()
        """Ids of files that were unlinked, though the disk does not say that they have gone."""
        self.finish_changes: Callable[[], None] = lambda: None
        self.cursor = cursor
        self.bytes_written = 0
        self.version = 0
        self._fs = fs
        self._quarantine = quarantine
        self._losses = losses
        self._look = look
        self._sealed_bytes: int | None = None
        self.reader = SegmentReader(fs, self.directory, table)
        with suppress(OSError):  # making its first file will tell
            fs.make_directory(self.directory)
        self.recovered = self._recover(on_recovered)
        self.segments = self.recovered.segments
        self.durable_id = self.recovered.next_id - 1

    def _recover(self, on_scanned: Callable[[Recovered], None]) -> Recovered:
        recovery = Recovery(self._fs, self.directory, self.table, self.set_aside, self._losses)
        return recovery.run(on_scanned)

    def set_aside(self, name: str) -> None:
        """Move a file to the quarantine.

        Raises:
            OSError: It cannot be moved.
        """
        self._quarantine.take(f"{self.directory}/{name}", f"{directory_name(self.table)}.{name}")

    @property
    def lowest_id(self) -> int:
        """No record has a lower one any more."""
        with self.lock:
            return self.segments[0].base if self.segments else self.durable_id + 1

    @property
    def reached(self) -> int:
        """The highest id that its files tell of for sure."""
        with self.lock:
            return max((each.last for each in self.segments if not each.suspect), default=0)

    def holes(self) -> Iterator[tuple[int, int]]:
        """The ids up to the highest durable one that are in none of its files, as ranges; an empty one is none."""
        with self.lock:
            bounds = [(each.base, each.last) for each in self.segments if each.count or not each.sealed]
            reached = self.segments[0].base - 1 if self.segments else 0
            durable = self.durable_id
        for base, last in bounds:
            high = min(base - 1, durable)
            if reached < high:
                yield reached + 1, high
            reached = last

    def first_segment(self, record_id: int) -> Segment | None:
        """The first segment that may have a record of at least this id."""
        with self.lock:
            at = bisect_left(self.segments, record_id, key=lambda segment: segment.last)
            return self.segments[at] if at < len(self.segments) else None

    @property
    def disk_bytes(self) -> int:
        """What its files take on disk, written-ahead space included."""
        with self.lock:
            if self._sealed_bytes is None:
                self._sealed_bytes = sum(self._size(segment) for segment in self.segments if segment.sealed)
            return self._sealed_bytes + self.active_bytes

    @property
    def active_bytes(self) -> int:
        """What the file being written takes."""
        return 0

    def _size(self, segment: Segment) -> int:
        if segment.size < 0:
            segment.size = 0
            with suppress(OSError):  # it is on its way out, or will be found missing when it is read
                handle = self._fs.open(f"{self.directory}/{segment.name}")
                try:
                    segment.size = self._fs.size(handle)
                finally:
                    self._fs.close(handle)
        return segment.size

    # -- damaged, failed and missing ones

    def mend(self, segment: Segment, error: DamagedSegment | OSError) -> None:
        """A file could not be read: when this returns, reading goes on with what is there instead.

        Raises:
            DiskFault: The disk refuses.
        """
        if isinstance(error, FileNotFoundError):
            self._missing(segment)
        else:
            self._rewrite_damaged(segment)

    def _missing(self, segment: Segment) -> None:
        """The file of a segment is not there: it was replaced meanwhile, or somebody removed it."""
        self._look()
        with self.io:
            try:
                self._fs.close(self._fs.open(f"{self.directory}/{segment.name}"))
            except FileNotFoundError:
                pass
            else:
                return
            if segment in self.segments and segment is self.segments[-1]:
                self.begin_anew()
            with self.lock:
                if segment not in self.segments:
                    return
            newer = self._newest_file(segment.base)
            if newer is not None:
                self.replace([each for each in self.segments if newer.base <= each.base <= newer.last], newer)
                return
            with self.lock:
                self.segments.remove(segment)
                self._sealed_bytes = None
                self.version += 1
        low = max(segment.base, self.cursor() + 1)  # what was delivered before is no loss
        count = min(segment.count, segment.last - low + 1) - self.deleted.count_within(low, segment.last)
        self._forget(self._strays(segment, ()))
        if count > 0:
            self._losses.note(self.table, Loss(low, segment.last, count, FILE_MISSING))

    def begin_anew(self) -> None:
        """Put a new last file in the place of one that is missing.

        Raises:
            DiskFault: The disk refused.
        """
        raise DiskFault(f"{self.directory} has lost its last file")

    def drop_missing(self) -> None:
        """Notice which files somebody removed; the losses are told.

        Raises:
            DiskFault: The disk refused.
        """
        with self.io:
            try:
                present = set(self._fs.list_directory(self.directory))
                for segment in self.segments[:-1]:
                    if segment.name not in present:
                        self._missing(segment)
            except OSError as error:
                raise DiskFault(f"{self.directory}: {error}") from error

    def _newest_file(self, base: int) -> Segment | None:
        """What the directory has for a base: a change may have been carried out only in part."""
        names = [parse_sealed(name) for name in self._fs.list_directory(self.directory)]
        covering = (n for n in names if n and n.base <= base <= n.last)
        found = max(covering, key=lambda name: name.rev, default=None)
        return None if found is None else Segment(found.base, found.last, found.count, -1, found.rev, found)

    def release(self, segment: Segment) -> None:
        """Nobody writes to a segment any more, and another file says what was given out since.

        Raises:
            DiskFault: The disk refused.
        """

    def _rewrite_damaged(self, segment: Segment) -> None:
        try:
            with self.io:
                self.release(segment)
                self.rewrite(segment)
        except OSError as error:
            raise DiskFault(f"{segment.name} is damaged and cannot be written anew: {error}") from error

    def replace_suspects(self) -> None:
        """Replace what failed while being written by sound files.

        Raises:
            DiskFault: The disk refuses still.
        """
        with self.io:
            for segment in [each for each in self.segments if each.suspect]:
                if segment.count == 0:
                    continue
                try:
                    self.rewrite(segment)
                except FileNotFoundError:
                    self._missing(segment)  # it got its sealed name after all
                except OSError as error:
                    raise DiskFault(f"{segment.name}: {error}") from error

    def rewrite(self, segment: Segment) -> None:
        """Write the good records of a file to a new one; the file itself goes to the quarantine.

        Raises:
            OSError: The disk refused; nothing changed.
            DiskFault: Likewise: what it costs could not be entered in the ledger.
        """
        with self.io:
            self.finish_changes()  # else its outcome would be half of one
            if segment not in self.segments:
                return
            old = segment.name
            records, cursor = self.salvaged(segment)
            name, data = build_segment(
                self.table,
                segment.base,
                segment.rev + 1,
                records,
                last=segment.last,
                cursor=min(cursor, self.cursor()),
            )
            self._fs.close(create_durably(self._fs, self.directory, str(name), data))
            self.bytes_written += len(data)
            # A new object, since readers may be at work with the old one.
            self.replace([segment], Segment(name.base, name.last, name.count, -1, name.rev, name))
            self._forget(self._strays(segment, {record_id for record_id, _ in records}))
            self.outdated.add(old)
            self.set_aside(old)
            self.outdated.discard(old)

    def salvaged(self, segment: Segment) -> tuple[list[tuple[int, bytes]], int]:
        """The good records of a file, and the cursor in its last trailer; the others are in the ledger by now.

        Raises:
            OSError, DiskFault: As `rewrite`.
        """
        good = salvage(self.read_tolerant(segment.name, segment), segment.base, segment.last)
        intact = good.records
        records = [record for record in intact if is_object(record[1])]
        deleted = RangeSet((each, each) for each in self._strays(segment, good.ids))
        found = losses_of(good.ids, segment, good.losses)
        losses = [left for loss in found if (left := loss.without(deleted))]
        kept = {record_id for record_id, _ in records}
        losses += [Loss(each, each, 1, NOT_JSON) for each, _ in intact if each not in kept]
        for loss in losses:
            self._losses.note(self.table, replace(loss, file=segment.name))
        self._losses.enter()  # first: after a crash a new file would not show what the damage cost
        return records, good.cursor

    def read_tolerant(self, name: str, segment: Segment) -> bytes:
        """As much of a file as counts; sectors that cannot be read come as zeros.

        Raises:
            OSError: None can be read, nor any of another file: it is the disk, not this file.
        """
        try:
            data = read_file(self._fs, f"{self.directory}/{name}")
        except FileNotFoundError:
            raise
        except OSError:
            self._require_readable(segment)
            return b""
        if not is_of(data, self.table):
            return b""
        return data[: segment.end] if segment.suspect else data

    def _require_readable(self, segment: Segment) -> None:
        """Nothing of a segment could be read: see whether that is because nothing at all can be.

        Raises:
            OSError: No other file can be read either.
        """
        with self.lock:
            others = [other.name for other in self.segments if other is not segment]
        failure: OSError | None = None
        for name in others[-_LOOKED_AT:]:
            try:
                handle = self._fs.open(f"{self.directory}/{name}")
                try:
                    self._fs.read(handle, 1, 0)
                finally:
                    self._fs.close(handle)
            except FileNotFoundError:
                continue
            except OSError as error:
                failure = error
            else:
                return
        if failure is not None:
            raise failure

    # -- ones that go, and what was deleted in them

    def remove_outdated(self) -> None:
        """Remove the files whose place others took, if any is left: once those go, an opening would take them for good.

        Raises:
            DiskFault: The disk refuses still.
        """
        for name in sorted(self.outdated):
            if all(name != each.name for each in self.segments):
                try:
                    with suppress(FileNotFoundError):
                        self._remove_outdated(name)
                except OSError as error:
                    raise DiskFault(f"{self.directory}/{name}: {error}") from error
            self.outdated.discard(name)

    def _remove_outdated(self, name: str) -> None:
        try:
            self.set_aside(name)
        except OSError:  # all that is good in it is in the other one
            self._fs.unlink(f"{self.directory}/{name}")

    def replace(self, old: Sequence[Segment], new: Segment) -> None:
        """Another file took the place of those of adjacent segments. Fine when there are none of these."""
        if not old:
            return
        with self.lock:
            at = self.segments.index(old[0])
            assert self.segments[at : at + len(old)] == list(old)
            self.segments[at : at + len(old)] = [new]
            self._sealed_bytes = None
            self.version += 1

    def drop(self, segment: Segment) -> None:
        """Unlink a segment.

        Raises:
            OSError, DiskFault: The disk refused: the segment stays, or a power cut may bring it back. Then its tombstones
                stay, until `sync_removals`.
        """
        with self.io:
            self.sync_removals()
            if segment not in self.segments or segment is self.segments[-1]:
                return  # the last file carries the high-water mark
            self.finish_changes()  # else it might come back
            if segment not in self.segments:
                return
            with suppress(FileNotFoundError):  # somebody else was faster
                self._fs.unlink(f"{self.directory}/{segment.name}")
            with self.lock:
                self.segments.remove(segment)
                self._sealed_bytes = None
                self.version += 1
            self._going.add(segment.base, segment.last)
            self.sync_removals()

    def sync_removals(self) -> None:
        """Make sure that files which went do not come back: only then nothing needs to hide what was in them.

        Raises:
            DiskFault: The disk refused.
        """
        with self.io:
            if self._going:
                try:
                    self._fs.sync_directory(self.directory)
                except OSError as error:
                    raise DiskFault(
                        f"what was removed from {self.directory} may come back: {error}"
                    ) from error
                with self.lock:
                    for first, last in self._going:
                        self.deleted.discard(first, last)
                self._going = RangeSet()

    def forget_strays(self, segment: Segment) -> bool:
        """Take back tombstones of what is in no file any more; whether there were any in a segment.

        Raises:
            OSError, DamagedSegment: As `SegmentReader.open`.
        """
        strays = self._strays(segment, self.reader.ids(segment))
        self._forget(strays)
        return bool(strays)

    def _strays(self, segment: Segment, ids: Collection[int]) -> list[int]:
        """Ids of a segment that were deleted, but are none of those that it has."""
        present = set(ids)
        parts = self.deleted.within(segment.base, segment.last)
        return [each for low, high in parts for each in range(low, high + 1) if each not in present]

    def _forget(self, strays: Sequence[int]) -> None:
        if strays:
            with self.lock:
                for each in strays:
                    self.deleted.discard(each, each)
                self.version += 1
            self.deleted_unwritten = True
