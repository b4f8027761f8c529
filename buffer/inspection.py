"""Looking at a buffer's directory without opening it: nothing is locked, and nothing written.

A running agent is not disturbed by it, and does not disturb: what it has committed when the looking
begins is what is seen. A file that was sealed, replaced or dropped meanwhile is looked for under its
new name; one that is written at this moment is read again, until its end is that of a commit.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from buffer.consumers import CONSUMERS, Consumers, raise_marks
from buffer.edit import DELETED, disregard_given_up
from buffer.errors import NoBuffer
from buffer.filesystem import FileSystem, SystemFileSystem
from buffer.identity import Identity, identities_of
from buffer.journal import Journal, SmallTable
from buffer.lane_queries import count_lane
from buffer.lanes import LANES, lane_of
from buffer.layout import TAIL, scan
from buffer.ledger import Ledger
from buffer.loss import AT_MOST, FILE_MISSING, Loss
from buffer.losses import SeenLosses
from buffer.missing import MissingFiles
from buffer.naming import READINGS, is_segment, table_of
from buffer.overlay import Overlay
from buffer.progress import Progress
from buffer.quarantine import Quarantine
from buffer.ranges import RangeSet
from buffer.recovery import Recovered, Recovery
from buffer.segment import Segment, is_table
from buffer.streaming import StreamedRecords
from buffer.summaries import read_sidecar
from buffer.version import require_readable
from buffer.wear import WEAR, stored_open, stored_reached

_LOOKS: Final = 20
_PAUSE_S: Final = 0.05
_LOCK: Final = re.compile(r"\d+: FLOCK +\S+ +WRITE (\d+) \S+:\S+:(\d+) ")


def lock_holder(path: str | os.PathLike[str], locks: Path = Path("/proc/locks")) -> int | None:
    """The process that has a buffer open; None when none has, or none that can be seen from here.

    Trying the lock would keep an agent that starts at this moment from getting it.
    """
    try:
        inode = os.stat(f"{os.fspath(path)}/.lock").st_ino  # noqa: PTH116 (beside the seam: no file of the buffer's own)
        text = locks.read_text()
    except OSError:
        return None
    holders = [int(pid) for pid, locked in _LOCK.findall(text) if int(locked) == inode]
    return holders[0] if holders else None


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """What is stored of a consumer."""

    name: str
    progress: Progress

    @property
    def mark(self) -> int:
        """Everything up to this id is acknowledged."""
        return self.progress.mark

    def has(self, record_id: int, document: dict[str, Any]) -> bool:
        """Whether it acknowledged a record."""
        return self.progress.is_settled(record_id, lane_of(document))


@dataclass(frozen=True, slots=True)
class QuarantinedFile:
    """A damaged file that was set aside."""

    name: str
    size_bytes: int
    modified_s: float


class Inspection:
    """A buffer's directory at one moment.

    Attributes:
        path: The directory.
        in_use: A process has it open.
        below: The file system that it is on.
        fs: What is looked through: nothing below is changed by it.
        journal: Its small tables.
        epochs: Whose records these are, ascending.
        consumers: Who takes records out, as far as that is stored: a running agent writes it down every
            ten seconds.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fs: FileSystem | None = None,
        in_use: bool | None = None,
        pause: Callable[[], object] = lambda: time.sleep(_PAUSE_S),
    ) -> None:
        """Look at its small tables.

        Args:
            path: The directory.
            fs: The file system; this machine's unless given.
            in_use: Whether a process has it open; unless given, this machine's locks say so, which do not
                tell of processes in other containers.
            pause: Waits for what is being written at this moment.

        Raises:
            NoBuffer: There is no buffer in it.
            UnknownFormat: A newer version wrote it, in a format that this one cannot read.
            OSError: It cannot be read.
        """
        self.path = os.fspath(path)
        self.in_use = lock_holder(path) is not None if in_use is None else in_use
        self._looks = 1 if in_use is False else _LOOKS
        self._pause = pause
        self.below: FileSystem = SystemFileSystem() if fs is None else fs
        self.fs = Overlay(self.below)
        self._require_buffer()
        self.journal = self._settled_journal()
        if not self.in_use:  # whoever has it open may have carried out since what was read
            disregard_given_up(self.path, self.journal, self.fs)
        self.epochs = identities_of(SmallTable(self.journal, "identity"))
        self._readings = self.table(READINGS)
        rows = dict(self.journal.items(CONSUMERS))
        raise_marks(rows, self._readings.recovered)
        self.consumers = [ConsumerState(name, Progress(row)) for name, row in rows.items()]

    def _require_buffer(self) -> None:
        try:
            names = self.fs.list_directory(self.path)
        except (FileNotFoundError, NotADirectoryError):
            raise NoBuffer(f"there is no buffer in {self.path}: there is no such directory") from None
        if ".state" not in names and READINGS not in names:
            raise NoBuffer(f"there is no buffer in {self.path}: it has neither .state nor {READINGS}")
        require_readable(self.fs, self.path)

    def _settled_journal(self) -> Journal:
        for _ in range(self._looks):
            journal = Journal(self.fs, f"{self.path}/.state")
            if not journal.damaged:
                break
            if self._looks > 1:
                self._pause()
        return journal

    def settled(self, read: Callable[[], bytes]) -> bytes:
        """What `read` gives once the last commit in it is complete; without what a running process never completes.

        Raises:
            OSError: As `read`.
        """
        data, end = read(), 0
        for _ in range(self._looks):
            end = _complete_end(data)
            if data[end:].rstrip(b" ") == TAIL:
                return data
            if self._looks > 1:
                self._pause()
                data = read()
        end = _complete_end(data)
        return data[:end] + TAIL if self.in_use and end else data

    # -- tables

    def tables(self) -> list[str]:
        """The tables that have files, the readings first.

        Raises:
            OSError: The directory, or a table's in it, cannot be read.
        """
        names = self.fs.list_directory(self.path)
        found = {table_of(name) for name in names if is_table(self.fs, self.path, name)}
        return sorted(found, key=lambda table: (table != READINGS, table))

    def table(self, name: str) -> "SeenTable":
        """The records of a table, as of now.

        Raises:
            OSError: Its directory cannot be read.
        """
        return SeenTable(self, name)

    @property
    def readings(self) -> "SeenTable":
        """The readings, as of the beginning."""
        return self._readings

    def look_for_missing(self, found: Recovered) -> None:
        """Note which files of the readings are gone, as the next opening will.

        Not while a process has the buffer open: it notices by itself, and lets go of files meanwhile.
        """
        if not self.in_use:
            wear = self.small_table(WEAR)
            consumers = Consumers(_no_log, self.small_table(CONSUMERS), self.epochs)
            consumers.recovered(found)
            ledger = Ledger(self.journal, READINGS, lambda: 0.0, lambda _: "")
            missing = MissingFiles(
                consumers, ledger, reached=stored_reached(wear), was_open=stored_open(wear)
            )
            missing.look(found)

    @property
    def lowest_mark(self) -> int:
        """Up to which id all consumers have acknowledged; 0 without any."""
        return min((consumer.mark for consumer in self.consumers), default=0)

    def backlog(self, consumer: ConsumerState) -> int:
        """How many readings a consumer has not acknowledged.

        Raises:
            DiskFault: The disk cannot be read.
        """
        table, total = self.readings, 0
        for part in consumer.progress.open_parts(table.durable_id):
            if part.lanes == LANES:
                total += table.count(part.low, part.high)
            else:
                total += sum(count_lane(table, part.low, part.high, lane) for lane in part.lanes)
        return total

    def undelivered(self, record_id: int, document: dict[str, Any]) -> bool:
        """Whether a consumer has not acknowledged a reading; without any consumer, nothing was delivered."""
        return not self.consumers or not all(each.has(record_id, document) for each in self.consumers)

    def identity_of(self, record_id: int) -> Identity | None:
        """Whose record it is; None when the buffer lost its identity."""
        return next((each for each in reversed(self.epochs) if each.first_seq <= record_id), None)

    # -- small tables and others

    def small_table(self, name: str) -> SmallTable:
        """A small table, as of the beginning; to be read only."""
        return SmallTable(self.journal, name)

    @property
    def told(self) -> int:
        """How many lost records the ledger counts, those of entries that were folded into sums included."""
        sums = dict(self.journal.items("ledger_totals"))
        sums.pop("folded", None)  # an id, not a number of records
        entries = [row["count"] for _, row in self.journal.items("ledger")]
        return sum(map(int, [*entries, *sums.values()]))

    def quarantine(self) -> list[QuarantinedFile]:
        """The damaged files that were set aside, oldest first.

        Raises:
            OSError: They cannot be listed.
        """
        directory, found = f"{self.path}/.quarantine", []
        for name in Quarantine(self.fs, directory).names():
            path = f"{directory}/{name}"
            with suppress(FileNotFoundError):  # it made room for another one
                found.append(QuarantinedFile(name, self.size(path), self.fs.modified_s(path)))
        return found

    def size(self, path: str) -> int:
        """How many bytes a file has.

        Raises:
            OSError: It cannot be opened.
        """
        handle = self.fs.open(path)
        try:
            return self.fs.size(handle)
        finally:
            self.fs.close(handle)


