"""What is left of a segment when the readings of one lane go: a file of its own, or one with its neighbour's."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from buffer.edit import Changes, Edit
from buffer.lanes import ALARM, NORMAL, AlarmPages, alarm_starts, is_alarm
from buffer.segment import split_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from buffer.database import BufferDB
    from buffer.ledger import Lost
    from buffer.log import Log
    from buffer.segment import Segment

_JOINED_BYTES: Final = 256 << 10
"""What is left of neighbours is joined up to this size: so large that there are few such files, so
small that joining rewrites little."""


@dataclass(frozen=True, slots=True)
class LiveRecord:
    """A record that was not deleted."""

    id: int
    raw: bytes
    lane: str


def live_records(log: Log, segment: Segment) -> list[LiveRecord]:
    """All records of a segment that were not deleted.

    Raises:
        OSError, DamagedSegment: As `SegmentReader.open`.
    """
    text = log.reader.raw(segment)
    if segment.alarms is None:
        segment.alarms = AlarmPages().plus(log.reader.first_offset() + at for at in alarm_starts(text))
    return _live(log, split_lines(text), alarms=bool(segment.alarms.count))


def salvaged_records(log: Log, segment: Segment) -> list[LiveRecord]:
    """Likewise of a damaged segment, as far as they are intact; what damage it has is in the ledger by now.

    Raises:
        OSError, DiskFault: As `StoredRecords.salvaged`.
    """
    return _live(log, log.salvaged(segment)[0], alarms=True)


def _live(log: Log, records: Sequence[tuple[int, bytes]], *, alarms: bool) -> list[LiveRecord]:
    return [
        LiveRecord(record_id, raw, ALARM if alarms and is_alarm(raw) else NORMAL)
        for record_id, raw in records
        if record_id not in log.deleted
    ]


def thin(
    db: BufferDB, log: Log, segment: Segment, kept: Sequence[LiveRecord], losses: Sequence[Lost]
) -> None:
    """Replace a segment by one with some of its records; the losses are entered together with the decision.

    Raises:
        DiskFault: The disk refused; nothing happened, or it will have at the next opening.
    """

    @contextmanager
    def entering(_: Changes) -> Iterator[list[tuple[str, str, Any]]]:
        with db.ledger.entering(losses) as rows:
            yield rows

    with log.io:
        records = [(record.id, record.raw) for record in kept]
        together = [segment]
        with log.lock:
            at = log.segments.index(segment)
            before = log.segments[at - 1] if at else None
        if before is not None and _is_left_over(before, sum(len(raw) for _, raw in records)):
            records = [(record.id, record.raw) for record in live_records(log, before)] + records
            together.insert(0, before)
        Edit(log, db.journal, db.options.fs, entering).replace(together, records)


def _is_left_over(segment: Segment, more_bytes: int) -> bool:
    """Whether a segment has alarms alone, and is small enough for being joined."""
    if segment.sealed is None or segment.alarms is None or not segment.count:
        return False
    return segment.alarms.count == segment.count and 0 <= segment.size <= _JOINED_BYTES - more_bytes
