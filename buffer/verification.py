"""Checking a buffer as a whole: every frame, every checksum, every document; what is damaged, and what that costs.

What a damaged file costs is found by salvaging it, in memory, with the code that `repair` and a running
buffer do it with: what is stated here is what they lose.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final
from zlib import crc32

from buffer.edit import EDITS
from buffer.inspection import Inspection, SeenTable
from buffer.journal import is_journal, twin_checksum
from buffer.layout import ID_MAX, TAIL, header, scan
from buffer.loss import AT_MOST, Loss
from buffer.naming import READINGS, active_name, is_temporary, parse_active, parse_sealed
from buffer.salvage import as_written
from buffer.segment import Segment, parse_documents
from buffer.summary import TIME

_READ_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Lost:
    """Records that cannot be read any more."""

    first: int
    last: int
    count: int
    undelivered: int
    """How many of them not every consumer has acknowledged: the others are lost to local history only."""
    after_s: float | None = None
    """When the last readable record before them was measured: seconds since 1970."""
    before_s: float | None = None
    """When the first one after them was."""
    at_most: bool = False
    """Nobody knows how many; these are all that may have been."""


@dataclass(slots=True)
class Damage:
    """A damaged file, and what it costs."""

    table: str
    file: str
    what: str
    intact: int
    """How many of its records can be read."""
    base: int | None = None
    """Of the sealed segment that it is; what else is damaged is put right by opening the buffer."""
    lost: list[Lost] = field(default_factory=list)


@dataclass(slots=True)
class TableVerdict:
    """A table that was gone through."""

    table: str
    segments: int = 0
    records: int = 0
    """That can be read, those deleted since included."""
    size_bytes: int = 0
    damages: list[Damage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is out of the ordinary, and costs nothing."""


