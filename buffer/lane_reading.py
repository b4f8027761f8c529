"""Reading one lane of a segment, and the newest records first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from buffer.lanes import (
    ALARM,
    NORMAL,
    AlarmPages,
    alarm_starts,
    chosen_lines,
    is_alarm,
    joined,
    line_id,
    line_starts,
)
from buffer.segment import BLOCK_BYTES, Position, split_lines

if TYPE_CHECKING:
    from buffer.segment import Segment, SegmentReader


def learn_alarms(reader: SegmentReader, segment: Segment) -> AlarmPages:
    """Where the alarms of a segment are; reads all of it when that is not known yet.

    Raises:
        FileNotFoundError, DamagedSegment: As `SegmentReader.open`.
    """
    alarms = segment.alarms
    if alarms is None:
        text = reader.raw(segment)
        alarms = AlarmPages().plus(reader.first_offset() + start for start in alarm_starts(text))
        segment.alarms = alarms
    return alarms


def alarms_from(
    reader: SegmentReader,
    segment: Segment,
    bounds: tuple[int, int],
    n: int,
    bytes_max: int | None,
    position: Position | None,
) -> tuple[bytes, Position]:
    """The lines of the first `n` alarms with ids within bounds, and where to go on; at least one, if there is one.

    Raises:
        FileNotFoundError, DamagedSegment: As `SegmentReader.open`.
    """
    low, high = bounds
    # In this order, since a commit between the two lines only adds alarms beyond `last`.
    last = segment.last
    alarms = learn_alarms(reader, segment)
    after = Position(segment.base, segment.rev, reader.first_offset(), min(last, high) + 1)
    if not alarms.pages:
        return b"", after
    lines: list[bytes] = []
    size = 0
    with reader.open(segment) as handle:
        if position and (position.base, position.rev, position.next_id) == (segment.base, segment.rev, low):
            after.offset = position.offset
        elif low > segment.base:
            after.offset = reader.seek(segment, handle, low)
        while after.offset < segment.end and (run := alarms.run_from(after.offset)) is not None:
            begin, text = reader.lines_within(segment, handle, *run)
            starts = alarm_starts(text)
            for start, line in zip(starts, chosen_lines(text, starts), strict=True):
                record_id = line_id(text, start)
                full = len(lines) == n or (bytes_max is not None and lines and size + len(line) > bytes_max)
                if full or record_id > high:
                    after.offset, after.next_id = begin + start, min(record_id, high + 1)
                    return joined(lines), after
                lines.append(line)
                size += len(line)
            after.offset = begin + len(text)
    assert after.next_id > low
    return joined(lines), after


@dataclass(slots=True)
class Newest:
    """The newest records of a part of a segment."""

    lines: list[bytes] = field(default_factory=list)
    reached: int = 0
    """All that was asked for down to this id is among them."""


def newest_before(
    reader: SegmentReader,
    segment: Segment,
    bounds: tuple[int, int],
    n: int,
    bytes_max: int | None,
    lane: str | None,
) -> Newest:
    """The lines of the last `n` records with ids within bounds, ascending; at least one, if there is one.

    Raises:
        FileNotFoundError, DamagedSegment: As `SegmentReader.open`.
    """
    low, high = bounds
    alarms = learn_alarms(reader, segment) if lane == ALARM else None
    found = Newest(reached=max(low, segment.base))
    kept: list[bytes] = []
    size = 0
    with reader.open(segment) as handle:
        stop = segment.end if high >= segment.last else reader.seek(segment, handle, high + 1)
        while stop > reader.first_offset():
            run = (max(reader.first_offset(), stop - BLOCK_BYTES), stop)
            if alarms is not None:
                pages = alarms.run_before(stop)
                if pages is None:
                    break
                run = pages
            for record_id, line in reversed(_lines(reader, segment, handle, run, lane)):
                if record_id > high:
                    continue
                full = len(kept) == n or (bytes_max is not None and kept and size + len(line) > bytes_max)
                if record_id < low or full:
                    found.reached = max(low, record_id + 1)
                    found.lines = kept[::-1]
                    return found
                kept.append(line)
                size += len(line)
            stop = run[0]
    found.lines = kept[::-1]
    return found


def _lines(
    reader: SegmentReader, segment: Segment, handle: int, run: tuple[int, int], lane: str | None
) -> list[tuple[int, bytes]]:
    """Ids and lines of the records of a lane that begin in a run of bytes."""
    _, text = reader.lines_within(segment, handle, *run)
    starts = alarm_starts(text) if lane == ALARM else line_starts(text)
    if lane == NORMAL:
        alarms = set(alarm_starts(text))
        starts = [start for start in starts if start not in alarms]
    return [
        (line_id(text, start), line) for start, line in zip(starts, chosen_lines(text, starts), strict=True)
    ]


def lane_ids(reader: SegmentReader, segment: Segment) -> list[tuple[int, bool]]:
    """The ids of a segment, ascending, and whether each is an alarm.

    Raises:
        FileNotFoundError, DamagedSegment: As `SegmentReader.open`.
    """
    return [(record_id, is_alarm(raw)) for record_id, raw in split_lines(reader.raw(segment))]
