"""Opening a directory: what a crash or a bad card left becomes sealed segments again.

1. Per base the highest revision counts whose content is what its name says; older ones and temporary
   files are swept last, a higher one that is damaged goes to the quarantine. So do files whose names
   state ids that no store can have.
2. A file left active is scanned. When only its end is torn, it is cut after its last good frame,
   that frame is written once more (a page that failed to reach the disk before the crash may still
   be in memory, marked as clean), and synced.
3. A file with a damaged frame before its end, or with ids that the next file has as well (its last
   write failed, and was repeated there), is not touched: its good frames are written to a new file,
   and it goes to the quarantine.
4. The next id lies past everything that may have been handed out.
5. What is lost, and which ids are skipped, is entered in the ledger: not what is damaged or torn in
   one file and whole in another, since its write had failed there and was repeated here. Only then
   do 2 and 3 happen: before, a second crash must find what told this opening of it.
6. The new active file is made durable. Only then do old ones get their sealed names, or go: before,
   a second crash must find what told this opening to skip ids.

No step is needed for opening: what the disk refuses stays as it is, is reported, and is read as far
as it is good.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING
from zlib import crc32

from buffer.errors import DiskFault
from buffer.filesystem import FileSystem, read_file
from buffer.layout import ID_MAX, TAIL, TRAILER_BYTES, header, is_of, record_ids
from buffer.loss import AT_MOST, NEVER_ISSUED, Loss
from buffer.naming import SealedName, active_name, is_temporary, parse_active, parse_sealed
from buffer.ranges import RangeSet
from buffer.salvage import Salvage, as_written, last_intact, salvage
from buffer.segment import Segment
from buffer.writer import build_segment, create_durably, is_left_by_crash

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffer.losses import Losses

PENDING_RECORDS_MAX = 1 << 16
"""How many ids can be handed out ahead of the disk, and so how many a recovery skips."""
_RECORD_BYTES_MIN = len('"1":{},')
UNSEEN_RECORDS_MAX = (4 << 20) // _RECORD_BYTES_MIN
"""As many records may be in a file of the usual size."""


@dataclass(slots=True)
class Recovered:
    """What was found in a directory."""

    segments: list[Segment] = field(default_factory=list)
    next_id: int = 1
    cursor: int = 0
    cursor_at: tuple[int, int] = (0, 0)
    """Base and record count at the trailer that states the cursor."""
    losses: list[Loss] = field(default_factory=list)
    damaged: list[Segment] = field(default_factory=list)
    """Files left active that have lost something."""
    renames: list[tuple[Segment, SealedName]] = field(default_factory=list)
    """Files to get their sealed name, once the new active file is durable: until then it is their
    old names that tell the next opening that ids were handed out beyond them."""
    aside: list[str] = field(default_factory=list)
    """Names to move to the quarantine then."""
    superseded: list[str] = field(default_factory=list)
    """Names to unlink then."""
    needed: set[str] = field(default_factory=set)
    """Names that stay all the same."""
    faults: list[str] = field(default_factory=list)
    highest_possible: int = 0
    """The highest id that unreadable bytes may have held."""
    any_file: bool = False
    """There was one at all: a directory that was used always has one."""
    any_active: bool = False
    """One was left active: one always is, unless the buffer was closed."""
    known: int = 0
    """The highest id that the files tell of."""
    missing: bool = False
    """There were later ones: of ids beyond, of which nobody tells, somebody has had some."""


@dataclass(slots=True)
class _Left:
    """A file that was left active, and what is in it."""

    segment: Segment
    data: bytes
    good: Salvage
    clipped: bool
    """Some of its records are in the next file as well."""
    endless: bool
    """How many records it had beyond these nobody can tell: no crash leaves it so."""


class Recovery:
    """Recovers one directory."""

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        table: str,
        quarantine: Callable[[str], None],
        losses: Losses,
    ) -> None:
        """Prepare it.

        Args:
            fs: The file system.
            directory: What is recovered.
            table: Whose records are in it.
            quarantine: Takes a name and moves that file out of the way.
            losses: Takes what is found lost.
        """
        self._fs = fs
        self._directory = directory
        self._table = table
        self._quarantine = quarantine
        self._losses = losses
        self._header_bytes = len(header(table)) + TRAILER_BYTES
        self._left: list[_Left] = []
        self._unread: set[int] = set()
        """Bases of files left active of which nothing can be read."""
        self._found = Recovered()

    def run(self, on_scanned: Callable[[Recovered], None] = lambda _: None) -> Recovered:
        """Bring the directory into order.

        Args:
            on_scanned: Is told what was found, before anything is written.

        Raises:
            OSError: The directory cannot even be listed.
        """
        found = self._found
        sealed, actives = self._list()
        found.highest_possible = max((name.last for name in sealed.values()), default=0)
        for base in set(actives) & set(sealed):
            if not sealed[base].count:  # it only carried the high-water mark until the active one came
                found.superseded.append(str(sealed.pop(base)))
        for base, parsed in sealed.items():
            found.segments.append(Segment(base, parsed.last, parsed.count, -1, parsed.rev, parsed))
        bases = sorted({*sealed, *actives})
        following: int | None = None
        """The lowest id in later files: one without records says nothing about what came before it."""
        for base in reversed(bases):
            if base not in sealed:
                first = self._look_at(base, None if following is None else following - 1)
                following = following if first is None else first
                continue
            if base in actives:  # it was salvaged, and the crash came before it could be moved
                found.aside.append(active_name(base))
            if sealed[base].count:
                following = base
        found.segments += [left.segment for left in self._left]
        found.segments.sort(key=lambda segment: segment.base)
        found.losses = [
            part for left in self._left for loss in left.good.losses for part in self._nowhere(left, loss)
        ]
        self._note_gaps()
        self._set_next_id(bases, unclean=bool(actives))
        on_scanned(found)
        self._mend()
        self._drop_empty()
        return found

    def _nowhere(self, damaged: _Left, loss: Loss) -> list[Loss]:
        """What of a loss no other file has: what failed to be written was written to the next file."""
        elsewhere = RangeSet()
        for left in self._left:
            if left is not damaged:
                ids = left.good.ids
                for each in ids[bisect_left(ids, loss.first) : bisect_right(ids, loss.last)]:
                    elsewhere.add(each, each)
        count = max(0, loss.count - elsewhere.count_within(loss.first, loss.last))
        parts = []
        for first, last in elsewhere.missing_within(loss.first, loss.last):
            here = min(count, last - first + 1)
            parts.append(replace(loss, first=first, last=last, count=here))
            count -= here
        return parts

    def _note_gaps(self) -> None:
        """What an earlier opening still read in a file, from memory, may be gone since."""
        found, left = self._found, {id(each.segment): each for each in self._left}
        torn = {loss.first - 1: loss.last for loss in found.losses}
        reached = 0
        for segment, following in pairwise(found.segments):
            reached = max(reached, segment.last, torn.get(segment.last, 0))
            gap = self._losses.lacking(self._table, reached + 1, following.base - 1)
            if id(segment) in left and gap and gap[0][0] == reached + 1:
                found.losses.append(_skipped(*gap[0], endless=left[id(segment)].endless))

    def _mend(self) -> None:
        """Bring the files left active into order, once the ledger has what they cost."""
        noted = RangeSet()  # what failed to be written was written to the next file: both may be torn
        for loss in self._found.losses:
            count = loss.count
            for unexplained in self._losses.unexplained(self._table, loss.first, loss.last):
                for first, last in noted.missing_within(*unexplained):
                    here = min(count, last - first + 1)
                    self._losses.note(self._table, Loss(first, last, here, loss.why))
                    count -= here
            noted.add(loss.first, loss.last)
        try:
            self._losses.enter()
        except DiskFault as fault:
            for left in self._left:
                self._stays(left, fault)
        else:
            # Those first that give up nothing: what another one gives up may be whole in them, but in memory only.
            for left in sorted(self._left, key=lambda left: left.clipped or bool(left.good.losses)):
                try:
                    self._mend_one(left)
                except OSError as error:
                    self._stays(left, error)

    def _stays(self, left: _Left, error: Exception) -> None:
        self._found.faults.append(f"{left.segment.name} stays as it is: {error}")
        left.segment.suspect = True

    def _list(self) -> tuple[dict[int, SealedName], list[int]]:
        """The sealed name that counts of each base, and the bases of active files."""
        revisions: dict[int, list[SealedName]] = {}
        actives: list[int] = []
        try:
            names = sorted(self._fs.list_directory(self._directory))
        except FileNotFoundError:
            names = []
        for name in names:
            parsed, base = parse_sealed(name), parse_active(name)
            if not ((parsed is None or parsed.possible) and (base is None or 1 <= base <= ID_MAX + 1)):
                self._found.faults.append(f"{name} states ids that no store can have")
                self._found.aside.append(name)
            elif parsed is not None:
                revisions.setdefault(parsed.base, []).append(parsed)
            elif base is not None:
                actives.append(base)
            elif is_temporary(name):
                self._found.superseded.append(name)
        return {base: self._choose(names) for base, names in revisions.items()}, actives

    def _choose(self, revisions: list[SealedName]) -> SealedName:
        """Of several revisions of a segment, the one that counts."""
        if len(revisions) == 1:
            return revisions[0]
        # Of one revision, an empty one only carried the high-water mark until the other came.
        revisions = sorted(revisions, key=lambda name: (name.rev, name.count, name.last), reverse=True)
        records: list[int] = []
        for at, name in enumerate(revisions):
            try:
                sound, intact = self._check(name)
            except OSError as error:  # it may be read the next time, so nothing is given up for it
                self._found.faults.append(f"{name} cannot be read: {error}")
                return name
            if sound:
                self._give_up(revisions[:at])
                self._found.superseded += map(str, revisions[at + 1 :])
                return name
            records.append(intact)
        best = revisions[records.index(max(records))]
        self._give_up([name for name in revisions if name is not best])
        return best

    def _check(self, name: SealedName) -> tuple[bool, int]:
        """Whether a file is what its name says, and how many of its records are intact."""
        data = read_file(self._fs, f"{self._directory}/{name}")
        if not is_of(data, self._table):
            return False, 0
        records = len(salvage(data, name.base).ids)
        return crc32(data) == name.crc and records == name.count and data.endswith(TAIL), records

    def _give_up(self, names: list[SealedName]) -> None:
        for name in names:
            self._found.faults.append(f"{name} is not what its name says, another revision is used")
            self._found.aside.append(str(name))

    def _set_next_id(self, bases: list[int], *, unclean: bool) -> None:
        found = self._found
        known = max(
            [segment.last for segment in found.segments]
            + [base - 1 for base in bases]
            + [loss.last for loss in found.losses],
            default=0,
        )
        found.any_file, found.any_active, found.known = bool(bases), unclean, known
        highest = max(known, found.highest_possible)
        entered = self._losses.highest(self._table)
        # When the ledger is ahead of the files, the last opening got no further, or ended with what it
        # gave out in memory only.
        skip = PENDING_RECORDS_MAX if unclean or entered > highest else 0
        # One past the last id says that they are used up; `append` tells.
        found.next_id = min(max(highest, entered) + 1 + skip, ID_MAX + 1)
        if found.next_id > known + 1:
            endless = self._unread | {left.segment.base for left in self._left if left.endless}
            found.losses.append(
                _skipped(known + 1, found.next_id - 1, endless=max(bases, default=0) in endless)
            )

    def _drop_empty(self) -> None:
        """Empty segments only carry the high-water mark until the next active file does."""
        found = self._found
        empty = [each for each in found.segments if not (each.count or each.suspect)]
        found.superseded += [each.name for each in empty]
        found.segments = [each for each in found.segments if each not in empty]
        found.renames = [(segment, name) for segment, name in found.renames if segment not in empty]

    def read_unsealed(self, name: str) -> bytes:
        """A whole file that is not sealed.

        Raises:
            OSError: It cannot be read.
        """
        return read_file(self._fs, f"{self._directory}/{name}")

    def _look_at(self, base: int, last_max: int | None) -> int | None:
        """See what is in an active file; gives the lowest id in it, None when it has no records."""
        try:
            data = self.read_unsealed(active_name(base))
        except OSError as error:
            self._found.faults.append(f"{active_name(base)} cannot be read: {error}")
            self._unread.add(base)
            highest = base - 1 + UNSEEN_RECORDS_MAX
            self._found.highest_possible = max(
                self._found.highest_possible, highest if last_max is None else min(highest, last_max)
            )
            return base
        # Another table's file in its place: none of what is in it is this one's.
        good = salvage(data if is_of(data, self._table) else b"", base, last_max)
        self._note_cursor(base, good)
        segment = self._as_found(base, good)
        if good.losses:
            self._found.damaged.append(segment)
        self._note_unreadable(segment, data, good, last_max)
        clipped, endless = self._clipped(data, good, last_max), self._is_endless(data, good)
        self._left.append(_Left(segment, data, good, clipped, endless))
        return good.ids[0] if good.ids else None

    def _mend_one(self, left: _Left) -> None:
        frames = left.good.frames
        tidy = as_written(left.data, frames)
        beyond = self._found.highest_possible > left.segment.last + PENDING_RECORDS_MAX
        if tidy and not left.clipped and not beyond and frames and frames[0].intact:
            self._cut_and_seal(left.segment, left.data, left.good)
        else:
            self._write_anew(left.segment, left.good)

    def _note_unreadable(self, segment: Segment, data: bytes, good: Salvage, last_max: int | None) -> None:
        """Bytes after the last good frame may have held ids that were handed out, even delivered."""
        last = last_intact(good.frames)
        unread = data[good.frames[last].end :] if last >= 0 else data
        unread = unread.rstrip(b" ").removesuffix(TAIL)
        highest = segment.last + len(unread) // _RECORD_BYTES_MIN
        if last_max is not None:
            highest = min(highest, last_max)
        self._found.highest_possible = max(self._found.highest_possible, highest)
        if last < 0:
            self._found.faults.append(f"{segment.name} has nothing that can be read")

    def _is_endless(self, data: bytes, good: Salvage) -> bool:
        """Whether durable records may have gone of which nothing is left, since no crash leaves a file so.

        The header is durable before the file has its name; what a crash leaves after that, `buffer.writer` tells.
        """
        last = last_intact(good.frames)
        if last < 0:
            return len(data.rstrip(b" ").removesuffix(TAIL)) != self._header_bytes
        frame = good.frames[last]
        return not is_left_by_crash(data, frame.end, frame.end - frame.start - TRAILER_BYTES)

    def _as_found(self, base: int, good: Salvage) -> Segment:
        last = good.ids[-1] if good.ids else base - 1
        at = last_intact(good.frames)
        end = good.frames[at].end if at >= 0 else 0
        return Segment(base, last, len(good.ids), end)

    def _clipped(self, data: bytes, good: Salvage, last_max: int | None) -> bool:
        if last_max is None:
            return False
        return any(
            frame.intact and any(each > last_max for each in record_ids(data[frame.start : frame.end]))
            for frame in good.frames
        )

    def _note_cursor(self, base: int, good: Salvage) -> None:
        intact = [frame for frame in good.frames if frame.intact]
        # A header alone may be of a file that failed to be made and came back: it knows no consumer made since.
        records = intact[-1].trailer.records if intact else 0
        if records and (base, records) >= self._found.cursor_at:
            self._found.cursor = intact[-1].trailer.cursor
            self._found.cursor_at = (base, records)

    def _cut_and_seal(self, segment: Segment, data: bytes, good: Salvage) -> None:
        path = f"{self._directory}/{segment.name}"
        last = good.frames[last_intact(good.frames)]
        torn = data[last.end :]
        if any(not frame.intact for frame in good.frames) and not torn.startswith(TAIL):
            self._keep_torn(segment, torn)
        handle = self._fs.open(path, write=True)
        try:
            self._fs.write(handle, data[last.start : last.end] + TAIL, last.start)
            self._fs.sync(handle)  # else a cut could leave a file that ends with what is torn, as none should
            self._fs.truncate(handle, last.end + len(TAIL))
            self._fs.sync(handle)
        finally:
            self._fs.close(handle)
        crc = crc32(TAIL, last.running_crc)
        name = SealedName(segment.base, 0, segment.count, crc, segment.last)
        self._found.renames.append((segment, name))

    def _keep_torn(self, segment: Segment, torn: bytes) -> None:
        """A last frame that is complete but wrong may be a torn write or a bad card: keep its bytes."""
        name = f"t.torn.{segment.base:016d}.json"
        with suppress(FileNotFoundError):
            self._fs.unlink(f"{self._directory}/{name}")
        self._fs.close(create_durably(self._fs, self._directory, name, torn.rstrip(b" ")))
        self._quarantine(name)

    def _write_anew(self, segment: Segment, good: Salvage) -> None:
        name, data = build_segment(
            self._table, segment.base, 1, good.records, last=segment.last, cursor=good.cursor
        )
        old = segment.name
        self._fs.close(create_durably(self._fs, self._directory, str(name), data))
        segment.sealed, segment.rev, segment.end = name, 1, -1
        self._found.aside.append(old)


def _skipped(first: int, last: int, *, endless: bool) -> Loss:
    """Ids that are passed over: perhaps some of them had records, where a file that may have had them is unreadable."""
    return Loss(first, last, last - first + 1, AT_MOST) if endless else Loss(first, last, 0, NEVER_ISSUED)