@dataclass(slots=True)
class Verdict:
    """A buffer that was gone through."""

    tables: list[TableVerdict] = field(default_factory=list)
    state: list[str] = field(default_factory=list)
    """What is damaged of the small tables, and what that costs."""
    missing: list[Lost] = field(default_factory=list)
    """Readings whose files are gone."""

    @property
    def damages(self) -> list[Damage]:
        """All damaged files of all tables."""
        return [damage for table in self.tables for damage in table.damages]

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged or missing."""
        return not (self.damages or self.state or self.missing)

    @property
    def size_bytes(self) -> int:
        """How much was gone through."""
        return sum(table.size_bytes for table in self.tables)

    @property
    def records(self) -> int:
        """How many records can be read."""
        return sum(table.records for table in self.tables)


def verify(
    inspection: Inspection, progress: Callable[[int, int], object] = lambda _done, _all: None
) -> Verdict:
    """Go through a buffer; beside a running agent, too.

    Args:
        inspection: The buffer.
        progress: Told how many bytes are done, and how many there are.

    Raises:
        OSError: A directory cannot be read.
    """
    tables = [
        inspection.readings if name == READINGS else inspection.table(name) for name in inspection.tables()
    ]
    sizes = {id(segment): table.size_of(segment) for table in tables for segment in table.segments}
    done, everything = 0, sum(sizes.values())
    verdict = Verdict(state=list(_state_problems(inspection)))
    of_readings = _TableCheck(inspection, inspection.readings)
    for table in tables:
        check = of_readings if table is inspection.readings else _TableCheck(inspection, table)
        for segment in list(table.segments):
            check.segment(segment)
            done += sizes[id(segment)]
            progress(done, everything)
        verdict.tables.append(check.finish())
        check.verdict.size_bytes = sum(sizes[id(segment)] for segment in check.seen)
    verdict.missing = [of_readings.lost(loss) for loss in inspection.readings.missing]
    return verdict


class _TableCheck:
    """The check of one table."""

    def __init__(self, inspection: Inspection, table: SeenTable) -> None:
        self._inspection = inspection
        self._table = table
        self.verdict = TableVerdict(table.table)
        self.seen: list[Segment] = []
        self._mark = inspection.lowest_mark if table.table == READINGS else ID_MAX
        self._edges: list[tuple[int, float]] = []
        """Ids and times of records that stand at the edge of something."""
        self._losses: list[tuple[Damage, Loss]] = []

    def segment(self, segment: Segment) -> None:
        """Check one segment."""
        if segment.sealed is None:
            self._unsealed(segment)
            return
        try:
            sound = self._is_sound(segment)
        except FileNotFoundError:  # dropped meanwhile, or replaced by a sound one
            return
        except (OSError, ValueError):
            sound = False
        self.seen.append(segment)
        self.verdict.segments += 1
        if sound:
            self.verdict.records += segment.count
        else:
            self._salvage(segment)

    def _is_sound(self, segment: Segment) -> bool:
        """Whether a sealed file is what its name says, to the last byte and document.

        Raises:
            OSError: It cannot be read.
            ValueError: It has something else than JSON objects.
        """
        assert segment.sealed is not None
        crc, carry, tail = 0, b"", b""
        ids: list[int] = []
        for data in self._pieces(segment):
            crc, tail = crc32(data, crc), (tail + data)[-len(TAIL) :]
            if not (carry or ids or data.startswith(header(self._table.table))):
                return False  # another table's
            text = carry + data
            start, cut = (0 if carry else max(0, text.find(b"\n"))), text.rfind(b"\n")
            carry = text[cut:] if cut >= 0 else text
            documents = parse_documents(text[start:cut]) if cut > start else {}
            if documents:
                if not ids:
                    self._note_edge(next(iter(documents.items())))
                ids += map(int, documents)
                latest = documents
        if crc != segment.sealed.crc or tail != TAIL:
            return False
        if ids:
            self._note_edge(latest.popitem())
        within = not ids or (segment.base <= ids[0] and ids[-1] <= segment.last)
        return len(ids) == segment.count and within and ids == sorted(set(ids))

    def _pieces(self, segment: Segment) -> Iterator[bytes]:
        fs = self._inspection.fs
        handle = fs.open(f"{self._table.directory}/{segment.name}")
        try:
            for offset in range(0, fs.size(handle), _READ_BYTES):
                yield fs.read(handle, _READ_BYTES, offset)
        finally:
            fs.close(handle)

    def _note_edge(self, record: tuple[int | str, dict[str, Any]]) -> None:
        time = record[1].get(TIME)
        if isinstance(time, int | float):
            self._edges.append((int(record[0]), float(time)))

    def _salvage(self, segment: Segment) -> None:
        """Find what is left of a damaged file, as `repair` will."""
        table, name = self._table, segment.name
        data = table.read_tolerant(name, segment)
        known = len(table.losses)
        table.rewrite(segment)
        left = table.first_segment(segment.base)
        intact = left.count if left is not None and left.base == segment.base else 0
        self.verdict.records += intact
        self._damaged(Damage(table.table, name, _what(data), intact, segment.base), table.losses[known:])
        self._note_neighbours(segment, table.losses[known:])

    def _unsealed(self, segment: Segment) -> None:
        """A file that a process is writing, or that one left so."""
        self.seen.append(segment)
        self.verdict.segments += 1
        self.verdict.records += segment.count
        self._note_neighbours(segment, self._table.losses)

    def _note_neighbours(self, segment: Segment, losses: list[Loss]) -> None:
        """Note the times next to what was lost in a segment, and at its ends."""
        before = None
        for record in self._table.stream_stored(segment.base, segment.last):
            at_an_end = before is None or any(before[0] < each.first <= record[0] for each in losses)
            if at_an_end:
                self._note_edge(before or record)
                self._note_edge(record)
            before = record
        if before is not None:
            self._note_edge(before)

    def _damaged(self, damage: Damage, losses: Iterable[Loss]) -> None:
        self.verdict.damages.append(damage)
        self._losses += [(damage, loss) for loss in losses]

    def finish(self) -> TableVerdict:
        """What was found; call once all segments are checked."""
        names = sorted(self._table.names())
        bases = [base for name in names if (base := parse_active(name)) is not None]
        self._unsealed_damages([base for base in bases if 1 <= base <= ID_MAX + 1])
        self._strange(names)
        self._edges.sort()
        for damage, loss in self._losses:
            damage.lost.append(self.lost(loss))
        return self.verdict

    def lost(self, loss: Loss) -> Lost:
        """A loss, with what is known of its time; once all segments are checked."""
        edges, undelivered = self._edges, loss.beyond(self._mark)
        return Lost(
            loss.first,
            loss.last,
            loss.count,
            undelivered.count if undelivered else 0,
            next((time for record_id, time in reversed(edges) if record_id < loss.first), None),
            next((time for record_id, time in edges if record_id > loss.last), None),
            at_most=loss.why == AT_MOST,
        )

    def _unsealed_damages(self, bases: list[int]) -> None:
        recovered, missing = self._table.recovered, self._table.missing
        for base, following in pairwise([*bases, ID_MAX + 1]):
            losses = [each for each in recovered.losses if each.count and base <= each.first < following]
            losses = [each for each in losses if each not in missing]
            faults = [each for each in recovered.faults if each.startswith(active_name(base))]
            faults = [fault for fault in faults if "stays as it is" not in fault]
            try:
                data = self._table.unsealed(active_name(base))
            except FileNotFoundError:  # it was sealed meanwhile, or replaced by what could be salvaged of it
                data = b""
            if losses or faults or (data and not as_written(data, scan(data))):
                left = self._table.first_segment(base)
                intact = left.count if left is not None and left.base == base else 0
                self._damaged(Damage(self._table.table, active_name(base), _what(data), intact), losses)
            elif not self._inspection.in_use and recovered.losses:
                self.verdict.notes.append(
                    f"{active_name(base)}: its process did not close it; the next one goes on with"
                    f" id {recovered.next_id:,}"
                )

    def _strange(self, names: list[str]) -> None:
        recovered, verdict = self._table.recovered, self.verdict
        told = {damage.file for damage in verdict.damages}
        for fault in recovered.faults:
            name, _, what = fault.partition(" ")
            if name in recovered.aside and name not in told:
                self._damaged(Damage(self._table.table, name, what, 0), [])
        high_water = {name for name in names if (parsed := parse_sealed(name)) and not parsed.count}
        passing = [name for name in {*recovered.superseded} - high_water if name in names]
        if passing and not self._inspection.in_use:
            verdict.notes.append(
                f"unfinished or superseded files that the next start removes: {len(passing)}"
            )
        if self._inspection.journal.get(EDITS, self._table.table):
            verdict.notes.append("a change was decided on, and is finished at the next start")
        for name in names:
            if not (parse_sealed(name) or parse_active(name) is not None or is_temporary(name)):
                verdict.notes.append(f"{name} is not the buffer's, and left alone")


def _what(data: bytes) -> str:
    """What is wrong with the bytes of a segment."""
    frames = scan(data)
    damaged = sum(not frame.intact for frame in frames)
    if len(frames) == damaged:
        return "has nothing that can be read"
    end = max(frame.end for frame in frames if frame.intact)
    torn = data[end:].rstrip(b" ") != TAIL and frames[-1].intact
    if damaged:
        return f"has {damaged} of {len(frames)} frames damaged" + (", and is torn or cut off" if torn else "")
    if torn:
        return "is torn or cut off at its end"
    return "is not what its name says" if as_written(data, frames) else "has a damaged checksum"


def _state_problems(inspection: Inspection) -> Iterator[str]:
    """What is damaged of the small tables."""
    directory, fs = f"{inspection.path}/.state", inspection.fs

    def read(name: str) -> bytes:
        handle = fs.open(f"{directory}/{name}")
        try:
            return fs.read(handle, fs.size(handle), 0)
        finally:
            fs.close(handle)

    names = fs.list_directory(directory)
    if inspection.journal.damaged:
        for name in filter(is_journal, sorted(names)):
            try:
                data = inspection.settled(lambda name=name: read(name))  # type: ignore[misc]
            except FileNotFoundError:  # a newer one took its place meanwhile
                continue
            frames = scan(data)
            if not as_written(data, frames) or data[frames[-1].end :].rstrip(b" ") != TAIL:
                yield (
                    f"{name} {_what(data)}: what was acknowledged may be sent again, and what else was noted there"
                    " be older than it was"
                )
    if not inspection.epochs and any(table.recovered.segments for table in [inspection.readings]):
        yield (
            "the identity is lost: its readings get a new store id, so that a receiver takes those sent again for"
            " new ones"
        )
    for name in names:
        checksum = twin_checksum(name)
        with suppress(FileNotFoundError):  # a newer one took its place meanwhile
            if checksum is not None and crc32(read(name)) != checksum:
                yield f"{name}: the second copy of the identity is damaged; the first one counts"