def _no_log() -> NoReturn:
    raise AssertionError("nobody takes anything out of what is only looked at")


def _complete_end(data: bytes) -> int:
    """Where the last complete commit ends."""
    return max((frame.end for frame in scan(data) if frame.intact), default=0)


class _PatientRecovery(Recovery):
    """A recovery that lets a process finish the commit it is writing."""

    inspection: Inspection

    def read_unsealed(self, name: str) -> bytes:
        """The file, up to its last complete commit when it is being written."""
        return self.inspection.settled(lambda: Recovery.read_unsealed(self, name))


class SeenTable(StreamedRecords):
    """The durable records of a table at one moment; what is damaged is left out, and told.

    Attributes:
        losses: What could not be read so far, that the buffer's own recovery found included.
        aside: Files that an opening would set aside, so far.
        on_segment: Called with each segment that is come to.
    """

    def __init__(self, inspection: Inspection, table: str) -> None:
        """Look which segments there are, and at the last commit."""
        self._inspection = inspection
        self.losses: list[Loss] = []
        self.aside: list[str] = []
        self.on_segment: Callable[[Segment], object] = lambda _: None
        path, fs = inspection.path, inspection.fs
        tombstones = RangeSet(inspection.journal.get(DELETED, table) or ())

        def take_in(found: Recovered) -> None:
            found.losses = [left for loss in found.losses if (left := loss.without(tombstones))]
            if table == READINGS:
                inspection.look_for_missing(found)

        super().__init__(
            fs,
            path,
            table,
            cursor=lambda: 0,
            quarantine=Quarantine(fs, f"{path}/.quarantine"),
            losses=SeenLosses(self._note),
            look=lambda: None,
            on_recovered=take_in,
        )
        fs.keep()
        self.durable_id = max((segment.last for segment in self.segments if segment.count), default=0)
        self.losses += [loss for loss in self.recovered.losses if loss.count]
        known = read_sidecar(fs, path, table)
        for segment in self.segments:
            segment.summary = known.get(segment.name) if segment.sealed else None
            for first, last in tombstones.within(segment.base, segment.last):
                self.deleted.add(first, last)

    def _recover(self, on_scanned: Callable[[Recovered], None]) -> Recovered:
        for _ in range(_LOOKS):
            names = self._segment_names()
            self.aside.clear()
            found = self._recovery().run(on_scanned)
            if self._segment_names() == names:  # nothing was sealed or dropped meanwhile
                break
        return found

    def _segment_names(self) -> set[str]:
        return set(filter(is_segment, self.names()))

    def names(self) -> list[str]:
        """All names in its directory; none when there is no such directory.

        Raises:
            OSError: It cannot be listed.
        """
        try:
            return self._inspection.below.list_directory(self.directory)
        except FileNotFoundError:
            return []

    def unsealed(self, name: str) -> bytes:
        """A file that is not sealed, up to its last complete commit when it is being written.

        Raises:
            OSError: It cannot be read.
        """
        return self._recovery().read_unsealed(name)

    def _recovery(self) -> _PatientRecovery:
        found_later = SeenLosses(lambda _: None)
        recovery = _PatientRecovery(self._fs, self.directory, self.table, self.set_aside, found_later)
        recovery.inspection = self._inspection
        return recovery

    @property
    def missing(self) -> list[Loss]:
        """What files held that are gone."""
        found = self.recovered
        gone = {FILE_MISSING} if found.any_active else {FILE_MISSING, AT_MOST}
        return [loss for loss in found.losses if loss.count and loss.why in gone]

    def _note(self, loss: Loss) -> None:
        if loss.why != FILE_MISSING:  # it was delivered, and its time was over
            self.losses.append(loss)

    def set_aside(self, name: str) -> None:
        """Note what an opening would set aside."""
        self.aside.append(name)

    def begin_anew(self) -> None:
        """The last file was sealed meanwhile: that is all."""

    def stream(
        self, low: int = 1, *, skip: Callable[[Segment], bool] | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """All records from an id up; see `stream_stored`.

        Raises:
            DiskFault: The disk cannot be read.
        """
        return self.stream_stored(low, self.durable_id, skip=skip)

    def stream_stored(
        self, low: int, high: int, *, skip: Callable[[Segment], bool] | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """As for any table, telling `on_segment` of each segment."""

        def noted(segment: Segment) -> bool:
            self.on_segment(segment)
            return skip is not None and skip(segment)

        return super().stream_stored(low, high, skip=noted)

    def snapshot(self) -> tuple[list[tuple[Segment, int]], list[tuple[int, bytes]]]:
        """The segments, each with its highest id; nothing waits."""
        with self.lock:
            return [(segment, segment.last) for segment in self.segments if segment.count], []

    def sum_up(self, segment: Segment) -> None:
        """Give a segment its summary, reading it where the sidecar has none.

        Raises:
            DiskFault: The disk cannot be read.
        """
        if segment.summary is None:
            for _ in self.summarize(segment):
                pass

    def size_of(self, segment: Segment) -> int:
        """How many bytes a segment's file has."""
        return self._size(segment)
