"""One log table: records wait in memory, are committed as frames, sealed as segments, and read back.

Locks: `io` is held while files change, one flush in flight; `lock` guards what is in memory and is
held for moments only, never while the disk works, so that `append` is safe on an event loop. Who
needs both takes `io` first.
"""

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from buffer.errors import BufferClosed, BufferFull, DiskFault
from buffer.filesystem import FileSystem
from buffer.layout import ID_MAX, TAIL, record_ids
from buffer.naming import directory_name
from buffer.quarantine import Quarantine
from buffer.ranges import RangeSet
from buffer.recovery import PENDING_RECORDS_MAX, Loss, Recovered, Recovery, salvage
from buffer.segment import (
    DamagedSegment,
    Position,
    Segment,
    SegmentReader,
    parse_json,
    parse_lines,
    take_lines,
)
from buffer.writer import ActiveFile, build_segment, create_durably

COMMIT_BYTES_MAX: Final = 1 << 20
"""The most that one frame may hold, and so the most that one damaged frame may cost."""


@dataclass(slots=True)
class Block:
    """What a read gave."""

    records: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    complete: bool = True
    """There is nothing more in the range that was asked for."""
    position: Position | None = None
    """Where to go on without searching."""


class Log:
    """The records of one table. Thread-safe.

    Attributes:
        table: Its name.
        next_id: The id that the next record gets.
        durable_id: Every record up to here is on disk.
        committed: How many records were committed since it was opened.
        segments: Its files, ascending; the active one last.
        deleted: Ids with a tombstone: on disk still, but not to be seen.
        fault: What the disk refuses now, None when nothing.
        bytes_written: What was handed to the file system since it was opened.
    """

    def __init__(
        self,
        fs: FileSystem,
        root: str,
        table: str,
        *,
        segment_bytes: int,
        pending_bytes_max: int,
        cursor: Callable[[], int],
        quarantine: Quarantine,
        on_loss: Callable[[str, Loss], None],
    ) -> None:
        """Open the table and recover it.

        Raises:
            OSError: The directory cannot be made or listed.
            ValueError: The table's name cannot be a directory's.
        """
        self.table = table
        self.directory = f"{root}/{directory_name(table)}"
        self.lock = threading.Lock()
        self.io = threading.RLock()
        self.deleted = RangeSet()
        self.committed = 0
        self.fault: str | None = None
        self.bytes_written = 0
        self.closed = False
        self._fs = fs
        self._segment_bytes = segment_bytes
        self._pending_bytes_max = pending_bytes_max
        self.cursor = cursor
        self._quarantine = quarantine
        self._on_loss = on_loss
        self._listeners: list[Callable[[], None]] = []
        self._chunks: list[tuple[int, Sequence[bytes], int]] = []
        self._in_flight: list[tuple[int, bytes]] = []
        self._waiting_records = self._waiting_bytes = 0
        self._sealed_bytes: int | None = None
        self.reader = SegmentReader(fs, self.directory, table)
        fs.make_directory(self.directory)
        self.recovered = self._recover()
        self.segments = self.recovered.segments
        self.next_id = self.recovered.next_id
        self.durable_id = self.next_id - 1
        self._active: ActiveFile | None = None
        with suppress(DiskFault):  # `fault` says so, and the first commit tries again
            self._begin_active()
            self._sweep(self.recovered.superseded)

    # -- appending

    def append(self, documents: Sequence[bytes], size: int) -> range:
        """Take records; they wait in memory until a commit. Returns their ids.

        Args:
            documents: Compact JSON objects, already checked.
            size: Their bytes together.

        Raises:
            BufferFull: They would pass the bound of what may wait.
            BufferClosed: The log is closed.
        """
        with self.lock:
            self._require_room(len(documents), size)
            first = self.next_id
            self._take_in(first, documents, size)
        return range(first, first + len(documents))

    def append_at(self, record_id: int, document: bytes) -> None:
        """Take one record under an id of the caller's choice, beyond all that were given out.

        Raises:
            ValueError: The id was given out already, or is none.
            BufferFull, BufferClosed: As `append`.
        """
        with self.lock:
            if not self.next_id <= record_id <= ID_MAX:
                raise ValueError(f"Document with ID {record_id} is below the next free id {self.next_id}")
            self._require_room(1, len(document))
            self._take_in(record_id, [document], len(document))

    def _take_in(self, first: int, documents: Sequence[bytes], size: int) -> None:
        assert self.next_id <= first
        assert first + len(documents) - 1 <= ID_MAX
        if documents:
            self._chunks.append((first, documents, size))
            self.next_id = first + len(documents)
            self._waiting_records += len(documents)
            self._waiting_bytes += size

    def has_room(self) -> bool:
        """Whether `append` of something small would be accepted."""
        return (
            self._waiting_bytes < self._pending_bytes_max and self._waiting_records < PENDING_RECORDS_MAX // 2
        )

    def _require_room(self, records: int, size: int) -> None:
        if self.closed:
            raise BufferClosed("the buffer is closed")
        if self._waiting_records + records > PENDING_RECORDS_MAX or (
            self._waiting_records and self._waiting_bytes + size > self._pending_bytes_max
        ):
            reason = f" ({self.fault})" if self.fault else ""
            raise BufferFull(
                f"{self._waiting_records:,} records of {self._waiting_bytes:,} bytes wait for the disk{reason}"
            )

    @property
    def waiting_records(self) -> int:
        """How many records are in memory only."""
        return self._waiting_records

    @property
    def waiting_bytes(self) -> int:
        """How many bytes of records are in memory only."""
        return self._waiting_bytes

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each commit, on the thread that committed."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Call it no longer."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def tell(self) -> None:
        """Call all listeners: something is durable, or nothing will be any more."""
        for listener in tuple(self._listeners):
            listener()

    # -- committing

    def commit(self) -> None:
        """Make all that waits durable.

        Raises:
            DiskFault: The disk refused; what was to be committed waits in memory still.
        """
        while self.commit_once():
            pass

    def commit_once(self) -> bool:
        """Commit one frame. False when nothing waited.

        Raises:
            DiskFault: As `commit`.
        """
        with self.io:
            with self.lock:
                self._fill_flight()
                flight = self._in_flight
            if not flight:
                return False
            size = sum(len(document) for _, document in flight)
            try:
                self._write(flight, size)
            except OSError as error:
                self._abandon_active(error)
                raise DiskFault(f"{self.table}: the disk refuses: {error}") from error
            with self.lock:
                self._landed(flight, size)
        self.tell()
        return True

    def _fill_flight(self) -> None:
        """Take what waits, up to the bound of a frame. What failed before goes again, unchanged."""
        if self._in_flight:
            return
        size = 0
        while self._chunks and size < COMMIT_BYTES_MAX:
            first, documents, chunk_bytes = self._chunks[0]
            if size + chunk_bytes > COMMIT_BYTES_MAX and len(documents) > 1:
                if size:
                    break
                half = len(documents) // 2
                head, rest = documents[:half], documents[half:]
                head_bytes = sum(map(len, head))
                self._chunks[0:1] = [
                    (first, head, head_bytes),
                    (first + half, rest, chunk_bytes - head_bytes),
                ]
                continue
            del self._chunks[0]
            self._in_flight += enumerate(documents, first)
            size += chunk_bytes

    def _write(self, flight: list[tuple[int, bytes]], size: int) -> None:
        active = self._active
        if active is not None and (
            (active.count and active.end + size > self._segment_bytes) or not active.room_for(len(flight))
        ):
            self._roll(flight[0][0])
            active = self._active
        if active is None:
            active = self._begin_active(flight[0][0])
        before = active.bytes_written
        active.write(flight, self.cursor())
        self.bytes_written += active.bytes_written - before

    def _landed(self, flight: list[tuple[int, bytes]], size: int) -> None:
        active = self._active
        assert active is not None
        last = flight[-1][0]
        assert last > self.durable_id
        segment = self.segments[-1]
        segment.last, segment.count, segment.end = last, active.count, active.end
        self.durable_id = last
        self.committed += len(flight)
        self._waiting_records -= len(flight)
        self._waiting_bytes -= size
        self._in_flight = []
        self.fault = None

    def skip_flight(self) -> list[tuple[int, bytes]]:
        """Give up what is next to be committed, as if it were durable: a policy dropped it.

        The caller has made the loss durable first.
        """
        with self.lock:
            flight, self._in_flight = self._in_flight, []
            if flight:
                self.durable_id = flight[-1][0]
                self._waiting_records -= len(flight)
                self._waiting_bytes -= sum(len(document) for _, document in flight)
        self.tell()
        return flight

    def flight(self) -> list[tuple[int, bytes]]:
        """What the next commit would write."""
        with self.lock:
            self._fill_flight()
            return self._in_flight

    # -- the active file

    @property
    def active_at(self) -> tuple[int, int]:
        """Base and record count of the active file: after which trailer the next one comes."""
        return (self._active.base, self._active.count) if self._active else (self.next_id, 0)

    def _begin_active(self, base: int | None = None) -> ActiveFile:
        """Make the file for what comes next.

        Raises:
            DiskFault: The disk refused.
        """
        if base is None:
            with self.lock:
                base = self._first_waiting()
        try:
            active = ActiveFile(self._fs, self.directory, self.table, base, self.cursor())
        except OSError as error:
            self.fault = f"{self.directory}: {error}"
            raise DiskFault(f"{self.table}: no new file: {error}") from error
        self.bytes_written += active.bytes_written
        with self.lock:
            # Ids were given out only above all that is on disk, so the files never overlap.
            assert not self.segments or self.segments[-1].last < base
            while self.segments and not self.segments[-1].count:
                self.segments.pop()  # it failed before it had anything; the new file took its name
            self.segments.append(Segment(base, base - 1, 0, active.end))
        self._active = active
        return active

    def _first_waiting(self) -> int:
        if self._in_flight:
            return self._in_flight[0][0]
        return self._chunks[0][0] if self._chunks else self.next_id

    def _roll(self, base: int) -> None:
        """Seal the active file, having made the next one.

        In this order, since a directory without an active file would look as if nothing had been
        handed out beyond the last sealed one.
        """
        old, segment = self._active, self.segments[-1]
        assert old is not None
        self._active = None
        try:
            self._begin_active(base)
        except DiskFault:
            self._active = old
            raise
        self._seal(old, segment)

    def _seal(self, old: ActiveFile, segment: Segment) -> None:
        try:
            name = old.seal()
            self._fs.sync_directory(self.directory)
        except OSError as error:
            # All that counts in it is durable; `tidy` will write it anew.
            self._let_go(old)
            segment.suspect = True
            self.fault = f"{segment.name} could not be sealed: {error}"
            return
        with self.lock:
            segment.sealed, segment.verified, segment.size = name, True, segment.end + len(TAIL)
            self._sealed_bytes = None

    def _abandon_active(self, error: OSError) -> None:
        """A file whose write or fsync failed is never written, synced or trusted again."""
        self.fault = f"{self.directory}: {error}"
        if self._active is not None:
            self._let_go(self._active)
            self._active = None
            with self.lock:
                self.segments[-1].suspect = True

    def _let_go(self, active: ActiveFile) -> None:
        with suppress(OSError):  # closing may report what a write already did
            active.abandon()

    def roll(self) -> None:
        """Seal the active file when it has records, so that all of them are in sealed segments.

        Raises:
            DiskFault: The disk refused.
        """
        with self.io:
            if self._active is not None and self._active.count:
                with self.lock:
                    base = self._first_waiting()
                self._roll(base)

    def tidy(self) -> None:
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
                except OSError as error:
                    raise DiskFault(f"{segment.name}: {error}") from error

    def rewrite(self, segment: Segment) -> None:
        """Write the good records of a file to a new one; the file itself goes to the quarantine.

        Raises:
            OSError: The disk refused; nothing changed.
        """
        with self.io:
            if segment not in self.segments:
                return
            old = segment.name
            good = salvage(self._read_tolerant(old, segment), segment.base, segment.last)
            name, data = build_segment(
                self.table,
                segment.base,
                segment.rev + 1,
                good.records,
                last=segment.last,
                cursor=min(good.cursor, self.cursor()),
            )
            self._fs.close(create_durably(self._fs, self.directory, str(name), data))
            self.bytes_written += len(data)
            lost = segment.count - len(good.records)
            # A new object, since readers may be at work with the old one.
            self.replace(segment, Segment(name.base, name.last, name.count, -1, name.rev, name))
            self._quarantine.take(f"{self.directory}/{old}", f"{directory_name(self.table)}.{old}")
        if lost > 0:
            found = [loss for loss in good.losses if loss.last <= segment.last]
            for loss in found or [Loss(segment.base, segment.last, lost, "damaged")]:
                self._on_loss(self.table, loss)

    def replace(self, old: Segment, new: Segment) -> None:
        """Another file took the place of a segment's."""
        with self.lock:
            self.segments[self.segments.index(old)] = new
            self._sealed_bytes = None

    def _read_tolerant(self, name: str, segment: Segment) -> bytes:
        """A whole file; sectors that cannot be read come as zeros."""
        sector = 4096
        handle = self._fs.open(f"{self.directory}/{name}")
        try:
            size = self._fs.size(handle)
            if segment.suspect:
                size = min(size, segment.end)
            try:
                return self._fs.read(handle, size, 0)
            except OSError:
                data = bytearray(size)
                for at in range(0, size, sector):
                    with suppress(OSError):
                        piece = self._fs.read(handle, min(sector, size - at), at)
                        data[at : at + len(piece)] = piece
                return bytes(data)
        finally:
            self._fs.close(handle)

    # -- opening and closing

    def _recover(self) -> Recovered:
        def set_aside(path: str, name: str) -> None:
            self._quarantine.take(path, f"{directory_name(self.table)}.{name}")

        return Recovery(self._fs, self.directory, self.table, set_aside).run()

    def _sweep(self, names: list[str]) -> None:
        active = self._active
        for name in names:
            if active is None or name != self.segments[-1].name:
                with suppress(OSError):  # the next opening sweeps again
                    self._fs.unlink(f"{self.directory}/{name}")

    def close(self) -> None:
        """Commit what waits and seal the active file; what is closed so needs no recovery.

        Raises:
            DiskFault: The disk refused; what was not committed is lost with the process.
        """
        with self.io:
            if self.closed:
                return
            with self.lock:
                self.closed = True
            try:
                self.commit()
            finally:
                active, self._active = self._active, None
                if active is not None:
                    self._seal(active, self.segments[-1])

    def drop(self, segment: Segment) -> None:
        """Unlink a segment.

        Raises:
            OSError: The disk refused; the segment stays.
        """
        with self.io:
            if segment not in self.segments or segment is self.segments[-1]:
                return  # the last file carries the high-water mark
            self._fs.unlink(f"{self.directory}/{segment.name}")
            with self.lock:
                self.segments.remove(segment)
                self._sealed_bytes = None
                self.deleted.discard(segment.base, segment.last)

    # -- reading

    def first_segment(self, record_id: int) -> Segment | None:
        """The first segment that may have a record of at least this id."""
        with self.lock:
            at = bisect_left(self.segments, record_id, key=lambda segment: segment.last)
            return self.segments[at] if at < len(self.segments) else None

    def read(
        self, low: int, high: int, n: int, bytes_max: int | None = None, position: Position | None = None
    ) -> Block:
        """Durable records from `low` to `high`, ascending; at most `n`.

        Raises:
            DiskFault: The disk cannot be read.
        """
        high = min(high, self.durable_id)
        found = Block(position=position)
        size = 0
        while len(found.records) < n and (bytes_max is None or size < bytes_max or not found.records):
            segment = self.first_segment(low)
            if segment is None or segment.base > high or low > high:
                return found
            left = None if bytes_max is None else bytes_max - size
            try:
                text, found.position = self._read_lines(
                    segment, low, n - len(found.records), left, found.position
                )
            except FileNotFoundError:
                self._missing(segment)
                continue
            except DamagedSegment:
                self._rewrite_damaged(segment)
                continue
            except OSError:
                self._rewrite_damaged(segment)
                continue
            size += len(text)
            records = parse_lines(text)
            if not records:
                low = segment.last + 1
                continue
            low = records[-1][0] + 1
            if records[-1][0] > high:
                records = [record for record in records if record[0] <= high]
            found.records += [r for r in records if r[0] not in self.deleted] if self.deleted else records
        nothing_left = low > high
        found.complete = nothing_left
        return found

    def _read_lines(
        self, segment: Segment, low: int, n: int, bytes_max: int | None, position: Position | None
    ) -> tuple[bytes, Position]:
        with self.reader.open(segment) as handle:
            if position and (position.base, position.rev, position.next_id) == (
                segment.base,
                segment.rev,
                low,
            ):
                offset = position.offset
            elif low <= segment.base:
                offset = self.reader.first_offset()
            else:
                offset = self.reader.seek(segment, handle, low)
            text = self.reader.block(segment, handle, offset)
        text, used = take_lines(text, n, bytes_max)
        after = Position(segment.base, segment.rev, offset + used, 0)
        last = text.rfind(b"\n")
        if last != -1:
            start = text.index(b'"', last) + 1
            after.next_id = int(text[start : text.index(b'"', start)]) + 1
        return text, after

    def count(self, low: int, high: int) -> int:
        """How many durable records there are from `low` to `high`, both included.

        Raises:
            DiskFault: The disk cannot be read.
        """
        if high < low:
            return 0
        with self.lock:
            segments = [(segment, segment.base, segment.last, segment.count) for segment in self.segments]
        total = 0
        for segment, base, last, records in segments:
            if low <= base and last <= high:
                total += records
            elif base <= high and low <= last:
                try:
                    ids = self.reader.ids(segment)
                except FileNotFoundError:
                    self._missing(segment)
                    return self.count(low, high)
                except (DamagedSegment, OSError):
                    self._rewrite_damaged(segment)
                    return self.count(low, high)
                total += bisect_right(ids, high) - bisect_left(ids, low)
        return total - self.deleted.count_within(low, high)

    def _missing(self, segment: Segment) -> None:
        """The file of a segment is not there: it was replaced meanwhile, or somebody removed it."""
        with self.io:
            try:
                self._fs.close(self._fs.open(f"{self.directory}/{segment.name}"))
            except FileNotFoundError:
                pass
            else:
                return
            with self.lock:
                if segment not in self.segments or segment is self.segments[-1]:
                    return
                self.segments.remove(segment)
        if segment.count:
            self._on_loss(self.table, Loss(segment.base, segment.last, segment.count, "file missing"))

    def _rewrite_damaged(self, segment: Segment) -> None:
        try:
            self.rewrite(segment)
        except OSError as error:
            raise DiskFault(f"{segment.name} is damaged and cannot be written anew: {error}") from error

    def waiting(self) -> list[tuple[int, bytes]]:
        """The records in memory only, ascending."""
        with self.lock:
            records = list(self._in_flight)
            for first, documents, _ in self._chunks:
                records += enumerate(documents, first)
            return records

    @property
    def disk_bytes(self) -> int:
        """What its files take on disk, written-ahead space included."""
        with self.lock:
            if self._sealed_bytes is None:
                self._sealed_bytes = sum(self._size(segment) for segment in self.segments if segment.sealed)
            return self._sealed_bytes + (self._active.size if self._active else 0)

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

    @property
    def ever_used(self) -> bool:
        """Whether there is or was a record."""
        return self.next_id > 1

    @property
    def flight_bytes(self) -> int:
        """What the next commit would add at least."""
        with self.lock:
            return sum(len(document) for _, document in self._in_flight)

    def total(self) -> int:
        """How many records there are, the waiting ones too."""
        with self.lock:
            high, waiting = self.next_id, self._waiting_records
            stored = sum(segment.count for segment in self.segments)
        return stored + waiting - self.deleted.count_within(1, high)

    def find(self, record_id: int) -> dict[str, Any] | None:
        """One record, None when there is none of this id.

        Raises:
            DiskFault: The disk cannot be read.
        """
        if record_id in self.deleted or record_id < 1:
            return None
        for waiting_id, raw in self.waiting() if record_id > self.durable_id else ():
            if waiting_id == record_id:
                document: dict[str, Any] = parse_json(raw)
                return document
        found = self.read(record_id, record_id, 1)
        return found.records[0][1] if found.records else None

    def recent(self, n: int) -> list[tuple[int, dict[str, Any]]]:
        """The newest `n` durable records, ascending.

        Raises:
            DiskFault: The disk cannot be read.
        """
        with self.lock:
            segments, high = list(reversed(self.segments)), self.durable_id
        found: list[tuple[int, dict[str, Any]]] = []
        for segment in segments:
            if len(found) >= n:
                break
            if not segment.count:
                continue
            want = n - len(found)
            first = self._nth_from_end(segment, want + self.deleted.count_within(segment.base, segment.last))
            block = self.read(first, min(segment.last, high), segment.count)
            found = block.records[-want:] + found
        return found

    def _nth_from_end(self, segment: Segment, n: int) -> int:
        """The id of the n-th last record of a segment."""
        try:
            ids = record_ids(self.reader.newest(segment, n))
        except (DamagedSegment, OSError):
            return segment.base  # `read` will deal with what is wrong
        return ids[-n] if len(ids) >= n else segment.base

    def stream(self, low: int = 1) -> Iterator[tuple[int, dict[str, Any]]]:
        """All records from an id up, the waiting ones too, without holding them in memory."""
        position = None
        while True:
            with self.lock:
                high = self.durable_id
            found = self.read(low, high, 500, position=position)
            position = found.position
            yield from found.records
            if found.records:
                low = found.records[-1][0] + 1
            if found.complete:
                low = max(low, high + 1)
                break
        for record_id, raw in self.waiting():
            if record_id >= low and record_id not in self.deleted:
                yield record_id, parse_json(raw)
