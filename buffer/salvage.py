"""What is intact in a damaged file, and what the damage costs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING
from zlib import crc32

from buffer.layout import TAIL, TRAILER_BYTES, Frame, record_ids, scan
from buffer.loss import TORN, Loss
from buffer.segment import split_lines

if TYPE_CHECKING:
    from buffer.segment import Segment


@dataclass(frozen=True, slots=True)
class Salvage:
    """What is intact in a damaged file."""

    ids: list[int]
    """Of the records, ascending."""
    losses: list[Loss]
    frames: list[Frame]
    cursor: int
    data: bytes = field(repr=False)

    @property
    def records(self) -> list[tuple[int, bytes]]:
        """The records themselves; made when they are asked for, since a sound file needs none of them."""
        found: dict[int, bytes] = {}
        for frame in self.frames:
            if frame.intact and frame.start:
                for record_id, raw in split_lines(self.data[frame.start : frame.end - TRAILER_BYTES]):
                    found.setdefault(record_id, raw)
        return [(each, found[each]) for each in self.ids]


def last_intact(frames: list[Frame]) -> int:
    """Which is the last good one; -1 when none is."""
    return max((at for at, frame in enumerate(frames) if frame.intact), default=-1)


def as_written(data: bytes, frames: list[Frame]) -> bool:
    """Whether the bytes up to the end of the last good frame are those that were written.

    A frame of which only the checksum was hit is intact, but not as it was written.
    """
    last = last_intact(frames)
    if last < 0 or not all(frame.intact for frame in frames[:last]):
        return False
    return crc32(memoryview(data)[: frames[last].end]) == frames[last].running_crc


def salvage(data: bytes, base: int, last_max: int | None = None) -> Salvage:
    """The records of all intact frames of a file, and what its damaged ones cost.

    A disk may write a sector where another one belongs, and so a frame a second time: a record of an id is
    the same wherever it stands, and counts once. A frame with an id below the base is another file's.

    Args:
        data: The whole file.
        base: The lowest id it can hold.
        last_max: Ids above it are in a later file, and are left out here.
    """
    ids: list[int] = []
    losses: list[Loss] = []
    frames = scan(data)
    cursor = 0
    known = 0
    """How many records the file had up to here."""
    lost = 0
    highest = base - 1
    for frame in frames:
        found = record_ids(data[frame.start : frame.end]) if frame.intact and frame.start else []
        if found and found[0] < base:
            frame.intact = False  # another file's
        if not frame.intact:
            lost += 1
            continue
        cursor = frame.trailer.cursor
        if lost and frame.start:
            missing = max(0, frame.trailer.records - len(found) - known)
            if missing:
                before = found[0] - 1 if found else highest + 1
                losses.append(Loss(highest + 1, max(before, highest + missing), missing, "damaged"))
        known, lost = max(known, frame.trailer.records), 0
        ids += found
        highest = max([highest, *found[-1:]])
    if any(one >= other for one, other in pairwise([base - 1, *ids])):
        ids = sorted(set(ids))
    last_good = last_intact(frames)
    rest = data[frames[last_good].end if last_good >= 0 else 0 :]
    # A commit is durable only when the tail of the one before is overwritten.
    tail = [] if rest.startswith(TAIL) else record_ids(rest)
    unread = len(set(tail).difference(ids)) if tail else 0
    if lost and not rest.startswith(TAIL):  # the trailer may know better, unless it was hit itself
        stated = frames[-1].trailer.records - known
        unread = max(unread, stated if stated <= 2 * unread + 1 else 0)
    if unread:  # whether they were ever durable nobody can tell any more
        losses.append(Loss(highest + 1, highest + unread, unread, TORN))
    if last_max is not None:
        ids = [each for each in ids if each <= last_max]
        losses = [loss for loss in losses if loss.first <= last_max]
    return Salvage(ids, losses, frames, cursor, data)


def losses_of(ids: list[int], segment: Segment, found: list[Loss]) -> list[Loss]:
    """What a sealed segment has lost, exactly as much as its name counts more than is left of it.

    Args:
        ids: What is left, ascending.
        segment: The segment as its name states it.
        found: What its frames say about it; they may know less, since they may be gone themselves.
    """
    lost = segment.count - len(ids)
    if lost <= 0:
        return []
    edges = [segment.base - 1, *ids, segment.last + 1]
    gaps = [(one + 1, other - 1) for one, other in pairwise(edges) if other - one > 1]
    if not ids:  # the file will go: then nothing else says what became of ids that were none of its records
        return [Loss(*gaps[0], lost, "damaged")]
    if sum(last - first + 1 for first, last in gaps) == lost:
        return [Loss(first, last, last - first + 1, "damaged") for first, last in gaps]
    if sum(loss.count for loss in found) == lost:
        return found
    return [Loss(gaps[0][0], gaps[-1][1], lost, "damaged")]
